"""What does one training step of hwprof's own loop really do? Takes its steps as the watch asks, then evaluates."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from hwprof.errors import WorkError
from hwprof.measure.host.contention import waited_s
from hwprof.measure.timing import Timer
from hwprof.measure.watch.owners import Modules
from hwprof.measure.watch.phases import PhaseMarks
from hwprof.measure.watch.steps import ALONE, Beside, Ranks, Steps, StepWatch, nothing_beside
from hwprof.specs.record.ranks import CollectiveCall
from hwprof.specs.record.run import Recording, RunSettings
from hwprof.train.loop import PhaseContext
from hwprof.units import format_bytes

CHECKPOINT_LIMIT_BYTES = 1e9
"""Largest training state whose save is timed; a larger one would fill disks unasked."""

COMPILED_NOTE = "compiled model: kernels are fused across modules, and are booked to the model as a whole, by direction"


class Loop(Protocol):
    """The part of ``hwprof.train.loop.Trainer``, or of a ``Generator``, that the recorder drives."""

    @property
    def model(self) -> torch.nn.Module:
        """The module whose submodules own the kernels."""
        ...

    def step(self, phase: PhaseContext = ...) -> torch.Tensor:
        """One optimizer step, which returns its detached loss; or one that generates, which returns tokens."""
        ...

    def state_bytes(self) -> float:
        """Bytes of weights, buffers and optimizer state, each storage once."""
        ...


@runtime_checkable
class Trained(Loop, Protocol):
    """What a training loop has beside its steps."""

    def evaluate(self, phase: PhaseContext = ...) -> float:
        """Mean loss on held-out batches."""
        ...

    def save_checkpoint(self, path: Path, phase: PhaseContext = ...) -> None:
        """Write model and optimizer."""
        ...


def _readable(losses: Iterable[torch.Tensor]) -> Iterator[float]:
    """Losses as numbers, up to the first that a broken device does not give any more."""
    for loss in losses:
        try:
            yield float(loss)
        except RuntimeError:
            return


class StepRecorder:
    """Runs the loop and keeps what it saw; ``recording`` may be asked for at any time, also after an error.

    Args:
        loop: the training loop.
        settings: how many steps of each sort.
        timer: the clock of the device.
        device: the device that the loop runs on.
        trace_path: where the Chrome trace of the profiled window goes (``.json.gz``).
        time_budget_s: after this long no further pair of timed steps is begun, once a median has an interval.
        progress: called with a line of text after each step.
        waited_s: thread-seconds that other processes have kept this one off the CPU so far; None where unknown.
        ranks: the other ranks that run the same loop, if there are any.
        beside: what counters of the device were on average between two moments of the host's clock.
    """

    def __init__(
        self,
        loop: Loop,
        settings: RunSettings,
        *,
        timer: Timer,
        device: torch.device,
        trace_path: Path,
        time_budget_s: float = math.inf,
        progress: Callable[[str], None] = lambda _: None,
        waited_s: Callable[[], float | None] = waited_s,
        ranks: Ranks = ALONE,
        beside: Beside = nothing_beside,
    ) -> None:
        self._loop = loop
        self._trained = loop if isinstance(loop, Trained) else None
        self._settings = settings
        self._trace_path = trace_path
        self._progress = progress
        self._modules = Modules.compiled(loop.model, COMPILED_NOTE) if settings.compile else Modules.of(loop.model)
        self._watch = StepWatch(
            timer=timer,
            device=device,
            trace_path=trace_path,
            modules=self._modules,
            time_budget_s=time_budget_s,
            progress=progress,
            waited_s=waited_s,
            ranks=ranks,
            beside=beside,
        )
        self._ranks = ranks
        self._losses: list[torch.Tensor] = []
        self._timer = timer
        self._extra = PhaseMarks(timer)
        self._eval_loss: float | None = None

    def run(self) -> Recording:
        """Warm up, time, profile; of training evaluate, too. Returns the whole recording."""
        with self._modules.listening():
            self.warm_up()
            self.time_steps()
            self.profile_window()
            self.profile_memory()
        self.evaluate()
        self.time_checkpoint()
        return self.recording()

    def warm_up(self) -> None:
        """Steps that are not timed."""
        self._take(self._watch.warm_up(self._settings.warmup_steps))

    def time_steps(self) -> None:
        """Pairs of a marked and a bare step."""
        self._take(self._watch.timed(self._settings.steps))

    def profile_window(self) -> None:
        """A window of steps under torch.profiler."""
        self._take(self._watch.profiled(self._settings.profiled_steps))

    def profile_memory(self) -> None:
        """One step with the allocator's events on."""
        self._take(self._watch.memory(self._loop.state_bytes))

    def _take(self, steps: Steps) -> None:
        for phase in steps:
            made = self._loop.step(phase)
            if self._trained:
                self._losses.append(made)

    def evaluate(self) -> None:
        """The evaluation pass, timed as a phase outside the step."""
        if self._trained and self._settings.eval_batches:
            self._progress("evaluation")
            self._eval_loss = self._trained.evaluate(self._extra)

    def time_checkpoint(self) -> None:
        """Time one checkpoint save beside the run, and remove the file again."""
        loop = self._trained
        if loop is None:
            return
        state_bytes = loop.state_bytes()
        if self._ranks.any(state_bytes > CHECKPOINT_LIMIT_BYTES):
            self._watch.notes.append(
                f"checkpoint save not timed: its {format_bytes(state_bytes)} are more than "
                f"{format_bytes(CHECKPOINT_LIMIT_BYTES)}"
            )
            return
        self._progress("checkpoint save")
        marks = PhaseMarks(self._timer)
        try:
            with tempfile.TemporaryDirectory(dir=self._trace_path.parent, prefix=".checkpoint-") as folder:
                loop.save_checkpoint(Path(folder) / "checkpoint.pt", marks)
        except (OSError, WorkError) as error:
            self._watch.notes.append(f"checkpoint save not timed: {error}")
        else:
            self._extra.marks += marks.marks

    @property
    def calls(self) -> tuple[CollectiveCall, ...]:
        """The collectives of the profiled window."""
        return self._watch.calls

    def recording(self) -> Recording:
        """What has been seen so far."""
        seen = self._watch.recording()
        beside = {name: (seconds,) for name, seconds in self._extra.seconds().items()}
        return seen.changed(
            phase_samples_s=seen.phase_samples_s | beside,
            losses=tuple(_readable(self._losses)),
            eval_loss=self._eval_loss,
        )
