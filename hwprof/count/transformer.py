"""What does a Transformer cost? Its operations, for one micro-batch or one whole training step, and its shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

from hwprof.count.cost import Cost
from hwprof.count.decoder import decoder_ops
from hwprof.count.encoder import encoder_ops
from hwprof.count.graph import Graph
from hwprof.count.ops import Device, Execution, Op
from hwprof.count.parameters import ParameterCount, parameter_tensors, parameters
from hwprof.count.precision import Precision
from hwprof.errors import InputError
from hwprof.specs.model import ModelSpec
from hwprof.specs.run import Direction, RunSettings

__all__ = [
    "AttentionConvention",
    "MatmulShape",
    "Op",
    "ParameterCount",
    "Precision",
    "matmul_shapes",
    "model_ops",
    "parameters",
    "training_step_ops",
]

AttentionConvention = Literal["full", "causal"]
"""``full``: every product of attention (PaLM, appendix B). ``causal``: half, for a decoder that skips what lies above
the diagonal. For an encoder the two are equal."""

_KEPT_BY_SELECTIVE = frozenset({"linear", "attention_core", "attention_core_materialised"})
"""Op kinds whose results selective recompute keeps."""


class MatmulShape(NamedTuple):
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
) -> tuple[Op, ...]:
    """The operations of one micro-batch through the model, embedding to head, in the order in which they run.

    Args:
        spec: the model.
        batch_size: sequences of the micro-batch.
        seq_len: tokens of a sequence.
        precision: element widths.
        attention: whether to count all attention products or half of them.
        fused: False = eager kernels, True = compiled.
        device: whose kernels run; FLOP are the same on all.

    Raises:
        InputError: no tokens, or more positions than a model with learned positions has.
    """
    _check_shape(spec, batch_size=batch_size, seq_len=seq_len)
    how = Execution(precision=precision, device=device, fused=fused)
    graph = Graph(spec=spec, batch=batch_size, seq_len=seq_len, how=how)
    return tuple(
        encoder_ops(graph) if spec.kind == "encoder" else decoder_ops(graph, causal_half=attention == "causal")
    )


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
        device=settings.device,
    )
    steps = settings.gradient_accumulation
    repeated = (*ops, _loss(spec, settings))
    with_micro_batches = [replace(op, micro_batches=steps, backward=_accumulating(op, steps)) for op in repeated]
    return (*_with_recompute(with_micro_batches, spec, settings), *_update_ops(spec, settings))


def matmul_shapes(spec: ModelSpec, settings: RunSettings) -> tuple[MatmulShape, ...]:
    """The products of every linear layer on one micro-batch: one forward, two backward for each label.

    Forward: [tokens, in] · [in, out]. Backward: dX = [tokens, out] · [out, in], dW = [out, tokens] · [tokens, in].
    The same (m, n, k) may stand under several labels. Attention's products are not among them.
    """
    tokens = settings.micro_batch * settings.seq_len
    shapes = [(weight.label, *weight.shape) for weight in parameter_tensors(spec) if len(weight.shape) == 2]
    linears = [shape for shape in shapes if not shape[0].startswith("embedding.")]
    if spec.tied_embeddings:
        linears.append(("head", spec.vocab_size, spec.d_model))
    return tuple(
        product
        for label, out, inside in linears
        for product in (
            MatmulShape(label, "forward", tokens, out, inside),
            MatmulShape(label, "backward", tokens, inside, out),
            MatmulShape(label, "backward", out, inside, tokens),
        )
    )


def _check_shape(spec: ModelSpec, *, batch_size: int, seq_len: int) -> None:
    if batch_size < 1 or seq_len < 1:
        raise InputError(
            f"a batch of {batch_size} x {seq_len} tokens has none",
            remedy="give a batch size and a length of at least 1",
        )
    if spec.positions == "learned" and seq_len > spec.max_seq_len:
        raise InputError(
            f"{spec.name} can't take {seq_len} tokens",
            expectation=f"its learned positions end at {spec.max_seq_len}",
            remedy=f"take a sequence length of at most {spec.max_seq_len}, or a model with rope",
        )


def _graph(spec: ModelSpec, settings: RunSettings, *, fused: bool) -> Graph:
    how = Execution(precision=Precision.of(settings.dtype), device=settings.device, fused=fused)
    return Graph(spec=spec, batch=settings.micro_batch, seq_len=settings.seq_len, how=how)


def _loss(spec: ModelSpec, settings: RunSettings) -> Op:
    graph = _graph(spec, settings, fused=False)
    return graph.op("loss", "cross_entropy", tokens=graph.tokens, vocabulary=spec.vocab_size)


def _accumulating(op: Op, micro_batches: int) -> Cost:
    """Backward, averaged over the micro-batches: all but the first read the gradient that is there and add to it."""
    added = op.parameters * (micro_batches - 1) // micro_batches
    return op.backward + Cost(vector_flop=added, read_bytes=8 * added, write_bytes=4 * added)


def _with_recompute(ops: list[Op], spec: ModelSpec, settings: RunSettings) -> Iterator[Op]:
    """Recompute of the ops of a layer.

    In a pre-norm layer without dropout, the last tensor that backward needs is the input of ``ffn.down``: neither
    that product nor the second residual addition runs again.
    """
    ends_early = spec.kind == "decoder" and spec.norm_placement == "pre" and not spec.dropout
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
    graph = _graph(spec, settings, fused=False)
    count = parameters(spec).total
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
