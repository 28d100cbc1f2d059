"""Which operations follow the last layer? The final norm, a pooler, the head in its kinds, further predictions."""

from __future__ import annotations

from collections.abc import Iterator

from hwprof.count.blocks.graph import Graph
from hwprof.count.ops.operation import Op


def head_ops(graph: Graph) -> Iterator[Op]:
    """Final norm, pooler and head, each as far as the model has it."""
    spec, d = graph.spec, graph.spec.d_model
    if spec.final_norm:
        yield graph.norm("final_norm")
    if spec.head.pooler:
        yield graph.linear("pooler", d, d, bias=True, tokens=graph.batch)
        yield graph.op("pooler.activation", "tanh", tokens=graph.batch, features=d)
    if spec.head.classes:
        rows, width = logits_shape(graph)
        yield graph.linear("head", d, width, bias=spec.head.bias, tokens=rows)
    elif spec.head.kind != "none":
        yield from _vocabulary_ops(graph)


def logits_shape(graph: Graph) -> tuple[int, int]:
    """Rows and width of the logits; no rows where there is no head."""
    spec = graph.spec
    if spec.head.classes:
        return (graph.batch if spec.head.kind == "classifier" else graph.tokens), spec.head.classes
    return (0 if spec.head.kind == "none" else graph.tokens), spec.vocab_size


def _vocabulary_ops(graph: Graph) -> Iterator[Op]:
    spec, d = graph.spec, graph.spec.d_model
    size = spec.embedding.size or d
    if spec.head.kind == "masked_lm":
        yield graph.linear("head.transform", d, d, bias=True)
        function = spec.activation
        yield graph.op("head.activation", "activation", tokens=graph.tokens, features=d, function=function)
        yield graph.norm("head.norm")
    if spec.embedding.size:
        yield graph.linear("head.projection", d, size, bias=False)
    yield graph.linear("head", size, spec.vocab_size, bias=spec.head_bias)
    if spec.head.softcap:
        yield graph.op("head.softcap", "tanh", tokens=graph.tokens, features=spec.vocab_size, capped=True)
