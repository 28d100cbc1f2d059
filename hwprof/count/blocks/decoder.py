"""Which operations does a model of our general layers run? Decoders, BERT, vision Transformers, encoder-decoders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hwprof.count.blocks.attention import attention_ops, cross_attention_ops
from hwprof.count.blocks.embedding import embedding_ops
from hwprof.count.blocks.feed_forward import feed_forward_ops
from hwprof.count.blocks.graph import Graph
from hwprof.count.blocks.head import head_ops
from hwprof.count.blocks.parameters import ENCODER, MTP, mtp_stack
from hwprof.count.ops.operation import Op


def decoder_ops(graph: Graph, *, causal_half: bool) -> Iterator[Op]:
    """Embedding, ``layers`` times (attention, feed-forward), final norm, head, in the order in which they run.

    All residual additions of a layer bear one label and are one op.

    Args:
        graph: the model and the shape of a micro-batch.
        causal_half: count half of the attention products, those at and below the diagonal.
    """
    yield from embedding_ops(graph)
    yield from _layer_ops(graph, causal_half=causal_half)
    yield from head_ops(graph)
    if graph.spec.mtp_layers:
        yield from _mtp_ops(graph, causal_half=causal_half)


def encoder_decoder_ops(graph: Graph, *, source_len: int, causal_half: bool) -> Iterator[Op]:
    """The encoder over ``source_len`` tokens, its attention never halved; then the decoder, which attends to it."""
    assert graph.spec.encoder is not None
    encoder = replace(graph, spec=graph.spec.encoder_side, seq_len=source_len, prefix=ENCODER)
    yield from embedding_ops(encoder, mel_bins=graph.spec.encoder.mel_bins)
    yield from _layer_ops(encoder, causal_half=False)
    yield from head_ops(encoder)
    yield from decoder_ops(replace(graph, memory_len=source_len), causal_half=causal_half)


def _layer_ops(graph: Graph, *, causal_half: bool) -> Iterator[Op]:
    spec = graph.spec
    attention = (
        *attention_ops(graph, causal_half=causal_half),
        *graph.dropout("layers.*.dropout1", spec.d_model),
    )
    ffn = (*feed_forward_ops(graph), *graph.dropout("layers.*.dropout2", spec.d_model))
    if spec.block != "sequential":
        yield graph.norm("layers.*.attention_norm")
        yield from attention
        if spec.block == "parallel":
            yield graph.norm("layers.*.ffn_norm")
        yield from ffn
        yield graph.residuals()
        return
    yield from _with_norms(graph, "attention", attention)
    if graph.memory_len:
        cross = (*cross_attention_ops(graph), *graph.dropout("layers.*.dropout3", spec.d_model))
        yield from _with_norms(graph, "cross_attention", cross)
    *before_last_norm, last = _with_norms(graph, "ffn", ffn)
    if spec.norm_placement == "post":
        yield from before_last_norm
        yield graph.residuals()
        yield last
    else:
        yield from (*before_last_norm, last)
        yield graph.residuals()


def _with_norms(graph: Graph, block: str, ops: tuple[Op, ...]) -> Iterator[Op]:
    """A block's operations with its norm before or after them, or with both of its norms."""
    placement = graph.spec.norm_placement
    norm = graph.norm(f"layers.*.{block}_norm")
    if placement in {"pre", "sandwich"}:
        yield norm
    yield from ops
    if placement == "sandwich":
        yield graph.norm(f"layers.*.{block}_post_norm")
    elif placement != "pre":
        yield norm


def _mtp_ops(graph: Graph, *, causal_half: bool) -> Iterator[Op]:
    """Further predictions (DeepSeek-V3, section 2.2): each joins the stream and the next token's vector, runs a layer.

    Embedding and head are the model's own, run once more. Each counts all tokens, though the last have no target.
    """
    times, d = graph.spec.mtp_layers, graph.spec.d_model
    part = replace(graph, spec=mtp_stack(graph.spec), prefix=MTP)
    shapes = {"tokens": graph.tokens, "features": d, "rows": graph.spec.vocab_size, "tied": True}
    yield part.op("embedding.tokens", "embedding", repeats=times, **shapes)
    yield part.norm("token_norm", repeats=times)
    yield part.norm("state_norm", repeats=times)
    yield part.linear("projection", 2 * d, d, bias=False, repeats=times)
    yield from _layer_ops(part, causal_half=causal_half)
    yield part.norm("final_norm", repeats=times)
    yield part.linear("head", d, graph.spec.vocab_size, bias=graph.spec.head_bias, repeats=times)
