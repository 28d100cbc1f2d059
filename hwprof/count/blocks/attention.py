"""Which operations does attention run? Projections, norms of queries and keys, rotary positions, core, output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hwprof.count.blocks.graph import Graph
from hwprof.count.blocks.layer_parameters import BIASED
from hwprof.count.ops.operation import Op
from hwprof.count.ops.position import TANH_FLOP
from hwprof.specs.model.parts import MlaSpec, WindowSpec

BIAS_FLOP = {"alibi": 2, "relative": 1}
"""Positions -> operations a score: distance times slope, and the sum; or the sum alone."""


def window_pairs(seq_len: int, window: WindowSpec) -> int:
    """Twice the pairs of query and key that count, where half of T² pairs count for all that stands before.

    ``sliding``: a band of width w, w·T - w²/2 pairs; ``chunked``: c²/2 in each chunk. In a short sequence
    both are T²/2.
    """
    size = min(window.tokens, seq_len)
    if window.kind == "sliding":
        return 2 * size * seq_len - size * size
    whole, rest = divmod(seq_len, size)
    return whole * size * size + rest * rest


def attention_ops(graph: Graph, *, causal_half: bool) -> Iterator[Op]:
    """Self-attention of every layer, without the norm before it."""
    spec = graph.spec
    yield from _latent_projections(graph, spec.mla) if spec.mla else _projections(graph, "layers.*.attention")
    yield from _rotary(graph)
    cores = tuple(_cores(graph, causal_half=causal_half))
    yield from cores
    yield _output(graph, "layers.*.attention", kept=cores[0].kind == "attention_core")


def cross_attention_ops(graph: Graph) -> Iterator[Op]:
    """Attention of every layer to the encoder's result, of which the layers share one copy."""
    spec, label = graph.spec, "layers.*.cross_attention"
    yield from _projections(graph, label, memory_tokens=graph.batch * graph.memory_len)
    yield graph.layer_op(
        f"{label}.core",
        "attention_core",
        batch=graph.batch,
        seq_len=graph.seq_len,
        key_len=graph.memory_len,
        heads=spec.heads,
        kv_heads=spec.kv_heads,
        head_dim=spec.head_dim,
    )
    yield _output(graph, label, kept=True)


def _projections(graph: Graph, label: str, *, memory_tokens: int | None = None) -> Iterator[Op]:
    """Query, key and value; key and value of the encoder's result if there are ``memory_tokens``."""
    spec, biased = graph.spec, BIASED[graph.spec.attention_bias]
    d, key = spec.d_model, {"tokens": memory_tokens, "input_shared": True}
    yield graph.linear(f"{label}.query", d, spec.q_dim, bias="q" in biased)
    yield graph.linear(f"{label}.key", d, spec.kv_dim, bias="k" in biased, **key)
    yield graph.linear(f"{label}.value", d, spec.kv_dim, bias="v" in biased, **key)
    kind = spec.attention.qk_norm
    if kind == "full":
        yield graph.norm(f"{label}.query_norm", features=spec.q_dim)
        yield graph.norm(f"{label}.key_norm", features=spec.kv_dim)
    elif kind != "none":
        yield graph.norm(f"{label}.query_norm", features=spec.head_dim, rows=spec.heads)
        yield graph.norm(f"{label}.key_norm", features=spec.head_dim, rows=spec.kv_heads)


