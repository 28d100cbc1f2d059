"""Which operations does a feed-forward network run? The dense one, and the mixture of experts in its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hwprof.count.blocks.graph import Graph
from hwprof.count.ops.operation import Op
from hwprof.specs.model.parts import MoeSpec


def feed_forward_ops(graph: Graph) -> Iterator[Op]:
    """The feed-forward networks of all layers, without the norm before them."""
    spec = graph.spec
    dense = spec.layers - spec.moe_layers
    if dense:
        shared = spec.block == "parallel_shared_norm"
        yield from _dense(graph, "layers.*.ffn", spec.d_ff, repeats=dense, bias=spec.mlp_bias, input_shared=shared)
    if spec.moe:
        yield from _experts(graph, spec.moe)


def _dense(
    graph: Graph, label: str, width: int, *, repeats: int, bias: bool, input_shared: bool = False
) -> Iterator[Op]:
    """Up (and gate), activation, down; ``input_shared`` = other projections read the same input."""
    spec = graph.spec
    same: dict[str, Any] = {"repeats": repeats, "bias": bias}
    if spec.gated:
        yield graph.linear(f"{label}.gate", spec.d_model, width, input_shared=input_shared, **same)
    yield graph.linear(f"{label}.up", spec.d_model, width, input_shared=input_shared or spec.gated, **same)
    yield _activation(graph, f"{label}.activation", tokens=graph.tokens, width=width, repeats=repeats)
    yield graph.linear(
        f"{label}.down",
        width,
        spec.d_model,
        input_bytes=graph.how.precision.compute_bytes,
        input_kept=spec.activation == "relu" and not spec.gated,  # relu keeps its result
        **same,
    )


def _activation(graph: Graph, label: str, *, tokens: int, width: int, repeats: int) -> Op:
    kind = "gated_activation" if graph.spec.gated else "activation"
    shapes = {"tokens": tokens, "features": width, "function": graph.spec.activation}
    return graph.op(label, kind, repeats=repeats, **shapes)


def _experts(graph: Graph, moe: MoeSpec) -> Iterator[Op]:
    """Router, the routed experts over ``top_k`` rows a token, the shared experts over all tokens."""
    spec, repeats = graph.spec, graph.spec.moe_layers
    d, same = spec.d_model, {"tokens": graph.tokens, "top_k": moe.top_k, "repeats": repeats}
    bias = moe.router_bias == "parameter"
    yield graph.linear("layers.*.moe.router", d, moe.experts, bias=bias, repeats=repeats)
    yield graph.op("layers.*.moe.routing", "routing", experts=moe.experts, **same)
    yield graph.op("layers.*.moe.dispatch", "expert_dispatch", features=d, **same)
    yield from _routed(graph, moe)
    yield graph.op("layers.*.moe.combine", "expert_combine", features=d, **same)
    if not moe.shared_ff:
        return
    yield from _dense(graph, "layers.*.moe.shared", moe.shared_ff, repeats=repeats, bias=False, input_shared=True)
    if moe.shared_gate:
        yield graph.linear("layers.*.moe.shared.switch", d, 1, bias=False, repeats=repeats, input_shared=True)
    shapes = {"tokens": graph.tokens, "features": d, "scaled": moe.shared_gate}
    yield graph.op("layers.*.moe.shared.sum", "scaled_sum", repeats=repeats, **shapes)


def _routed(graph: Graph, moe: MoeSpec) -> Iterator[Op]:
    spec, rows, repeats = graph.spec, graph.tokens * moe.top_k, graph.spec.moe_layers
    d, ff = spec.d_model, moe.expert_ff
    same: dict[str, Any] = {"rows": rows, "experts": moe.experts, "bias": moe.expert_bias, "repeats": repeats}
    if spec.gated:
        shapes = {"in_features": d, "out_features": ff}
        yield graph.op("layers.*.moe.experts.gate", "expert_linear", **shapes, **same)
    shapes = {"in_features": d, "out_features": ff}
    yield graph.op("layers.*.moe.experts.up", "expert_linear", **shapes, **same, input_kept=spec.gated)
    yield _activation(graph, "layers.*.moe.experts.activation", tokens=rows, width=ff, repeats=repeats)
    shapes = {"in_features": ff, "out_features": d}
    yield graph.op("layers.*.moe.experts.down", "expert_linear", **shapes, **same)
