"""What is the causal language model that a ModelSpec describes, as a torch module?

Module names are a contract: the recorder books kernels by module path, and the op table uses the same names
(``hwprof.specs.job.labels``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from hwprof.specs.job.settings import Recompute
from hwprof.specs.model.spec import ModelSpec
from hwprof.train.attention import Attention, rotary_tables
from hwprof.train.cache import Cache, LayerCache
from hwprof.train.embedding import Embedding
from hwprof.train.feed_forward import feed_forward
from hwprof.train.initial import draw_weights
from hwprof.train.recompute import layer_runner

_NORM_EPS = 1e-5
"""Of GPT-2 and LLaMA."""


def _norm(spec: ModelSpec) -> nn.Module:
    kind = nn.LayerNorm if spec.norm == "layernorm" else nn.RMSNorm
    return kind(spec.d_model, eps=_NORM_EPS)


class DecoderLayer(nn.Module):
    """Attention and feed-forward network, each with a norm before it or after its residual sum."""

    def __init__(self, spec: ModelSpec, tables: tuple[torch.Tensor, torch.Tensor] | None) -> None:
        super().__init__()
        self.pre_norm = spec.norm_placement == "pre"
        self.attention_norm = _norm(spec)
        self.attention = Attention(spec, tables)
        self.dropout1 = nn.Dropout(spec.dropout) if spec.dropout > 0 else None
        self.ffn_norm = _norm(spec)
        self.ffn = feed_forward(spec)
        self.dropout2 = nn.Dropout(spec.dropout) if spec.dropout > 0 else None

    def forward(self, vectors: torch.Tensor, kept: LayerCache | None = None) -> torch.Tensor:
        """Vectors [batch, seq, d_model] -> same shape."""
        attention = self.attention if kept is None else partial(self.attention, kept=kept)
        vectors = self._residual(vectors, self.attention_norm, attention, self.dropout1)
        return self._residual(vectors, self.ffn_norm, self.ffn, self.dropout2)

    def _residual(
        self,
        vectors: torch.Tensor,
        norm: nn.Module,
        block: Callable[[torch.Tensor], torch.Tensor],
        dropout: nn.Module | None,
    ) -> torch.Tensor:
        change = block(norm(vectors)) if self.pre_norm else block(vectors)
        total: torch.Tensor = vectors + (change if dropout is None else dropout(change))
        return total if self.pre_norm else norm(total)


class Decoder(nn.Module):
    """A decoder-only causal language model with fp32 weights on the default device.

    Weights start as ``hwprof.train.initial`` says, from torch's present seed.

    Args:
        spec: dimensions, of kind "decoder".
        recompute: what of the layers' activations is computed again in the backward pass.
    """

    def __init__(self, spec: ModelSpec, *, recompute: Recompute = "none") -> None:
        super().__init__()
        assert spec.kind == "decoder"
        tables = rotary_tables(spec) if spec.positions == "rope" else None  # one pair of tables for all layers
        self.embedding = Embedding(spec)
        self.layers = nn.ModuleList(DecoderLayer(spec, tables) for _ in range(spec.layers))
        self.final_norm = _norm(spec) if spec.final_norm else None
        self.head = nn.Linear(spec.d_model, spec.vocab_size, bias=spec.head_bias)
        if spec.tied_embeddings:
            self.head.weight = self.embedding.tokens.weight
        self._run_layer = layer_runner(recompute, draws_random=spec.dropout > 0)
        draw_weights(self, spec, torch.initial_seed())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token ids, int64 [batch, seq] -> logits of the next token [batch, seq, vocab_size]."""
        vectors = self.embedding(tokens)
        for layer in self.layers:
            vectors = self._run_layer(layer, vectors)
        return self._logits(vectors)

    def generate(self, tokens: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Ids of tokens after those in the cache, [batch, seq] -> logits after the last one [batch, 1, vocab_size]."""
        vectors = self.embedding(tokens, cache[0].length)
        for layer, kept in zip(self.layers, cache, strict=True):
            vectors = layer(vectors, kept)
        return self._logits(vectors[:, -1:])

    def _logits(self, vectors: torch.Tensor) -> torch.Tensor:
        if self.final_norm is not None:
            vectors = self.final_norm(vectors)
        logits: torch.Tensor = self.head(vectors)
        return logits
