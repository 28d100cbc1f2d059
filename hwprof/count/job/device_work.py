"""What does one device compute of a micro-batch? Rows of products, attention and traffic, split by the layout."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from hwprof.count.blocks.captured import backward_flop
from hwprof.count.blocks.fusing import single_chains
from hwprof.count.blocks.parameters import parameter_tensors
from hwprof.count.blocks.transformer import AttentionConvention, executed_ops
from hwprof.count.job.recompute import PRODUCTS, runs_again
from hwprof.count.job.rows import Part, Pass, Row, Unit, WorkShare
from hwprof.count.job.tensor_split import ROW, split_share, way_of
from hwprof.count.ops.lora import LIBRARIES, adapted_labels, widened_labels
from hwprof.count.ops.operation import OPS, Execution, Op
from hwprof.count.ops.precision import Precision
from hwprof.specs.job.step import LoraSpec
from hwprof.specs.job.switches import AdapterLibrary
from hwprof.specs.model.spec import ModelSpec

_MERGED = {
    "attention.key": "attention.query",
    "attention.value": "attention.query",
    "ffn.gate": "ffn.up",
    "moe.shared.gate": "moe.shared.up",
    "moe.experts.gate": "moe.experts.up",
}
"""Linear layers that read the same input run as one product."""

GROUPED = "aten::_grouped_mm"
"""What multiplies the experts of a captured module."""

_SPLIT_KINDS = frozenset({"rope", "activation", "gated_activation", "cross_entropy", "tanh"})
_NEVER_NARROW = ("router", "switch", "head", "pooler", "projection")

NARROW = Precision(name="bf16", weight_bytes=2, compute_bytes=2, residual_bytes=2)
"""Weights, operands and the residual stream in 2 bytes, as Megatron-LM and compiled JAX programs train."""

FLASH_BACKWARD_PRODUCTS = 5
"""q·k again, dV, dP, dQ, dK: the products of a flash kernel's backward (Dao et al. 2022); four are model FLOP."""

QUANTIZE_BYTES = 4
"""Traffic of one element that is made narrow for a product: 2 read, and 1 written twice, along rows and along columns
(NVIDIA Transformer Engine keeps both for the three products of a linear layer). Weights are made narrow once a step,
for its first micro-batch (TransformerEngine, ``is_first_microbatch``), which is left out."""

FORWARD_SCORE_PASSES = 6
"""How often a score that is written to memory moves: written by q·k; read and written by the softmax; read and written
by dropout; read by p·v (Megatron-LM with its fused scale-mask-softmax kernel)."""

BACKWARD_SCORE_PASSES = 9
"""P read for dV; dP written; dropout reads dP and writes; softmax reads P and dP, writes; dS read for dQ, dK."""

MASK_BYTES = 1
"""Dropout's mask of a score, written forward and read backward."""


def device_rows(share: WorkShare) -> tuple[Row, ...]:
    """All rows of one micro-batch: embedding, the average layer, head and loss."""
    kernels = _rows_by_kernel(replace(share, recompute="none"))
    again = runs_again([op for ops, _ in kernels for op in ops], share.recompute, share.selective)
    rows: list[Row] = []
    for ops, own in kernels:
        rows += own
        rows += _recomputed(ops, own, again)
    return tuple(rows)


@functools.lru_cache(maxsize=1024)
def _rows_by_kernel(share: WorkShare) -> tuple[tuple[tuple[Op, ...], tuple[Row, ...]], ...]:
    """The rows of each kernel without what runs again, with its ops."""
    wide = share.dtype in {"fp32", "tf32"}
    kernels = _kernels(share.model, share.micro_batch, share.seq_len, wide=wide, flash=share.flash, fused=share.fused)
    return tuple((ops, tuple(_op_rows(share, ops))) for ops in kernels)


@functools.lru_cache(maxsize=512)
def _kernels(
    model: ModelSpec, micro_batch: int, seq_len: int, *, wide: bool, flash: bool, fused: bool
) -> tuple[tuple[Op, ...], ...]:
    """The ops of a replica's micro-batch; linear layers that read the same input stand together, as one product."""
    kernels: dict[tuple[str, bool, int, int], list[Op]] = {}
    seen: Counter[tuple[str, bool]] = Counter()  # of captured models a label has an operation for each operator
    for op in _ops(model, micro_batch, seq_len, wide=wide, flash=flash, fused=fused):
        joins = op.kind in PRODUCTS
        seen[op.label, joins] += 1
        label = _kernel_label(op.label, latent=model.mla is not None) if joins else op.label
        kernels.setdefault((label, joins, op.repeats, seen[op.label, joins]), []).append(op)
    return tuple(map(tuple, kernels.values()))


