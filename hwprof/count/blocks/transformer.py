"""What does a Transformer cost? Its operations, for one micro-batch or one whole training step, and its shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

from hwprof.count.blocks.captured import captured_model_ops
from hwprof.count.blocks.decoder import decoder_ops, encoder_decoder_ops
from hwprof.count.blocks.encoder import encoder_ops
from hwprof.count.blocks.fusing import fused_ops
from hwprof.count.blocks.graph import Graph, weights_of
from hwprof.count.blocks.head import logits_shape
from hwprof.count.blocks.parameters import ParameterCount, parameter_tensors, parameters
from hwprof.count.blocks.recurrences import as_kernels
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.precision import Precision
from hwprof.count.ops.table import AttentionKernel, Device, Execution, Op
from hwprof.errors import InputError
from hwprof.specs.job.settings import Direction, RunSettings
from hwprof.specs.model.spec import ModelSpec

__all__ = [
    "CONVENTIONS",
    "AttentionConvention",
    "LayerProduct",
    "Op",
    "ParameterCount",
    "Precision",
    "matmul_shapes",
    "model_ops",
    "parameters",
    "training_step_ops",
]

AttentionConvention = Literal["full", "causal"]
"""``full``: every product of attention (PaLM, appendix B), in every layer. ``causal``: half, for a decoder that skips
what lies above the diagonal; in layers that attend to a window also what lies outside it. Attention of an encoder, and
to an encoder's result, counts whole in both."""

CONVENTIONS: tuple[AttentionConvention, ...] = ("full", "causal")

_KEPT_BY_SELECTIVE = frozenset({"linear", "attention_core", "attention_core_materialised"})
"""Op kinds whose results selective recompute keeps."""


class LayerProduct(NamedTuple):
    """One product of a linear layer: [m, k] · [k, n], 2·m·n·k FLOP."""

    label: str
    direction: Direction
    m: int
    n: int
    k: int


def model_ops(
    spec: ModelSpec,
    *,
    batch_size: int,
    seq_len: int,
    precision: Precision,
    attention: AttentionConvention = "full",
    fused: bool = False,
    device: Device = "cuda",
    target_len: int | None = None,
    scores: AttentionKernel = "flash",
) -> tuple[Op, ...]:
    """The operations of one micro-batch through the model, embedding to head, in the order in which they run.

    Args:
        spec: the model.
        batch_size: sequences of the micro-batch.
        seq_len: tokens of a sequence; of the encoder's in an encoder-decoder. A vision Transformer's follow from the
            image.
        precision: element widths.
        attention: whether to count all attention products or half of them.
        fused: False = eager kernels, True = compiled.
        device: whose kernels run; FLOP are the same on all.
        target_len: tokens of the decoder's sequence in an encoder-decoder; default: ``seq_len``.
        scores: whether attention stores its scores.

    Raises:
        InputError: no tokens, or more positions than a model with learned positions has.
    """
    how = Execution(precision=precision, device=device, fused=fused, attention=scores)
    return executed_ops(spec, how, batch_size=batch_size, seq_len=seq_len, attention=attention, target_len=target_len)


def executed_ops(
    spec: ModelSpec,
    how: Execution,
    *,
    batch_size: int,
    seq_len: int,
    attention: AttentionConvention = "full",
    target_len: int | None = None,
) -> tuple[Op, ...]:
    """The same, under an execution that says all of how they run.

    Raises:
        InputError: as ``model_ops``.
    """
    _check_shape(spec, batch_size=batch_size, source_len=seq_len, seq_len=target_len or seq_len)
    causal_half = attention == "causal" and spec.causal
    if spec.captured:
        seen = captured_model_ops(
            spec.captured,
            batch_size=batch_size,
            seq_len=seq_len,
            target_len=target_len or seq_len,
            causal_half=causal_half,
        )
        if how.fused:
            seen = tuple(fused_ops(seen, how))
        elif not how.recurrence_kernels:
            return seen
        work = {"d_model": spec.d_model, "tokens": batch_size * seq_len, "width_bytes": how.precision.compute_bytes}
        return tuple(as_kernels(seen, spec.captured, **work))
    graph = _graph(spec, how, batch=batch_size, seq_len=target_len or seq_len)
    if spec.stock_encoder:
        return tuple(encoder_ops(graph))
    if spec.kind == "encoder_decoder":
        return tuple(encoder_decoder_ops(graph, source_len=seq_len, causal_half=causal_half))
    return tuple(decoder_ops(graph, causal_half=causal_half))


def training_step_ops(
    spec: ModelSpec, settings: RunSettings, *, attention: AttentionConvention = "full"
) -> tuple[Op, ...]:
    """The operations of one optimizer step: the model's, the loss, clipping and the optimizer.

    Each cost is still that of ONE instance on ONE micro-batch; ``Op.micro_batches`` says how many there are in the
    step, and ``Op.cost`` and ``Op.total`` multiply. With accumulation, backward also adds to the gradients that are
    there. Recompute is what torch's checkpoint runs again: it stops where the last kept tensor of a layer is made.

    Raises:
        InputError: as ``model_ops``.
    """
    ops = model_ops(
        spec,
        batch_size=settings.micro_batch,
        seq_len=settings.seq_len,
        precision=Precision.of(settings.dtype),
        attention=attention,
        fused=settings.compile,
        device=settings.counted_as,
        target_len=settings.target_len,
    )
    steps = settings.gradient_accumulation
    shape = {"batch_size": settings.micro_batch, "seq_len": settings.seq_len}
    loss = loss_ops(spec, _eager(settings), **shape, target_len=settings.target_len)
    repeated = (*ops, *loss)
    with_micro_batches = [replace(op, micro_batches=steps, backward=_accumulating(op, steps)) for op in repeated]
    return (*_with_recompute(with_micro_batches, spec, settings), *_update_ops(spec, settings))


