"""Where are the keys and values of tokens that a decoder has read? In memory that is there from the start."""

from __future__ import annotations

import torch
from torch import nn

from hwprof.specs.model.spec import ModelSpec


class LayerCache:
    """Keys and values of one layer, each [batch, capacity, kv_heads, head_dim].

    Attributes:
        length: tokens that are in it.
        tensors: all of its memory.
    """

    __slots__ = ("_keys", "_values", "length", "tensors")

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.tensors = self._keys, self._values = keys, values
        self.length = 0

    def with_more(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep more tokens, [batch, tokens, kv_heads, head_dim]; all keys and values that are then there."""
        before, self.length = self.length, self.length + key.shape[1]
        self._keys[:, before : self.length] = key
        self._values[:, before : self.length] = value
        return self._keys[:, : self.length], self._values[:, : self.length]


Cache = tuple[LayerCache, ...]
"""Of a model, layer by layer."""


def empty_cache(spec: ModelSpec, *, batch: int, capacity: int, dtype: torch.dtype, device: torch.device) -> Cache:
    """Room for so many tokens of each sequence."""

    def room() -> torch.Tensor:
        return torch.zeros(batch, capacity, spec.kv_heads, spec.head_dim, dtype=dtype, device=device)

    return tuple(LayerCache(room(), room()) for _ in range(spec.layers))


class Append(nn.Module):
    """Adds to a cache; a module, so that what it takes has a name."""

    def forward(self, kept: LayerCache, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``LayerCache.with_more``."""
        return kept.with_more(key, value)
