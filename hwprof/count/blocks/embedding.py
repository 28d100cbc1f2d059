"""Which operations turn tokens, an image or a spectrogram into the first vectors of the residual stream?"""

from __future__ import annotations

from collections.abc import Iterator

from hwprof.count.blocks.graph import Graph
from hwprof.count.ops.operation import Op
from hwprof.specs.model.parts import VisionSpec

KERNEL = 3
"""Width of Whisper's two convolutions; the second moves by two frames."""


def embedding_ops(graph: Graph, *, mel_bins: int = 0) -> Iterator[Op]:
    """Vectors of the input, positions, segments, norm, dropout; each as far as the model has it.

    Args:
        graph: the model, or a side of it.
        mel_bins: channels of the spectrogram that it reads in place of tokens; it has two frames a position.
    """
    spec = graph.spec
    if mel_bins:
        yield from _spectrogram(graph, mel_bins)
    elif spec.vision:
        yield from _image(graph, spec.vision)
    else:
        yield from _tokens(graph)
    yield from _positions(graph)
    if spec.embedding.token_types and not mel_bins:
        rows = spec.embedding.token_types
        shapes = {"tokens": graph.tokens, "features": spec.d_model, "rows": rows}
        yield graph.op("embedding.token_types", "added_rows", **shapes)
    if spec.embedding.norm:
        yield graph.norm("embedding_norm")
    yield from graph.dropout("embedding.dropout", spec.d_model, element_bytes=graph.how.precision.residual_bytes)


def _tokens(graph: Graph) -> Iterator[Op]:
    spec = graph.spec
    size = spec.embedding.size or spec.d_model
    shapes = {"tokens": graph.tokens, "features": size, "rows": spec.vocab_size, "tied": spec.tied_embeddings}
    yield graph.op("embedding.tokens", "embedding", **shapes)
    if spec.embedding.size:
        yield graph.linear("embedding.projection", size, spec.d_model, bias=False)


def _image(graph: Graph, image: VisionSpec) -> Iterator[Op]:
    pixels = image.channels * image.patch_size**2
    yield graph.op(
        "embedding.patches",
        "convolution",
        tokens=graph.batch * image.patches,
        in_features=pixels,
        out_features=graph.spec.d_model,
        input_elements=graph.batch * image.channels * image.image_size**2,
        input_gradient=False,
    )
    if image.class_tokens:
        shapes = {"tokens": graph.batch * image.class_tokens, "features": graph.spec.d_model}
        yield graph.op("embedding.class_tokens", "added_rows", **shapes, rows=image.class_tokens)


def _spectrogram(graph: Graph, mel_bins: int) -> Iterator[Op]:
    d, frames = graph.spec.d_model, 2 * graph.tokens
    for label, tokens, channels in (("conv1", frames, mel_bins), ("conv2", graph.tokens, d)):
        yield graph.op(
            f"embedding.{label}",
            "convolution",
            tokens=tokens,
            in_features=KERNEL * channels,
            out_features=d,
            input_elements=frames * channels,
            input_gradient=label == "conv2",
        )
        yield graph.op(f"embedding.{label}_activation", "activation", tokens=tokens, features=d, function="gelu")


def _positions(graph: Graph) -> Iterator[Op]:
    spec, d = graph.spec, graph.spec.d_model
    if spec.positions == "learned":
        rows = spec.max_seq_len + spec.embedding.extra_positions
        shapes = {"tokens": graph.seq_len, "features": d, "rows": rows, "added_to": graph.tokens * d}
        yield graph.op("embedding.positions", "embedding", **shapes)
    elif spec.positions == "sinusoidal":
        yield graph.op("embedding.positions", "fixed_table", tokens=graph.tokens, features=d)
    elif spec.positions == "relative":
        yield graph.op(
            "embedding.relative_positions",
            "relative_bias",
            queries=graph.seq_len,
            keys=graph.seq_len,
            heads=spec.heads,
            buckets=spec.attention.relative_buckets,
        )