def matmul_shapes(spec: ModelSpec, settings: RunSettings) -> tuple[LayerProduct, ...]:
    """The products of every linear layer on one micro-batch: one forward, two backward for each label.

    Forward: [tokens, in] · [in, out]. Backward: dX = [tokens, out] · [out, in], dW = [out, tokens] · [tokens, in].
    The same (m, n, k) may stand under several labels. Products of attention, of experts and of convolutions are not
    among them.
    """
    linears = {weight.label: weight.shape for weight in parameter_tensors(spec) if len(weight.shape) == 2}
    if spec.tied_embeddings and spec.head.kind in {"linear", "masked_lm"}:
        linears["head"] = (spec.vocab_size, spec.embedding.size or spec.d_model)
    ops = [op for op in training_step_ops(spec, settings) if op.kind == "linear"]
    shapes = [(op, *linears[op.label if op.label in linears else "head"]) for op in ops]
    labelled = [
        (op.label, out, inside, int(op.forward.matmul_flop) // (2 * out * inside)) for op, out, inside in shapes
    ]
    return tuple(
        product
        for label, out, inside, tokens in labelled
        for product in (
            LayerProduct(label, "forward", tokens, out, inside),
            LayerProduct(label, "backward", tokens, inside, out),
            LayerProduct(label, "backward", out, inside, tokens),
        )
    )


def _check_shape(spec: ModelSpec, *, batch_size: int, source_len: int, seq_len: int) -> None:
    if batch_size < 1 or seq_len < 1 or source_len < 1:
        raise InputError(
            f"a batch of {batch_size} x {seq_len} tokens has none",
            remedy="give a batch size and a length of at least 1",
        )
    sides = [("", spec, seq_len)]
    if spec.kind == "encoder_decoder":
        sides = [("the encoder of ", spec.encoder_side, source_len), ("the decoder of ", spec, seq_len)]
    for side, model, length in sides:
        if model.positions == "learned" and length > model.max_seq_len and not spec.vision:
            raise InputError(
                f"{side}{spec.name} can't take {length} tokens",
                expectation=f"its learned positions end at {model.max_seq_len}",
                remedy=f"take a sequence length of at most {model.max_seq_len}, or a model with rope",
            )


def _graph(spec: ModelSpec, how: Execution, *, batch: int, seq_len: int) -> Graph:
    length = spec.vision.tokens if spec.vision else seq_len
    return Graph(spec=spec, batch=batch, seq_len=length, how=how, weights=weights_of(spec))


def loss_ops(
    spec: ModelSpec, how: Execution, *, batch_size: int, seq_len: int, target_len: int | None = None
) -> Iterator[Op]:
    """Cross-entropy of every prediction that the model makes; none without a head."""
    graph = _graph(spec, how, batch=batch_size, seq_len=target_len or seq_len)
    rows, width = logits_shape(graph)
    if rows:
        yield graph.op("loss", "cross_entropy", repeats=1 + spec.mtp_layers, tokens=rows, vocabulary=width)


def _eager(settings: RunSettings) -> Execution:
    return Execution(precision=Precision.of(settings.dtype), device=settings.counted_as)


def _accumulating(op: Op, micro_batches: int) -> Cost:
    """Backward, averaged over the micro-batches: all but the first read the gradient that is there and add to it."""
    added = op.parameters * (micro_batches - 1) // micro_batches
    return op.backward + Cost(vector_flop=added, read_bytes=8 * added, write_bytes=4 * added)


def _with_recompute(ops: list[Op], spec: ModelSpec, settings: RunSettings) -> Iterator[Op]:
    """Recompute of the ops of a layer.

    In a dense pre-norm layer without dropout, the last tensor that backward needs is the input of ``ffn.down``: neither
    that product nor the second residual addition runs again.
    """
    plain = spec.kind == "decoder" and spec.block == "sequential" and not spec.moe
    ends_early = plain and spec.norm_placement == "pre" and not spec.dropout
    for op in ops:
        keeps = settings.recompute == "selective" and op.kind in _KEPT_BY_SELECTIVE
        last = ends_early and op.label == "layers.*.ffn.down"
        if settings.recompute == "none" or not op.in_layer or keeps or last:
            yield op
        elif ends_early and op.label == "layers.*.residual":
            yield replace(op, recompute=_half(op.forward))
        else:
            yield replace(op, recompute=op.forward)


def _half(cost: Cost) -> Cost:
    return Cost(vector_flop=cost.vector_flop // 2, read_bytes=cost.read_bytes // 2, write_bytes=cost.write_bytes // 2)


def _update_ops(spec: ModelSpec, settings: RunSettings) -> Iterator[Op]:
    length = settings.target_len or settings.seq_len
    graph = _graph(spec, _eager(settings), batch=settings.micro_batch, seq_len=length)
    count = sum(tensor.total for tensor in parameter_tensors(spec) if tensor.trained)
    first = "optimizer" if settings.clip_norm is None else "clip"
    if settings.dtype == "fp16":
        yield graph.op(first, "unscale", parameters=count)
    if settings.clip_norm is not None:
        yield graph.op("clip", "clip", parameters=count)
    yield graph.op(
        "optimizer",
        "optimizer",
        parameters=count,
        name=settings.optimizer,
        implementation=settings.optimizer_implementation,
    )
