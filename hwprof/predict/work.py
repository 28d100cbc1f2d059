"""What work does each measured operation stand for? The counted ops of a step, by label, direction and phase."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from hwprof.count.blocks.parameters import parameter_tensors, parameters
from hwprof.count.blocks.transformer import AttentionConvention, training_step_ops
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.specs.job.labels import owner_of
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import Direction, LayerKind, PhaseName, RunSettings

_DIRECTIONS: tuple[Direction, ...] = ("forward", "recompute", "backward", "update")

_STATE_BYTES = 4
"""Weights, gradients and optimizer state are fp32 in every run dtype."""

_SUMMED_UNDER: dict[str, tuple[str, str]] = {
    "layers.*.attention_norm": ("layers.*.attention_norm", "layers.*.ffn_norm"),
    "layers.*.self_attn.in_proj": ("layers.*.self_attn.in_proj", "layers.*.linear1"),
}
"""An op that a model has -> the labels whose backward adds up the two gradients of the residual stream.

Autograd adds a second gradient of a tensor when it arrives, in the node that made it: the norm that opens a pre-norm
branch, or the linear layer that opens a post-norm one. The residual addition itself has no kernel in its backward.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One counted operation of a step in one direction.

    Attributes:
        kind: its row in the op table; empty where something else priced it.
        cost: work and traffic of one instance.
        instances: how often it runs in a step (layers x micro-steps).
        working_set_bytes: what one instance touches again and again; its traffic can be served by a memory level that
            holds this much. For a single pass over memory that is all its traffic.
        compulsory_bytes: the part of its traffic that a cache can't save, touched for the first time in the step's
            while; 0 where the first touch can be in a cache.
        swept_bytes: what all instances and their like touch for the first time in turn; only a memory level that holds
            this much can serve their first touch.
    """

    label: str
    layer_kind: LayerKind
    direction: Direction
    phase: PhaseName
    cost: Cost
    instances: float
    working_set_bytes: float
    compulsory_bytes: float = 0.0
    swept_bytes: float = 0.0
    kind: str = ""

    @property
    def total(self) -> Cost:
        """Cost of all instances of a step."""
        return self.cost * self.instances


def step_work(spec: ModelSpec, settings: RunSettings, *, attention: AttentionConvention) -> tuple[Work, ...]:
    """The counted ops of a training step on one rank, one entry for each direction in which an op does anything.

    On several ranks it is the mean rank's share: the model over tensor ranks and stages, its update over the ranks that
    ZeRO shards it over, too. What each tensor rank repeats (norms) is counted once.
    """
    ops = training_step_ops(spec, settings, attention=attention)
    model = (work for op in ops if op.update == Cost.ZERO for work in _model_work(op, {op.label for op in ops}))
    return tuple(_of_one_rank(work, settings.layout) for work in (*model, *_update_work(spec, settings, ops)))


def _of_one_rank(work: Work, layout: ParallelLayout) -> Work:
    parts = layout.tensor_parallel * layout.pipeline_parallel
    if work.direction == "update" and layout.zero_stage:
        parts *= layout.shards
    return work if parts == 1 else replace(work, instances=work.instances / parts)


def _model_work(op: Op, labels: Collection[str]) -> Iterator[Work]:
    for direction in _DIRECTIONS:
        cost = _instance_cost(op, direction)
        if cost == Cost.ZERO:
            continue
        owners = [op.label]
        if op.label == "layers.*.residual" and direction == "backward":
            owners = next((list(pair) for anchor, pair in _SUMMED_UNDER.items() if anchor in labels), owners)
        for owner in owners:
            shared = cost * (1 / len(owners))
            yield Work(
                label=owner,
                layer_kind=op.layer_kind,
                direction=direction,
                phase=phase_of(op.label, direction),
                cost=shared,
                instances=op.repeats * op.micro_batches,
                working_set_bytes=shared.moved_bytes,
                kind=op.kind,
            )


def _update_work(spec: ModelSpec, settings: RunSettings, ops: Iterable[Op]) -> Iterator[Work]:
    """Clipping and the optimizer: several passes over the gradients and the state, so a cache can serve most of them.

    A for-loop optimizer makes all its passes over one weight tensor before the next; the others over all tensors.
    """
    fused = settings.changed(optimizer_implementation="fused")
    one_pass = {op.label: op.update for op in training_step_ops(spec, fused) if op.update != Cost.ZERO}
    total = parameters(spec).total
    whole = ((total, 1),)
    by_tensor = tuple((tensor.elements, tensor.repeats) for tensor in parameter_tensors(spec))
    for op in ops:
        if op.update == Cost.ZERO:
            continue
        once_bytes = one_pass[op.label].moved_bytes if op.label == "optimizer" else 2 * total * _STATE_BYTES
        loops = op.label == "optimizer" and settings.optimizer_implementation == "for-loop"
        for elements, repeats in by_tensor if loops else whole:
            touched_bytes = once_bytes * elements / total
            cost = op.update * (elements / total)
            yield Work(
                label=op.label,
                layer_kind=op.layer_kind,
                direction="update",
                phase=phase_of(op.label, "update"),
                cost=cost,
                instances=op.repeats * repeats,
                working_set_bytes=touched_bytes,
                compulsory_bytes=min(touched_bytes, cost.moved_bytes),
                swept_bytes=once_bytes,
                kind=op.kind,
            )


def _instance_cost(op: Op, direction: Direction) -> Cost:
    costs = {"forward": op.forward, "backward": op.backward, "recompute": op.recompute, "update": op.update}
    return costs[direction]


def phase_of(label: str, direction: Direction) -> PhaseName:
    """The phase of the step in which an op of a label runs."""
    if direction == "update":
        return "clip" if label == "clip" else "optimizer"
    if direction == "forward":
        return "loss" if label == "loss" else "forward"
    return "backward"


def by_measured_label(
    work: Iterable[Work], measured: Collection[tuple[str, Direction]]
) -> dict[tuple[str, Direction], list[Work]]:
    """Counted work under the measured (label, direction) that its time was booked to; work with no owner is left out.

    A compiled or stock module runs several counted ops under one label, which then owns all of them.
    """
    labels: dict[Direction, set[str]] = {}
    for label, direction in measured:
        labels.setdefault(direction, set()).add(label)
    owned: dict[tuple[str, Direction], list[Work]] = {}
    for item in work:
        owner = owner_of(item.label, labels.get(item.direction, set()))
        if owner is not None:
            owned.setdefault((owner, item.direction), []).append(item)
    return owned
