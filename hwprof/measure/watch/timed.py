"""How long did the timed steps and their phases take? Read as soon as the device is there, so that none is lost later.

A device whose context breaks answers nothing any more, not even about what it did before.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from hwprof.measure.timing import Mark, Timer
from hwprof.measure.watch.phases import PhaseMarks
from hwprof.specs.job.settings import PhaseName


@dataclass(frozen=True, slots=True)
class _Step:
    start: Mark
    stop: Mark
    phases: PhaseMarks | None
    """None of a bare step."""


@dataclass(slots=True)
class TimedSteps:
    """Marked and bare steps. Mutable: it grows while steps run.

    Attributes:
        marked_s, bare_s: seconds of the steps that were read.
        phases_s: of each phase of the marked ones.
        names: the phases of the last marked step, once for each mark.
    """

    timer: Timer
    marked_s: list[float] = field(default_factory=list)
    bare_s: list[float] = field(default_factory=list)
    phases_s: dict[PhaseName, list[float]] = field(default_factory=dict)
    names: list[PhaseName] = field(default_factory=list)
    _waiting: list[_Step] = field(default_factory=list)

    def add(self, start: Mark, stop: Mark, phases: PhaseMarks | None = None) -> None:
        """A step that the host is through with."""
        self._waiting.append(_Step(start, stop, phases))
        if phases is not None:
            self.names = [name for name, _, _ in phases.marks]

    def read_reached(self) -> None:
        """Read the steps that the device has done; does not wait."""
        while self._waiting and self.timer.reached(self._waiting[0].stop):
            self._read_one()

    def read(self) -> None:
        """Read all; waits for the device.

        Raises:
            RuntimeError: the device answers no more.
        """
        while self._waiting:
            self._read_one()

    def median_s(self) -> float | None:
        """Of the marked steps; None where there is none."""
        self.read()
        return statistics.median(self.marked_s) if self.marked_s else None

    def _read_one(self) -> None:
        step = self._waiting[0]
        phases_s = step.phases.seconds() if step.phases is not None else {}
        step_s = self.timer.elapsed_s(step.start, step.stop)
        (self.bare_s if step.phases is None else self.marked_s).append(step_s)
        for name, seconds in phases_s.items():
            self.phases_s.setdefault(name, []).append(seconds)
        self._waiting.pop(0)
