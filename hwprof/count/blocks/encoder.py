"""Which operations does an encoder run? An embedding, stock post-norm ``nn.TransformerEncoderLayer``s and a head."""

from __future__ import annotations

from collections.abc import Iterator

from hwprof.count.blocks.attention import stock_core
from hwprof.count.blocks.embedding import embedding_ops
from hwprof.count.blocks.graph import Graph
from hwprof.count.ops.operation import Op


def encoder_ops(graph: Graph) -> Iterator[Op]:
    """Embedding, ``layers`` times (self-attention, feed-forward), head, in the order in which they run.

    Both residual additions of a layer bear one label and are one op. The stock attention copies its input to
    [sequence, batch, features] order, and the core's result too, unless (flash on a CPU) it comes out that way.
    """
    spec = graph.spec
    d, ff, narrow = spec.d_model, spec.d_ff, graph.how.precision.compute_bytes
    yield from embedding_ops(graph)
    yield graph.linear("layers.*.self_attn.in_proj", d, 3 * d, bias=True)
    core = stock_core(graph)
    yield core
    kept = graph.how.device == "cpu" and core.kind == "attention_core"
    yield graph.linear("layers.*.self_attn.out_proj", d, d, bias=True, input_bytes=narrow, input_kept=kept)
    yield from graph.dropout("layers.*.dropout1", d)
    yield graph.layer_op("layers.*.norm1", "layernorm", tokens=graph.tokens, features=d)
    yield graph.linear("layers.*.linear1", d, ff, bias=True)
    yield graph.layer_op(
        "layers.*.activation", "activation", tokens=graph.tokens, features=ff, function=spec.activation
    )
    yield from graph.dropout("layers.*.dropout", ff)
    relu_result = spec.activation == "relu" and not spec.dropout
    yield graph.linear("layers.*.linear2", ff, d, bias=True, input_bytes=narrow, input_kept=relu_result)
    yield from graph.dropout("layers.*.dropout2", d)
    yield graph.residuals()
    yield graph.layer_op("layers.*.norm2", "layernorm", tokens=graph.tokens, features=d)
    yield graph.linear("head", d, spec.vocab_size, bias=spec.head_bias)
