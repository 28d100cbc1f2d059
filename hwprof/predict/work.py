"""What work does each measured operation stand for? The counted ops of a step, by label, direction and phase."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from hwprof.count.cost import Cost
from hwprof.count.op import Op
from hwprof.specs.labels import owner_of
from hwprof.specs.run import Direction, LayerKind, PhaseName


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One counted operation of a step in one direction.

    Attributes:
        cost: work and traffic of one instance.
        instances: how often it runs in a step (layers x micro-steps).
    """

    label: str
    layer_kind: LayerKind
    direction: Direction
    phase: PhaseName
    cost: Cost
    instances: float

    @property
    def total(self) -> Cost:
        """Cost of all instances of a step."""
        return self.cost * self.instances


def step_work(ops: Iterable[Op]) -> tuple[Work, ...]:
    """The counted ops of a training step, one entry for each direction in which an op does anything."""
    directions: tuple[Direction, ...] = ("forward", "recompute", "backward", "update")
    return tuple(
        Work(
            label=op.label,
            layer_kind=op.layer_kind,
            direction=direction,
            phase=phase_of(op.label, direction),
            cost=_instance_cost(op, direction),
            instances=op.repeats * (1 if direction == "update" else op.micro_batches),
        )
        for op in ops
        for direction in directions
        if _instance_cost(op, direction) != Cost.ZERO
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
