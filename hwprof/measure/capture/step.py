"""Which operators does one real step of somebody's loop call? Recorded as it runs, at no cost to its results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from hwprof.measure.capture.mode import CallRecorder
from hwprof.measure.their_loop.model import SeenModel
from hwprof.specs.job.labels import PHASE_LABELS
from hwprof.specs.job.settings import Direction, PhaseName
from hwprof.specs.record.captured import CapturedStep, PlacedCall

_MARKS = "profiler::"
"""Namespace of the operators that only name a range in a trace."""

_UNCOUNTED: tuple[PhaseName, ...] = ("evaluation", "checkpoint")
_DIRECTIONS: dict[PhaseName, Direction] = {"backward": "backward", "clip": "update", "optimizer": "update"}


class StepCapture:
    """Records one step, from entering to leaving it; itself the phase context of that step.

    A compiled model runs eagerly meanwhile, so that its operators can be seen. What goes wrong in recording ends the
    recording, never the step.

    Args:
        model: the model that the loop calls.
    """

    def __init__(self, model: SeenModel) -> None:
        self._model = model
        self._recorder = CallRecorder(keep_going=True)
        self._recorder.paused = True
        self._segments: list[tuple[PhaseName, int]] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Record while this is open."""
        with _eager(compiled=self._model.compiled), self._recorder.inside(self._model.named), self._recorder:
            yield

    def __call__(self, name: PhaseName) -> AbstractContextManager[None]:
        """The context in which a phase runs."""
        return self._phase(name)

    @contextmanager
    def _phase(self, name: PhaseName) -> Iterator[None]:
        recorder = self._recorder
        recorder.outside = PHASE_LABELS[name]
        recorder.direction = _DIRECTIONS.get(name, "forward")
        recorder.paused = name in _UNCOUNTED or bool(recorder.failure)
        self._segments.append((name, len(recorder.calls)))
        try:
            yield
        finally:
            recorder.paused = True

    def captured(self) -> CapturedStep:
        """What was seen; ``failure`` says what ended the recording early."""
        calls: list[PlacedCall] = []
        beside: list[PlacedCall] = []
        ends = [*self._segments[1:], ("data", len(self._recorder.calls))]
        for (name, start), (following, stop) in zip(self._segments, ends, strict=True):
            before_more_data = name == "clip" and following == "forward"  # gradients accumulate
            (beside if name == "data" or before_more_data else calls).extend(self._recorder.calls[start:stop])
        return CapturedStep(
            calls=_without_marks(calls),
            beside=_without_marks(beside),
            backward_passes=sum(name == "backward" for name, _ in self._segments),
            failure=self._recorder.failure,
        )


def _without_marks(calls: list[PlacedCall]) -> tuple[PlacedCall, ...]:
    return tuple(placed for placed in calls if not placed.call.name.startswith(_MARKS))


def _eager(*, compiled: bool) -> AbstractContextManager[Any]:
    """Compiled code runs as if it were not."""
    if not compiled:
        return nullcontext()
    stance: Any = getattr(torch.compiler, "set_stance", None)  # from torch 2.6 on
    return nullcontext() if stance is None else stance("force_eager")
