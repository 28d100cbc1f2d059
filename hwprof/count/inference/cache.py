"""How large is the key-value cache, and how much of it does a decode step read? Stored and read are told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hwprof.count.inference.serving import CACHE_BYTES, CacheDtype, MlaForm
from hwprof.specs.model.parts import WindowSpec
from hwprof.specs.model.spec import ModelSpec


class Keys(NamedTuple):
    """How many keys a token attends to, itself among them.

    Attributes:
        full: in layers that attend to all that stands before it.
        window: in layers that attend to a window.
    """

    full: int
    window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KvCache:
    """Bytes of keys and values of a batch, as stored.

    Attributes:
        full_bytes: of layers that attend to everything; they grow with the context.
        window_bytes: of layers that attend to a window; they grow until it is full.
        cross_bytes: of an encoder's result, in every layer of the decoder; they don't grow.
        state_bytes: of convolutions and recurrences, which don't grow either.
    """

    full_bytes: int
    window_bytes: int
    cross_bytes: int
    state_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.full_bytes + self.window_bytes + self.cross_bytes + self.state_bytes


def kept_features(spec: ModelSpec, mla: MlaForm = "absorbed") -> int:
    """Numbers that one layer caches for one token.

    Keys and values of ``kv_heads`` heads (all heads, groups or one: Vaswani 2017, Ainslie 2023, Shazeer 2019); with
    latent attention the narrow vector and the shared rotary key (DeepSeek-V2, section 2.1.2).
    """
    if spec.mla and mla != "naive":
        return spec.mla.kv_lora_rank + spec.mla.rope_dim
    return spec.kv_heads * (spec.head_dim + spec.value_dim)


def kv_cache(
    spec: ModelSpec,
    *,
    batch_size: int,
    context_tokens: int,
    dtype: CacheDtype,
    mla: MlaForm = "absorbed",
    source_tokens: int = 0,
) -> KvCache:
    """The cache of ``batch_size`` sequences of ``context_tokens`` tokens; nothing in a model that does not generate.

    Layers with a window of w tokens store min(context, w) of them, as a rolling buffer does (Mistral 7B, Jiang et al.
    2023, section 2). ``source_tokens`` are those of an encoder-decoder's encoder.
    """
    if not spec.causal:
        return KvCache(full_bytes=0, window_bytes=0, cross_bytes=0)
    token_bytes = batch_size * kept_features(spec, mla) * CACHE_BYTES[dtype]
    window = spec.attention.window
    in_window = min(context_tokens, window.tokens) if window else 0
    return KvCache(
        full_bytes=(spec.layers - spec.window_layers) * context_tokens * token_bytes,
        window_bytes=spec.window_layers * in_window * token_bytes,
        cross_bytes=spec.layers * source_tokens * token_bytes,
    )


def visible_keys(spec: ModelSpec, length: int) -> Keys:
    """What the last of ``length`` tokens attends to."""
    return visible_keys_over(spec, length, 1)


def visible_keys_over(spec: ModelSpec, first_length: int, steps: int) -> Keys:
    """The same, summed over sequences of ``first_length``, ``first_length`` + 1, ... tokens, ``steps`` in all.

    Closed form: the sum from 1 to n is n·(n+1)/2 in full attention; with a window of w, w·(w+1)/2 + (n-w)·w if it
    slides, and of whole chunks and a rest if it is chunked.
    """
    before, last, window = first_length - 1, first_length - 1 + steps, spec.attention.window
    in_window = _keys_up_to(last, window) - _keys_up_to(before, window) if window else 0
    return Keys(full=_triangle(last) - _triangle(before), window=in_window)


def _keys_up_to(length: int, window: WindowSpec) -> int:
    size = window.tokens
    if window.kind == "chunked":
        chunks, rest = divmod(length, size)
        return chunks * _triangle(size) + _triangle(rest)
    filled = min(length, size)
    return _triangle(filled) + (length - filled) * size


def _triangle(length: int) -> int:
    return length * (length + 1) // 2