def _kernel_label(label: str, *, latent: bool) -> str:
    """The label of the product that runs a linear layer; latent attention spans its projections one by one."""
    for ending, target in _MERGED.items():
        if label.endswith(ending) and not (latent and ending.startswith("attention")):
            return label.removesuffix(ending) + target
    return label


def _ops(model: ModelSpec, micro_batch: int, seq_len: int, *, wide: bool, flash: bool, fused: bool) -> tuple[Op, ...]:
    """The op table's rows at the shape of one replica's micro-batch, loss included."""
    precision = Precision.of("fp32") if wide else NARROW
    how = Execution(precision=precision, fused=fused, recurrence_kernels=True)
    attention: AttentionConvention = "causal" if flash else "full"
    ops = executed_ops(model, how, batch_size=micro_batch, seq_len=seq_len, attention=attention)
    if model.captured and not fused:
        ops = tuple(single_chains(ops))
    return (*ops, *_loss(model, how, tokens=micro_batch * seq_len))


def _loss(model: ModelSpec, how: Execution, *, tokens: int) -> Iterator[Op]:
    if model.head.kind in {"linear", "masked_lm"}:
        cost = OPS["cross_entropy"](how, tokens=tokens, vocabulary=model.vocab_size)
        repeats = 1 + model.mtp_layers
        kind = "cross_entropy"
        yield Op(
            label="loss", kind=kind, layer_kind="loss", repeats=repeats, forward=cost.forward, backward=cost.backward
        )


@functools.lru_cache(maxsize=512)
def _weight_shapes(model: ModelSpec) -> dict[str, tuple[int, int]]:
    """Output and input features of each linear layer, by label; of one expert, whose biases are a matrix."""
    tensors = sorted(parameter_tensors(model), key=lambda tensor: len(tensor.shape))
    shapes = {t.label: (t.shape[-2], t.shape[-1]) for t in tensors if len(t.shape) in {2, 3}}
    shapes.setdefault("head", (model.vocab_size, model.embedding.size or model.d_model))
    shapes.setdefault("mtp.head", shapes["head"])
    return shapes


def _op_rows(share: WorkShare, ops: tuple[Op, ...]) -> Iterator[Row]:
    op = ops[0]
    if op.kind == "linear":
        yield from _linear(share, ops)
    elif op.kind == "expert_linear":
        yield from _experts(share, ops)
    elif op.kind == GROUPED:
        yield from _captured_experts(share, op)
    elif op.kind.startswith("attention_core"):
        yield from _attention(share, op)
    else:
        yield from _other(share, op)


def _part(op: Op) -> Part:
    if op.in_layer:
        return Part.LAYER
    return Part.EMBEDDING if op.layer_kind == "embedding" or op.label.endswith("embedding_norm") else Part.HEAD


def _times(share: WorkShare, op: Op) -> float:
    """How often an op runs in the average layer, or once outside the layers."""
    return op.repeats / share.model.layers if op.in_layer else float(op.repeats)


def _element_bytes(share: WorkShare) -> int:
    return 4 if share.dtype in {"fp32", "tf32"} else 2


def _linear(share: WorkShare, ops: tuple[Op, ...]) -> Iterator[Row]:
    """Forward [m, k]·[k, n]; backward dX = [m, n]·[n, k] and dW = [n, m]·[m, k]."""
    op, shapes = ops[0], _weight_shapes(share.model)
    n: float = sum(shapes[each.label][0] for each in ops)
    k: float = shapes[op.label][1]
    flop = sum(each.forward.matmul_flop for each in ops)
    m = flop / (2 * n * k) / share.context
    split_tokens = 1
    way = way_of(share.model, op.label)
    if way in {"column", "gathered"}:
        n *= split_share(share.model, op.label, share.tensor)
    elif way == "row":
        k /= share.tensor
    elif share.sequence_parallel and (op.in_layer or not share.model.captured):
        split_tokens = share.tensor
    yield from _products(share, ops, m=m / split_tokens, n=n, k=k, groups=1)