def _latent_projections(graph: Graph, mla: MlaSpec) -> Iterator[Op]:
    """Down to the narrow vectors and up again to every head (DeepSeek-V2, section 2.1), as training runs it."""
    spec, d, bias = graph.spec, graph.spec.d_model, graph.spec.attention_bias == "all"
    narrow = {"input_bytes": graph.how.precision.compute_bytes}
    if mla.q_lora_rank:
        yield graph.linear("layers.*.attention.query_down", d, mla.q_lora_rank, bias=bias)
        yield graph.norm("layers.*.attention.query_norm", features=mla.q_lora_rank)
        yield graph.linear("layers.*.attention.query", mla.q_lora_rank, spec.q_dim, bias=False, **narrow)
    else:
        yield graph.linear("layers.*.attention.query", d, spec.q_dim, bias=False)
    down = mla.kv_lora_rank + mla.rope_dim
    yield graph.linear("layers.*.attention.kv_down", d, down, bias=bias, input_shared=True)
    norm = graph.norm("layers.*.attention.kv_norm", features=mla.kv_lora_rank)
    copied = graph.how.precision.casts  # else its input is a view of what the product made, which is kept whole
    beside = 0 if copied else graph.tokens * mla.rope_dim * graph.how.precision.compute_bytes
    yield replace(norm, saved_bytes=norm.saved_bytes + beside)
    spanned = spec.heads * (mla.nope_dim + mla.value_dim)
    yield graph.linear("layers.*.attention.kv", mla.kv_lora_rank, spanned, bias=False, **narrow)


def _rotary(graph: Graph) -> Iterator[Op]:
    spec = graph.spec
    turned = spec.layers - spec.attention.nope_layers
    if spec.positions != "rope" or not turned:
        return
    if spec.mla:
        features = (spec.heads + 1) * spec.mla.rope_dim
    else:
        features = (spec.heads + spec.kv_heads) * int(spec.head_dim * spec.attention.rope_fraction)
    shapes = {"tokens": graph.tokens, "features": features}
    yield graph.op("layers.*.attention.rope", "rope", repeats=turned, **shapes)


def _cores(graph: Graph, *, causal_half: bool) -> Iterator[Op]:
    """The core of the layers that attend to everything, and of those that attend to a window."""
    spec, window = graph.spec, graph.spec.attention.window
    whole = spec.layers - spec.window_layers
    if whole:
        yield _core(graph, "layers.*.attention.core", repeats=whole, causal=causal_half)
    if window:
        pairs = window_pairs(graph.seq_len, window)
        label = "layers.*.attention.window_core"
        yield _core(graph, label, repeats=window.layers, causal=causal_half, score_pairs=pairs)


def _core(graph: Graph, label: str, *, repeats: int, **convention: Any) -> Op:
    """Scores, softmax, mixing of values: one kernel, unless it is asked to store scores, or drops out on a CPU."""
    spec = graph.spec
    shapes = {"batch": graph.batch, "seq_len": graph.seq_len, "heads": spec.heads, "head_dim": spec.head_dim}
    plain = not spec.mla and "score_pairs" not in convention
    if graph.how.attention == "materialised":
        return graph.op(
            label,
            "attention_core_scores",
            repeats=repeats,
            **shapes,
            **convention,
            value_dim=spec.value_dim,
            dropout=bool(spec.dropout),
        )
    if graph.how.device == "cpu" and spec.dropout and plain:
        return graph.op(
            label,
            "attention_core_materialised",
            repeats=repeats,
            **shapes,
            **convention,
            dropout=True,
            packed=spec.stock_encoder,
        )
    return graph.op(
        label,
        "attention_core",
        repeats=repeats,
        **shapes,
        **convention,
        kv_heads=spec.kv_heads,
        value_dim=spec.value_dim,
        value_within=spec.mla.nope_dim if spec.mla else 0,
        extra_score_flop=BIAS_FLOP.get(spec.positions, 0) + TANH_FLOP * spec.attention.softcap,
        bias_table=spec.positions == "relative",
    )


def stock_core(graph: Graph) -> Op:
    """The core of ``nn.MultiheadAttention``, whose queries, keys and values are views of one tensor."""
    return _core(graph, "layers.*.self_attn.core", repeats=graph.spec.layers, causal=False)


def _output(graph: Graph, label: str, *, kept: bool) -> Op:
    """The output projection; ``kept`` = the core keeps its result, this projection's input."""
    spec = graph.spec
    return graph.linear(
        f"{label}.output",
        spec.heads * spec.value_dim,
        spec.d_model,
        bias="o" in BIASED[spec.attention_bias],
        input_bytes=graph.how.precision.compute_bytes,
        input_kept=kept,
    )
