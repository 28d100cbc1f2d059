"""How does one measurement of a loop go? It says how each next step is watched, and keeps what was seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwprof.loop.conclusions import Seen
from hwprof.loop.counted import CountedStep, counted
from hwprof.loop.schedule import WINDOW_ATTEMPTS, Schedule
from hwprof.measure.capture.step import StepCapture
from hwprof.measure.telemetry.sampler import Telemetry
from hwprof.measure.their_loop.inputs import SeenInputs, see_inputs
from hwprof.measure.their_loop.model import SeenModel, see, state_bytes
from hwprof.measure.their_loop.optimizer import plain_optimizers
from hwprof.measure.their_loop.phase_finder import PhaseFinder
from hwprof.measure.timing import timer_for
from hwprof.measure.watch.sessions import make_way_if_asked, watched_sessions
from hwprof.measure.watch.steps import Steps, StepWatch
from hwprof.specs.measurement import Skipped
from hwprof.specs.record.run import Series

if TYPE_CHECKING:
    import torch

TRACE_FILE = "trace.json.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The loop that is measured.

    Attributes:
        model: what it calls.
        optimizers: what it updates with; empty = whatever optimizer steps.
        device: where it runs.
        tokens_per_step: as the loop says; None = as seen at the model's inputs.
    """

    model: SeenModel
    optimizers: tuple[torch.optim.Optimizer, ...]
    device: torch.device
    tokens_per_step: int | None


def subject_of(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | None,
    tokens_per_step: int | None,
) -> Subject:
    """The loop, by what it calls and what it updates with."""
    seen = see(model)
    return Subject(
        model=seen, optimizers=plain_optimizers(optimizer), device=seen.device, tokens_per_step=tokens_per_step
    )


class Cycle:
    """One measurement, from its first warm-up step to its end.

    Args:
        subject: the loop.
        finder: finds the phases of its steps.
        schedule: which steps are measured.
        folder: where the trace goes.
        progress: told what is going on.

    Attributes:
        done: whether every step of the schedule was taken.
        steps: steps taken so far.
        plain: whether the step under way is timed, with no profiler.
    """

    def __init__(
        self, subject: Subject, finder: PhaseFinder, schedule: Schedule, folder: Path, progress: Callable[[str], None]
    ) -> None:
        self._subject = subject
        self._finder = finder
        self._schedule = schedule
        self._telemetry = Telemetry.of(subject.device)
        self._watch = StepWatch(
            timer=timer_for(subject.device),
            device=subject.device,
            trace_path=folder / TRACE_FILE,
            modules=subject.model.modules,
            progress=progress,
            disturbed=finder.disturbed,
            beside=self._telemetry.means,
            window_attempts=WINDOW_ATTEMPTS,
        )
        self._inputs = SeenInputs()
        self._counted = CountedStep()
        self._state_bytes: dict[str, float] = {}
        self._open = ExitStack()
        self._plan = self._steps()
        self.done = False
        self.steps = -1
        self.plain = False

    def next(self) -> bool:
        """The step before is over and another begins; False once the schedule is done and nothing is left behind."""
        self._finder.end()
        make_way_if_asked()
        self.steps += 1
        if self.steps == 0:
            self._open.enter_context(watched_sessions())
            self._open.enter_context(self._telemetry)
            self._open.enter_context(self._subject.model.modules.listening())
        phase = next(self._plan, None)
        if phase is None:
            self.done = True
            self.close()
            return False
        self._finder.begin(phase)
        return True

    def close(self) -> None:
        """End the measurement where it is; may be called at any time, and again."""
        with ExitStack() as each:  # whatever fails of it, on a device that broke
            each.callback(self._open.close)
            each.callback(self._plan.close)
            each.callback(self._finder.stop)

    def _steps(self) -> Steps:
        schedule = self._schedule
        yield from self._watch.warm_up(1)
        yield from self._count()
        yield from self._watch.warm_up(schedule.warmup - 2)
        self.plain = True
        yield from self._watch.timed(schedule.pairs)
        self.plain = False
        if schedule.profiled:
            yield from self._watch.profiled(schedule.profiled)
            yield from self._watch.memory(self._resident_bytes)

    def _count(self) -> Steps:
        """One step whose operators are recorded."""
        capture = StepCapture(self._subject.model)
        self._finder.on_forward = self._see_inputs
        self._finder.empty_gaps, self._finder.backward_passes = frozenset(), None
        try:
            with capture.open():
                yield capture
        finally:
            self._finder.on_forward = None
        given = self._subject.tokens_per_step
        inputs = self._inputs if given is None else replace(self._inputs, tokens=given)
        self._counted = counted(capture.captured(), inputs)
        self._finder.empty_gaps = self._counted.empty_gaps
        self._finder.backward_passes = self._counted.backward_passes
        self._finder.disturbed()

    def _see_inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._inputs = self._inputs.plus(see_inputs(self._subject.model.core, args, kwargs))

    def _resident_bytes(self) -> float:
        self._state_bytes = state_bytes(self._subject.model.root, self._finder.stepped)
        return sum(self._state_bytes.values())

    def seen(self) -> Seen:
        """What was seen so far."""
        notes = (*self._subject.model.notes, *self._finder.notes, *self._unseen_notes())
        recording = self._watch.recording()
        return Seen(
            module=self._subject.model.spec(),
            recording=recording.changed(notes=(*notes, *recording.notes)),
            counted=self._counted,
            state_bytes=self._state_bytes,
        )

    @property
    def telemetry(self) -> tuple[Series, ...]:
        """What the machine did meanwhile."""
        return self._telemetry.series

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Counters that could not be read."""
        return self._telemetry.skipped

    def _unseen_notes(self) -> tuple[str, ...]:
        """What should have been found in the steps and was not."""
        if self.steps < self._schedule.warmup:
            return ()
        remedies = {
            "forward": "pass what the loop calls to hwprof.profile",
            "backward": "it does not go through torch.autograd.backward",
            "optimizer": "pass the optimizer that steps",
        }
        if self._finder.elsewhere and "forward" not in self._finder.seen:
            return ("the model runs in another thread than the one that calls step(): call step() where the loop is",)
        notes = [
            f'no {name} phase was found: {remedy}, or name it with prof.phase("{name}")'
            for name, remedy in remedies.items()
            if name not in self._finder.seen
        ]
        if self._finder.evaluates_always:
            notes.append("an evaluation runs in every step, so its time is in the step time")
        return tuple(notes)
