"""Which operations does a decoder run? The causal language model of the training loop, op by op."""

from __future__ import annotations

from collections.abc import Iterator

from hwprof.count.graph import Graph
from hwprof.count.op import Op


def decoder_ops(graph: Graph, *, causal_half: bool) -> Iterator[Op]:
    """Embedding, ``layers`` times (attention, feed-forward), final norm, head, in the order in which they run.

    Both residual additions of a layer bear one label and are one op.

    Args:
        graph: the model and the shape of a micro-batch.
        causal_half: count half of the attention products, those at and below the diagonal.
    """
    spec = graph.spec
    pre = spec.norm_placement == "pre"
    yield from graph.embedding()
    if pre:
        yield _norm(graph, "layers.*.attention_norm", spec.layers)
    yield from _attention(graph, causal_half=causal_half)
    yield from graph.dropout("layers.*.dropout1", spec.d_model)
    yield _norm(graph, "layers.*.ffn_norm" if pre else "layers.*.attention_norm", spec.layers)
    yield from _ffn(graph)
    yield from graph.dropout("layers.*.dropout2", spec.d_model)
    yield graph.residuals()
    if not pre:
        yield _norm(graph, "layers.*.ffn_norm", spec.layers)
    if spec.final_norm:
        yield _norm(graph, "final_norm", 1)
    yield graph.linear("head", spec.d_model, spec.vocab_size, bias=spec.head_bias)


def _norm(graph: Graph, label: str, repeats: int) -> Op:
    return graph.op(label, graph.spec.norm, repeats=repeats, tokens=graph.tokens, features=graph.spec.d_model)


def _attention(graph: Graph, *, causal_half: bool) -> Iterator[Op]:
    spec = graph.spec
    bias = spec.attention_bias != "none"
    yield graph.linear("layers.*.attention.query", spec.d_model, spec.q_dim, bias=bias)
    yield graph.linear("layers.*.attention.key", spec.d_model, spec.kv_dim, bias=bias, input_shared=True)
    yield graph.linear("layers.*.attention.value", spec.d_model, spec.kv_dim, bias=bias, input_shared=True)
    if spec.positions == "rope":
        yield graph.layer_op("layers.*.attention.rope", "rope", tokens=graph.tokens, features=spec.q_dim + spec.kv_dim)
    core = graph.attention_core("layers.*.attention.core", causal_half=causal_half)
    yield core
    yield graph.linear(
        "layers.*.attention.output",
        spec.q_dim,
        spec.d_model,
        bias=spec.attention_bias == "all",
        input_bytes=graph.how.precision.compute_bytes,
        input_kept=core.kind == "attention_core",  # which keeps its result
    )


def _ffn(graph: Graph) -> Iterator[Op]:
    spec = graph.spec
    if spec.gated:
        yield graph.linear("layers.*.ffn.gate", spec.d_model, spec.d_ff, bias=spec.mlp_bias)
    yield graph.linear("layers.*.ffn.up", spec.d_model, spec.d_ff, bias=spec.mlp_bias, input_shared=spec.gated)
    yield graph.layer_op(
        "layers.*.ffn.activation",
        "gated_activation" if spec.gated else "activation",
        tokens=graph.tokens,
        features=spec.d_ff,
        function=spec.activation,
    )
    yield graph.linear(
        "layers.*.ffn.down",
        spec.d_ff,
        spec.d_model,
        bias=spec.mlp_bias,
        input_bytes=graph.how.precision.compute_bytes,
        input_kept=spec.activation == "relu" and not spec.gated,  # relu keeps its result
    )
