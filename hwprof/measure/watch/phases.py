"""When did each phase of a step begin and end? Marks on the device's timeline, read after the step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from hwprof.measure.timing import Mark, Timer
from hwprof.specs.job.settings import PhaseName


class PhaseMarks:
    """Collects (phase, start, end) marks of one step; itself the phase context that the loop enters."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self.marks: list[tuple[PhaseName, Mark, Mark]] = []

    def __call__(self, name: PhaseName) -> _Marked:
        """The context in which a phase runs."""
        return _Marked(self, name)

    def mark(self) -> Mark:
        """The present point on the device's timeline."""
        return self._timer.mark()

    def seconds(self) -> dict[PhaseName, float]:
        """Time of each phase of the step, summed over micro-batches; waits for the device."""
        total_s: dict[PhaseName, float] = {}
        for name, start, stop in self.marks:
            total_s[name] = total_s.get(name, 0.0) + self._timer.elapsed_s(start, stop)
        return total_s


class _Marked:
    __slots__ = ("_marks", "_name", "_start")

    def __init__(self, marks: PhaseMarks, name: PhaseName) -> None:
        self._marks = marks
        self._name = name

    def __enter__(self) -> Self:
        self._start = self._marks.mark()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._marks.marks.append((self._name, self._start, self._marks.mark()))


_BATCHES, _STEPS = 5, 20


def marking_s(timer: Timer, names: Sequence[PhaseName]) -> float:
    """Host time that marking these phases of one step takes: the least of some batches, so that no pause counts."""
    batches_s = []
    for _ in range(_BATCHES):
        began_s = time.perf_counter()
        for _ in range(_STEPS):
            marks = PhaseMarks(timer)
            for name in names:
                with marks(name):
                    pass
        batches_s.append((time.perf_counter() - began_s) / _STEPS)
    return min(batches_s)
