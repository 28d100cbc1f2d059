"""What is the bidirectional encoder that a ModelSpec describes? Stock torch layers between embedding and head."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from torch import nn

from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import Recompute
from hwprof.train.embedding import Embedding
from hwprof.train.initial import draw_weights
from hwprof.train.recompute import layer_runner

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}
"""Stock layers use the exact GELU."""


class Encoder(nn.Module):
    """Embedding, post-norm ``nn.TransformerEncoderLayer`` stack, linear head; fp32 weights on the default device.

    Args:
        spec: dimensions, of kind "encoder".
        recompute: what of the layers' activations is computed again in the backward pass.
    """

    def __init__(self, spec: ModelSpec, *, recompute: Recompute = "none") -> None:
        super().__init__()
        assert spec.kind == "encoder"
        self.embedding = Embedding(spec)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                spec.d_model,
                spec.heads,
                dim_feedforward=spec.d_ff,
                dropout=spec.dropout,
                activation=_ACTIVATIONS[spec.activation],
                batch_first=True,
            )
            for _ in range(spec.layers)
        )
        self.head = nn.Linear(spec.d_model, spec.vocab_size, bias=spec.head_bias)
        self._run_layer = layer_runner(recompute, draws_random=spec.dropout > 0)
        draw_weights(self, spec, torch.initial_seed())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids, int64 [batch, seq] -> logits of the token at each place [batch, seq, vocab_size]."""
        vectors = self.embedding(tokens)
        for layer in self.layers:
            vectors = self._run_layer(layer, vectors)
        logits: torch.Tensor = self.head(vectors)
        return logits