def _experts(share: WorkShare, ops: tuple[Op, ...]) -> Iterator[Row]:
    """Products of the experts on the busiest device; every expert there has the same number of tokens."""
    op, moe, shapes = ops[0], share.model.moe, _weight_shapes(share.model)
    assert moe is not None
    n: float = sum(shapes[each.label][0] for each in ops)
    k: float = shapes[op.label][1]
    rows = ops[0].forward.matmul_flop / (2 * shapes[op.label][0] * k) / (share.context * share.tensor)
    rows *= share.expert_tensor * share.expert_skew
    if op.label.endswith(ROW):
        k /= share.expert_tensor
    else:
        n /= share.expert_tensor
    groups = max(moe.experts / share.expert, 1.0)
    yield from _products(share, ops, m=rows / groups, n=n, k=k, groups=groups)


def _captured_experts(share: WorkShare, op: Op) -> Iterator[Row]:
    """Products with each of a captured module's stacks of experts; its work is shared by the stacks' sizes."""
    stacks = [tensor for tensor in parameter_tensors(share.model) if tensor.label == op.label and tensor.experts > 1]
    whole = sum(tensor.elements for tensor in stacks)
    for tensor in stacks:
        n, k = tensor.shape[-2:]
        groups = max(tensor.experts / share.expert, 1.0)
        flop = op.forward.matmul_flop * tensor.elements / whole / (share.context * share.tensor)
        rows = flop / (2 * n * k) * share.expert_tensor * share.expert_skew
        yield from _products(share, (op,), m=rows / groups, n=n / share.expert_tensor, k=k, groups=groups)


def _products(share: WorkShare, ops: tuple[Op, ...], *, m: float, n: float, k: float, groups: float) -> Iterator[Row]:
    op = ops[0]
    narrow = share.dtype in {"fp8", "fp4"} and op.in_layer and not op.label.endswith(_NEVER_NARROW)
    plain, small = (Unit.GROUPED, Unit.NARROW_GROUPED) if groups > 1 else (Unit.MATMUL, Unit.NARROW_MATMUL)
    unit, width = small if narrow else plain, _element_bytes(share)
    part, times, flop = _part(op), _times(share, op), 2 * m * n * k * groups
    operand_bytes = 1 if narrow else width
    moved = groups * ((m * k + n * k) * operand_bytes + m * n * width)
    passes = [(Pass.FORWARD, (m, n, k)), (Pass.INPUT, (m, k, n)), (Pass.WEIGHT, (n, k, m))]
    if share.lora is not None and op.label != "loss":
        passes.pop()
    row = partial(Row, part=part, unit=unit, groups=groups, flop=flop, moved_bytes=moved, times=times)
    for when, (rows, columns, inner) in passes:
        yield row(when=when, m=rows, n=columns, k=inner)
    if narrow:
        for when, elements in ((Pass.FORWARD, m * k), (Pass.INPUT, m * n)):
            yield _moved(part, when, groups * elements * QUANTIZE_BYTES, times)
    if share.lora is None:
        return
    if op.label in _widened(share.model, share.lora, share.adapter_library):
        widened = groups * n * k * LIBRARIES[share.adapter_library].widening_bytes(width, fused=share.fused)
        for when in (Pass.FORWARD, Pass.INPUT):
            yield _moved(part, when, widened, times)._replace(unit=Unit.COPY)
    whole = sum(each.forward.matmul_flop for each in ops)
    adapted = adapted_labels(parameter_tensors(share.model), share.lora, share.adapter_library)
    for each in ops:
        if each.label in adapted:
            own = n * each.forward.matmul_flop / whole
            yield from _adapters(share.lora, part, times, m=m, n=own, k=k, width=width)


@functools.lru_cache(maxsize=64)
def _widened(model: ModelSpec, lora: LoraSpec, library: AdapterLibrary) -> frozenset[str]:
    return widened_labels(parameter_tensors(model), lora, library)


def _adapters(lora: LoraSpec, part: Part, times: float, *, m: float, n: float, k: float, width: int) -> Iterator[Row]:
    """Two narrow products beside a frozen one: [m, k]·[k, r] and [m, r]·[r, n]."""
    r = lora.rank
    for outputs, inputs in ((r, k), (n, r)):
        flop, moved = 2 * m * outputs * inputs, (m * outputs + m * inputs + outputs * inputs) * width
        shapes = {
            Pass.FORWARD: (m, outputs, inputs),
            Pass.INPUT: (m, inputs, outputs),
            Pass.WEIGHT: (outputs, inputs, m),
        }
        row = partial(Row, part=part, unit=Unit.MATMUL, groups=1, flop=flop, moved_bytes=moved, times=times)
        for when, (rows, columns, inner) in shapes.items():
            yield row(when=when, m=rows, n=columns, k=inner)


