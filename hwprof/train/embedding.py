"""How do token ids become vectors?"""

from __future__ import annotations

import torch
from torch import nn

from hwprof.specs.model.spec import ModelSpec


class Embedding(nn.Module):
    """Token vectors, plus learned position vectors where the spec has them, plus dropout where it is above zero."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.tokens = nn.Embedding(spec.vocab_size, spec.d_model)
        self.positions = nn.Embedding(spec.max_seq_len, spec.d_model) if spec.positions == "learned" else None
        self.dropout = nn.Dropout(spec.dropout) if spec.dropout > 0 else None

    def forward(self, tokens: torch.Tensor, start: int = 0) -> torch.Tensor:
        """Token ids [batch, seq], the first of them at position ``start`` -> vectors [batch, seq, d_model]."""
        vectors: torch.Tensor = self.tokens(tokens)
        if self.positions is not None:
            vectors = vectors + self.positions(torch.arange(start, start + tokens.shape[1], device=tokens.device))
        return vectors if self.dropout is None else self.dropout(vectors)
