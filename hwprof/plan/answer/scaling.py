"""How does a job scale over more devices? The best layout at each count, and where waiting takes over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hwprof.errors import InputError
from hwprof.plan.space.question import Question
from hwprof.plan.space.search import Found, search
from hwprof.predict.machine import Machine
from hwprof.simulate.parts import WAITING, WORKING, StepPart
from hwprof.specs.job.step import TrainingJob

Kind = Literal["strong", "weak"]
"""``strong``: the same global batch on all; ``weak``: a global batch in proportion to the devices."""

MachineAt = Callable[[int], Machine]
"""So many of the same devices; raises InputError where there is no such machine."""

HALVINGS = 3
DOUBLINGS: dict[Kind, int] = {"strong": 6, "weak": 3}
"""How far the curves go from the asked number of devices; upwards they end where waiting has taken over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPoint:
    """The best layout on so many devices.

    Attributes:
        kind: how the batch goes along.
        devices, global_batch: of this point.
        job: the fastest layout by the closed form.
        step_s: its step.
        tokens_per_s: of all devices.
        efficiency: tokens/s/device over those of the smallest count of its curve.
        working_fraction: share of the step in which a device works.
        waiting_fraction: share of the step in exposed communication, pipeline bubble and waiting for stragglers.
    """

    kind: Kind
    devices: int
    global_batch: int
    job: TrainingJob
    step_s: float
    tokens_per_s: float
    efficiency: float
    working_fraction: float
    waiting_fraction: float

    @property
    def taken_over(self) -> bool:
        """Whether devices wait for each other longer than they work."""
        return self.waiting_fraction > self.working_fraction


def scaling(question: Question, kind: Kind, machine_at: MachineAt) -> tuple[ScalingPoint, ...]:
    """The curve around the question's number of devices, over halvings and doublings on which a layout fits.

    The global batch of the weak kind is the question's at its own number of devices. Limits of time and money and a
    fixed data degree are left out: they belong to that number alone.
    """
    free = replace(question, longest_step_s=None, choices=replace(question.choices, data=()))
    points = [*_downwards(free, kind, machine_at), *_upwards(free, kind, machine_at)]
    if not points:
        return ()
    first = points[0].tokens_per_s / points[0].devices
    return tuple(replace(point, efficiency=point.tokens_per_s / point.devices / first) for point in points)


def taken_over_at(points: Sequence[ScalingPoint]) -> int | None:
    """The least count at which waiting has taken over; None = at none of them."""
    return next((point.devices for point in points if point.taken_over), None)


def _downwards(question: Question, kind: Kind, machine_at: MachineAt) -> list[ScalingPoint]:
    """Half the devices, a quarter, ... in rising order."""
    devices = question.machine.devices
    counts = [devices >> power for power in range(1, HALVINGS + 1) if devices % (1 << power) == 0]
    found = [_point(question, kind, machine_at, count) for count in reversed(counts)]
    return [point for point in found if point is not None]


def _upwards(question: Question, kind: Kind, machine_at: MachineAt) -> list[ScalingPoint]:
    """The devices themselves, twice as many, ... up to where waiting has taken over or nothing fits."""
    points: list[ScalingPoint] = []
    for power in range(DOUBLINGS[kind] + 1):
        point = _point(question, kind, machine_at, question.machine.devices << power)
        if point is None:
            break
        points.append(point)
        if point.taken_over:
            break
    return points


def _point(question: Question, kind: Kind, machine_at: MachineAt, devices: int) -> ScalingPoint | None:
    asked, batch = question.machine.devices, question.base.global_batch
    if kind == "weak":
        if batch * devices % asked:
            return None
        batch = batch * devices // asked
    try:
        machine = machine_at(devices)
    except InputError:  # such a machine is not defined, so the curve has no point there
        return None
    base = question.base.changed(global_batch=batch)
    return _best(kind, search(replace(question, base=base, machine=machine)))


def _best(kind: Kind, found: Found) -> ScalingPoint | None:
    if not len(found.order):
        return None
    best = int(found.order[0])
    step_s = float(found.times.step_s[best])

    def share(parts: Sequence[StepPart]) -> float:
        return sum(float(found.times.parts[name][best]) for name in parts) / step_s

    return ScalingPoint(
        kind=kind,
        devices=found.question.machine.devices,
        global_batch=found.question.base.global_batch,
        job=found.space.job(best),
        step_s=step_s,
        tokens_per_s=found.question.base.tokens / step_s,
        efficiency=1.0,
        working_fraction=share(WORKING),
        waiting_fraction=share(WAITING),
    )
