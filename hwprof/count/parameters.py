"""Which parameters does a model have? Every weight tensor with its shape; the counts are sums over this table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from hwprof.specs.labels import layer_kind
from hwprof.specs.model import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterTensor:
    """``repeats`` weights of one shape that belong to the operation ``label``."""

    label: str
    shape: tuple[int, ...]
    repeats: int = 1

    @property
    def elements(self) -> int:
        """Elements of one of them."""
        return math.prod(self.shape)

    @property
    def total(self) -> int:
        """Elements of all of them."""
        return self.elements * self.repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCount:
    """Parameters by layer kind; a head that is tied to the embedding is counted there, once."""

    total: int
    embedding: int
    attention: int
    ffn: int
    norm: int
    head: int

    @property
    def non_embedding(self) -> int:
        """All but the token and position tables and the head: N of Kaplan et al. 2020."""
        return self.attention + self.ffn + self.norm

    @property
    def active(self) -> int:
        """Parameters that one token meets: all of them in a dense model."""
        return self.total


def parameter_tensors(spec: ModelSpec) -> tuple[ParameterTensor, ...]:
    """Every weight of the model, shapes as torch stores them ([out, in] for a linear layer)."""
    return tuple(_decoder_tensors(spec) if spec.kind == "decoder" else _encoder_tensors(spec))


def parameters(spec: ModelSpec) -> ParameterCount:
    """How many parameters the model has, by layer kind."""
    counts = dict.fromkeys(("embedding", "attention", "ffn", "norm", "head"), 0)
    for tensor in parameter_tensors(spec):
        counts[layer_kind(tensor.label)] += tensor.total
    return ParameterCount(total=sum(counts.values()), **counts)


def _linear(label: str, out: int, inside: int, repeats: int, *, bias: bool) -> Iterator[ParameterTensor]:
    yield ParameterTensor(label=label, shape=(out, inside), repeats=repeats)
    if bias:
        yield ParameterTensor(label=label, shape=(out,), repeats=repeats)


def _norm(spec: ModelSpec, label: str, repeats: int) -> Iterator[ParameterTensor]:
    """A gain, and for layernorm a bias."""
    for _ in range(2 if spec.norm == "layernorm" else 1):
        yield ParameterTensor(label=label, shape=(spec.d_model,), repeats=repeats)


def _decoder_tensors(spec: ModelSpec) -> Iterator[ParameterTensor]:
    d, layers = spec.d_model, spec.layers
    qkv_bias, output_bias = spec.attention_bias != "none", spec.attention_bias == "all"
    yield ParameterTensor(label="embedding.tokens", shape=(spec.vocab_size, d))
    if spec.positions == "learned":
        yield ParameterTensor(label="embedding.positions", shape=(spec.max_seq_len, d))
    yield from _norm(spec, "layers.*.attention_norm", layers)
    yield from _linear("layers.*.attention.query", spec.q_dim, d, layers, bias=qkv_bias)
    yield from _linear("layers.*.attention.key", spec.kv_dim, d, layers, bias=qkv_bias)
    yield from _linear("layers.*.attention.value", spec.kv_dim, d, layers, bias=qkv_bias)
    yield from _linear("layers.*.attention.output", d, spec.q_dim, layers, bias=output_bias)
    yield from _norm(spec, "layers.*.ffn_norm", layers)
    if spec.gated:
        yield from _linear("layers.*.ffn.gate", spec.d_ff, d, layers, bias=spec.mlp_bias)
    yield from _linear("layers.*.ffn.up", spec.d_ff, d, layers, bias=spec.mlp_bias)
    yield from _linear("layers.*.ffn.down", d, spec.d_ff, layers, bias=spec.mlp_bias)
    if spec.final_norm:
        yield from _norm(spec, "final_norm", 1)
    if not spec.tied_embeddings:
        yield from _linear("head", spec.vocab_size, d, 1, bias=spec.head_bias)
    elif spec.head_bias:
        yield ParameterTensor(label="head", shape=(spec.vocab_size,))


def _encoder_tensors(spec: ModelSpec) -> Iterator[ParameterTensor]:
    d, layers = spec.d_model, spec.layers
    yield ParameterTensor(label="embedding.tokens", shape=(spec.vocab_size, d))
    yield from _linear("layers.*.self_attn.in_proj", 3 * d, d, layers, bias=True)
    yield from _linear("layers.*.self_attn.out_proj", d, d, layers, bias=True)
    yield from _norm(spec, "layers.*.norm1", layers)
    yield from _linear("layers.*.linear1", spec.d_ff, d, layers, bias=True)
    yield from _linear("layers.*.linear2", d, spec.d_ff, layers, bias=True)
    yield from _norm(spec, "layers.*.norm2", layers)
    yield from _linear("head", spec.vocab_size, d, 1, bias=spec.head_bias)
