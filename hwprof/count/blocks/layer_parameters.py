"""Which weights does a stack of layers have? Norms, attention in its forms, dense and routed feed-forward networks."""

from __future__ import annotations

from collections.abc import Iterator

from hwprof.count.ops.parameter_tensor import ParameterTensor
from hwprof.specs.model.parts import MlaSpec, MoeSpec
from hwprof.specs.model.spec import ModelSpec

BIASED = {"none": "", "qkv": "qkv", "qvo": "qvo", "all": "qkvo"}
"""Attention biases of a spec -> which of the query, key, value and output projections have one."""


def linear(label: str, out: int, inside: int, repeats: int, *, bias: bool) -> Iterator[ParameterTensor]:
    """Weight [out, in] of a linear layer, and bias [out] if it has one."""
    yield ParameterTensor(label=label, shape=(out, inside), repeats=repeats)
    if bias:
        yield ParameterTensor(label=label, shape=(out,), repeats=repeats)


def norm(spec: ModelSpec, label: str, repeats: int, features: int | None = None) -> Iterator[ParameterTensor]:
    """A gain, and for layernorm a bias, as far as the model's norms have them."""
    tensors = {"all": 2 if spec.norm == "layernorm" else 1, "gain": 1, "none": 0}[spec.norm_weights]
    for _ in range(tensors):
        yield ParameterTensor(label=label, shape=(features or spec.d_model,), repeats=repeats)


def layer_tensors(spec: ModelSpec, *, cross: bool = False) -> Iterator[ParameterTensor]:
    """Weights of all layers; ``cross`` = they also attend to an encoder's result."""
    yield from norm(spec, "layers.*.attention_norm", spec.layers)
    if spec.norm_placement == "sandwich":
        yield from norm(spec, "layers.*.attention_post_norm", spec.layers)
    yield from _latent_attention(spec, spec.mla) if spec.mla else _attention(spec, "layers.*.attention")
    if spec.attention.sinks:
        whole, local = spec.layers - spec.window_layers, spec.window_layers
        for label, repeats in (("core", whole), ("window_core", local)):
            if repeats:
                yield ParameterTensor(label=f"layers.*.attention.{label}", shape=(spec.heads,), repeats=repeats)
    if cross:
        yield from norm(spec, "layers.*.cross_attention_norm", spec.layers)
        yield from _attention(spec, "layers.*.cross_attention")
    if spec.block != "parallel_shared_norm":
        yield from norm(spec, "layers.*.ffn_norm", spec.layers)
    if spec.norm_placement == "sandwich":
        yield from norm(spec, "layers.*.ffn_post_norm", spec.layers)
    yield from _feed_forward(spec, "layers.*.ffn", spec.d_ff, spec.layers - spec.moe_layers, bias=spec.mlp_bias)
    if spec.moe is not None:
        yield from _experts(spec, spec.moe)


def _attention(spec: ModelSpec, label: str) -> Iterator[ParameterTensor]:
    d, layers, biased = spec.d_model, spec.layers, BIASED[spec.attention_bias]
    yield from linear(f"{label}.query", spec.q_dim, d, layers, bias="q" in biased)
    yield from linear(f"{label}.key", spec.kv_dim, d, layers, bias="k" in biased)
    yield from linear(f"{label}.value", spec.kv_dim, d, layers, bias="v" in biased)
    if spec.attention.qk_norm in {"head", "full"}:
        whole = spec.attention.qk_norm == "full"
        yield from norm(spec, f"{label}.query_norm", layers, spec.q_dim if whole else spec.head_dim)
        yield from norm(spec, f"{label}.key_norm", layers, spec.kv_dim if whole else spec.head_dim)
    yield from linear(f"{label}.output", d, spec.q_dim, layers, bias="o" in biased)


def _latent_attention(spec: ModelSpec, mla: MlaSpec) -> Iterator[ParameterTensor]:
    """DeepSeek-V2, section 2.1; biases, where there are any, on the narrowing and the output projections."""
    d, layers, bias = spec.d_model, spec.layers, spec.attention_bias == "all"
    if mla.q_lora_rank:
        yield from linear("layers.*.attention.query_down", mla.q_lora_rank, d, layers, bias=bias)
        yield from norm(spec, "layers.*.attention.query_norm", layers, mla.q_lora_rank)
        yield from linear("layers.*.attention.query", spec.q_dim, mla.q_lora_rank, layers, bias=False)
    else:
        yield from linear("layers.*.attention.query", spec.q_dim, d, layers, bias=False)
    yield from linear("layers.*.attention.kv_down", mla.kv_lora_rank + mla.rope_dim, d, layers, bias=bias)
    yield from norm(spec, "layers.*.attention.kv_norm", layers, mla.kv_lora_rank)
    spanned = spec.heads * (mla.nope_dim + mla.value_dim)
    yield from linear("layers.*.attention.kv", spanned, mla.kv_lora_rank, layers, bias=False)
    yield from linear("layers.*.attention.output", d, spec.heads * mla.value_dim, layers, bias=bias)


def _feed_forward(spec: ModelSpec, label: str, width: int, layers: int, *, bias: bool) -> Iterator[ParameterTensor]:
    if not width or not layers:
        return
    if spec.gated:
        yield from linear(f"{label}.gate", width, spec.d_model, layers, bias=bias)
    yield from linear(f"{label}.up", width, spec.d_model, layers, bias=bias)
    yield from linear(f"{label}.down", spec.d_model, width, layers, bias=bias)


def _experts(spec: ModelSpec, moe: MoeSpec) -> Iterator[ParameterTensor]:
    d, layers = spec.d_model, spec.moe_layers
    yield from linear("layers.*.moe.router", moe.experts, d, layers, bias=moe.router_bias == "parameter")
    for name in ("gate", "up", "down") if spec.gated else ("up", "down"):
        out, inside = (d, moe.expert_ff) if name == "down" else (moe.expert_ff, d)
        shapes = [(moe.experts, out, inside), (moe.experts, out)] if moe.expert_bias else [(moe.experts, out, inside)]
        for shape in shapes:
            yield ParameterTensor(
                label=f"layers.*.moe.experts.{name}", shape=shape, repeats=layers, experts=moe.experts, top_k=moe.top_k
            )
    yield from _feed_forward(spec, "layers.*.moe.shared", moe.shared_ff, layers, bias=False)
    if moe.shared_gate:
        yield from linear("layers.*.moe.shared.switch", 1, d, layers, bias=False)
