"""How do token ids become vectors, and how do weights start?"""

from __future__ import annotations

import math

import torch
from torch import nn

from hwprof.specs.model import ModelSpec

_LARGEST_INITIAL_STD = 0.02
"""Of GPT-2 (Radford et al. 2019); wide models start smaller, see ``initial_std``."""


class Embedding(nn.Module):
    """Token vectors, plus learned position vectors where the spec has them, plus dropout where it is above zero."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.tokens = nn.Embedding(spec.vocab_size, spec.d_model)
        self.positions = nn.Embedding(spec.max_seq_len, spec.d_model) if spec.positions == "learned" else None
        self.dropout = nn.Dropout(spec.dropout) if spec.dropout > 0 else None

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids [batch, seq] -> vectors [batch, seq, d_model]."""
        vectors: torch.Tensor = self.tokens(tokens)
        if self.positions is not None:
            vectors = vectors + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        return vectors if self.dropout is None else self.dropout(vectors)


def initial_std(d_model: int) -> float:
    """Standard deviation of fresh weights: 0.02, or sqrt(2 / (5 d_model)) where that is smaller.

    The second is SmallInit (Nguyen & Salazar 2019, section 2.2). It keeps the variance of the first logits of a wide
    model at 0.4 or less, so that the loss starts near ln(vocab_size).
    """
    return min(_LARGEST_INITIAL_STD, math.sqrt(2 / (5 * d_model)))


def initialise(module: nn.Module, std: float) -> None:
    """Draw the weights of every linear layer and embedding inside ``module`` from normal(0, std); biases to zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