def _attention(share: WorkShare, op: Op) -> Iterator[Row]:
    """Flash: one kernel each way, five products backward. Materialised: four products and passes over the scores."""
    part, times, model = _part(op), _times(share, op), share.model
    ranks = _ranks(share, op) if model.captured else share.tensor * share.context
    width, heads = model.head_dim, model.heads / share.tensor * share.micro_batch
    if share.flash or model.captured:
        row = partial(Row, part=part, m=share.seq_len, n=heads, k=width, groups=1, times=times)
        for when, unit, cost, again in (
            (Pass.FORWARD, Unit.ATTENTION, op.forward, 1),
            (Pass.INPUT, Unit.ATTENTION_BACKWARD, op.backward, FLASH_BACKWARD_PRODUCTS / 4),
        ):
            flop = cost.matmul_flop * again / ranks
            yield row(when=when, unit=unit, flop=flop, moved_bytes=cost.moved_bytes / ranks)
        return
    s, rows = share.seq_len, share.seq_len / share.context
    scores, element_bytes = heads * rows * s, _element_bytes(share)
    moved = element_bytes * (scores + heads * (rows + s) * width)
    row = partial(Row, part=part, unit=Unit.MATMUL, groups=heads, flop=2 * scores * width, moved_bytes=moved)
    for m, n, k in ((rows, s, width), (rows, width, s)):
        for when, count in ((Pass.FORWARD, 1), (Pass.INPUT, 2)):
            yield row(when=when, m=m, n=n, k=k, times=times * count)
    for when, passes in ((Pass.FORWARD, FORWARD_SCORE_PASSES), (Pass.INPUT, BACKWARD_SCORE_PASSES)):
        yield _moved(part, when, scores * (passes * element_bytes + MASK_BYTES), times)


def _other(share: WorkShare, op: Op) -> Iterator[Row]:
    """Convolutions as products without a shape; norms, activations, sums, lookups and the loss as traffic."""
    split = _ranks(share, op)
    part, times = _part(op), _times(share, op)
    for when, cost in ((Pass.FORWARD, op.forward), (Pass.INPUT, op.backward)):
        if cost.matmul_flop:
            flop = _worked_flop(share, op, when)
            side = (flop / 2) ** (1 / 3)
            flop, moved = flop / split, cost.moved_bytes / split
            row = partial(Row, part=part, unit=Unit.MATMUL, groups=1, flop=flop, moved_bytes=moved, times=times)
            yield row(when=when, m=side, n=side, k=side)
        elif cost.moved_bytes:
            yield _moved(part, when, cost.moved_bytes / split, times)


def _ranks(share: WorkShare, op: Op) -> int:
    """How many ranks share what multiplies no matrix of weights."""
    if share.model.captured:
        way = way_of(share.model, op.label)
        shared = way not in {"whole", "gathered"} or (way == "whole" and op.in_layer and share.sequence_parallel)
    else:
        shared = op.kind in _SPLIT_KINDS or share.sequence_parallel
    return share.context * (share.tensor if shared else 1)


def _worked_flop(share: WorkShare, op: Op, when: Pass) -> float:
    """Of a product without a shape; the gradient of a frozen weight is left out."""
    if when is Pass.FORWARD:
        return op.forward.matmul_flop
    flop = backward_flop(op)
    return flop / 2 if share.lora is not None and op.parameters else flop


def _moved(part: Part, when: Pass, moved_bytes: float, times: float) -> Row:
    nothing = dict.fromkeys(("m", "n", "k", "flop"), 0.0)
    return Row(part=part, when=when, unit=Unit.TRAFFIC, groups=1, moved_bytes=moved_bytes, times=times, **nothing)


def _recomputed(ops: tuple[Op, ...], rows: tuple[Row, ...], again: frozenset[str]) -> Iterator[Row]:
    """The forward rows of a kernel's operations that run again; of a joint product its part."""
    sizes = [(op.forward.matmul_flop or op.forward.moved_bytes, op.label in again) for op in ops]
    chosen = sum(size for size, runs in sizes if runs)
    if not chosen:
        return
    part = chosen / sum(size for size, _ in sizes)
    for row in rows:
        if row.when is Pass.FORWARD:
            yield row._replace(when=Pass.RECOMPUTE, times=row.times * part)
