"""What does one training step really do? Step and phase times with the profiler off, then a profiled window.

Unprofiled steps come in pairs, one bare and one with phase marks, so that what the marks cost is measured in the same
run. The step time is that of the marked steps; every phase of it is timed on the device's own timeline.
"""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

import torch
from torch.profiler import profile, record_function

from hwprof.measure.annotate import module_ranges, phase_range, profiler, quiet_profiler
from hwprof.measure.attribution import WINDOW, TraceSummary, attribute
from hwprof.measure.contention import waited_s
from hwprof.measure.phases import PhaseMarks
from hwprof.measure.timing import Mark, Timer
from hwprof.measure.trace import allocated_bytes, read_events, spans_of
from hwprof.specs.run import PhaseName, Recording, RunSettings
from hwprof.train.loop import PhaseContext

CHECKPOINT_LIMIT_BYTES = 1e9
"""Largest training state whose save is timed; a larger one would fill disks unasked."""


_BLIND_PROFILER = (
    "torch.profiler saw no kernel of the GPU, so the step is timed but not attributed: another profiler may hold the "
    "GPU's counters (nsys, ncu, dcgm), or this machine may not allow it (CUPTI)"
)
FEWEST_PAIRS = 6
"""A median of fewer samples has no 95 % confidence interval."""


CONTENDED_FRACTION = 0.05
"""Above this share of waiting for a CPU the timed steps are called disturbed."""


DISTURBED_WINDOW = 1.15
"""A profiled window whose steps take more than this times the timed ones is tried again."""

PROFILE_ATTEMPTS = 3


class Loop(Protocol):
    """The part of ``hwprof.train.loop.Trainer`` that the recorder drives."""

    @property
    def model(self) -> torch.nn.Module:
        """The module whose submodules own the kernels."""
        ...

    def step(self, phase: PhaseContext = ...) -> torch.Tensor:
        """One optimizer step; returns its detached loss."""
        ...

    def evaluate(self, phase: PhaseContext = ...) -> float:
        """Mean loss on held-out batches."""
        ...

    def save_checkpoint(self, path: Path, phase: PhaseContext = ...) -> None:
        """Write model and optimizer."""
        ...

    def state_bytes(self) -> float:
        """Bytes of weights, buffers and optimizer state, each storage once."""
        ...


class StepRecorder:
    """Runs the loop and keeps what it saw; ``recording`` may be asked for at any time, also after an error.

    Args:
        loop: the training loop.
        settings: how many steps of each sort.
        timer: the clock of the device.
        device: the device that the loop runs on.
        trace_path: where the Chrome trace of the profiled window goes (``.json.gz``).
        time_budget_s: after this long no further pair of timed steps is begun, once there are ``FEWEST_PAIRS``.
        progress: called with a line of text after each step.
        waited_s: thread-seconds that other processes have kept this one off the CPU so far; None where unknown.
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
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._timer = timer
        self._device = device
        self._trace_path = trace_path
        self._time_budget_s = time_budget_s
        self._progress = progress
        self._waited_s = waited_s
        self._losses: list[torch.Tensor] = []
        self._recorded: list[tuple[Mark, Mark, PhaseMarks]] = []
        self._bare: list[tuple[Mark, Mark]] = []
        self._extra = PhaseMarks(timer)
        self._eval_loss: float | None = None
        self._summary: TraceSummary | None = None
        self._profiled_s: tuple[float, ...] = ()
        self._timeline: tuple[tuple[float, float], ...] = ()
        self._peak_bytes: float | None = None
        self._notes: list[str] = []

    def run(self) -> Recording:
        """Warm up, time, profile, evaluate; returns the whole recording."""
        self.warm_up()
        self.time_steps()
        self.profile_window()
        self.profile_memory()
        self.evaluate()
        self.time_checkpoint()
        return self.recording()

    def warm_up(self) -> None:
        """Steps that let caches, allocators and compilers settle; not timed, their losses are kept."""
        for index in range(self._settings.warmup_steps):
            self._losses.append(self._loop.step())
            self._progress(f"warm-up step {index + 1} of {self._settings.warmup_steps}")
        self._synchronize()

    def time_steps(self) -> None:
        """Pairs of a marked and a bare step, in alternating order so that drift cancels."""
        began, waited_before_s = self._timer.mark(), self._waited_s()
        for index in range(self._settings.steps):
            if index >= FEWEST_PAIRS and self._timer.mark().host_s - began.host_s > self._time_budget_s:
                self._notes.append(
                    f"{index} of {self._settings.steps} timed steps ran: "
                    f"the time budget of {self._time_budget_s:g} s was up"
                )
                break
            order = (self._marked_step, self._bare_step) if index % 2 == 0 else (self._bare_step, self._marked_step)
            for step in order:
                step()
            self._progress(f"timed step {index + 1} of {self._settings.steps}")
        self._synchronize()
        self._note_contention(waited_before_s, elapsed_s=self._timer.mark().host_s - began.host_s)

    def _note_contention(self, waited_before_s: float | None, *, elapsed_s: float) -> None:
        waited_after_s = self._waited_s()
        if waited_before_s is None or waited_after_s is None or elapsed_s <= 0:
            return
        fraction = (waited_after_s - waited_before_s) / elapsed_s
        if fraction > CONTENDED_FRACTION:
            self._notes.append(
                f"other processes used the CPU: this one's threads waited for it {fraction:.0%} of the timed steps, so "
                "step and phase times may be too long; close other programs and run again"
            )

    def _marked_step(self) -> None:
        marks = PhaseMarks(self._timer)
        start = self._timer.mark()
        self._losses.append(self._loop.step(marks))
        self._recorded.append((start, self._timer.mark(), marks))

    def _bare_step(self) -> None:
        start = self._timer.mark()
        self._losses.append(self._loop.step())
        self._bare.append((start, self._timer.mark()))

    def profile_window(self) -> None:
        """A window of steps under torch.profiler, each kernel booked to module, phase and direction.

        A window that ran much slower than the timed steps is tried again, because what disturbed it would be booked to
        whatever ran at the time; the fastest is kept.
        """
        quiet_profiler()
        timed = [self._timer.elapsed_s(start, stop) for start, stop, _ in self._recorded]
        longest_s = statistics.median(timed) * DISTURBED_WINDOW if timed else math.inf
        windows: list[tuple[tuple[float, ...], profile]] = []
        while len(windows) < PROFILE_ATTEMPTS:
            self._progress("profiling")
            windows.append(self._profiled_steps())
            if statistics.median(windows[-1][0]) <= longest_s:
                break
        self._profiled_s, fastest = min(windows, key=lambda window: sum(window[0]))
        if len(windows) > 1:
            self._notes.append(
                f"{len(windows)} windows were profiled, because steps ran slower there; the fastest is kept"
            )
        self._progress("reading the trace")
        self._export(fastest)
        spans = spans_of(read_events(self._trace_path))
        self._summary = attribute(spans, device=self._settings.device, steps=self._settings.profiled_steps)
        if self._summary is None:
            self._notes.append(_BLIND_PROFILER)

    def _profiled_steps(self) -> tuple[tuple[float, ...], profile]:
        """The times of one window's steps, and the profiler that saw them."""
        with self._module_ranges(), profiler(self._device) as session:
            # the first step under the profiler pays its set-up; it lies outside the window
            self._loop.step(phase_range)
            self._synchronize()
            with record_function(WINDOW):
                marks = [self._timer.mark()]
                for _ in range(self._settings.profiled_steps):
                    self._losses.append(self._loop.step(phase_range))
                    marks.append(self._timer.mark())
                self._synchronize()
        return tuple(self._timer.elapsed_s(start, stop) for start, stop in itertools.pairwise(marks)), session

    def profile_memory(self) -> None:
        """One step with the allocator's events on; peak and timeline of allocated bytes."""
        self._progress("memory timeline")
        cuda = self._device.type == "cuda"
        resident_bytes = 0.0 if cuda else self._loop.state_bytes()
        if cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
        with profiler(self._device, memory=True) as session:
            self._losses.append(self._loop.step())
            self._synchronize()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "memory.json"
            session.export_chrome_trace(str(path))
            points = allocated_bytes(read_events(path), device_type=1 if cuda else 0)
        if points:
            start_s = points[0][0]
            self._timeline = tuple((time_s - start_s, size + resident_bytes) for time_s, size in points)
        if cuda:
            self._peak_bytes = float(torch.cuda.max_memory_allocated(self._device))
        elif points:
            self._peak_bytes = max(size for _, size in self._timeline)

    def evaluate(self) -> None:
        """The evaluation pass, timed as a phase outside the step."""
        if self._settings.eval_batches:
            self._progress("evaluation")
            self._eval_loss = self._loop.evaluate(self._extra)

    def time_checkpoint(self) -> None:
        """Time one checkpoint save beside the run, and remove the file again."""
        state_bytes = self._loop.state_bytes()
        if state_bytes > CHECKPOINT_LIMIT_BYTES:
            self._notes.append(
                f"checkpoint save not timed: its {state_bytes / 1e9:.1f} GB are more than "
                f"{CHECKPOINT_LIMIT_BYTES / 1e9:.0f} GB"
            )
            return
        self._progress("checkpoint save")
        with tempfile.TemporaryDirectory(dir=self._trace_path.parent, prefix=".checkpoint-") as folder:
            self._loop.save_checkpoint(Path(folder) / "checkpoint.pt", self._extra)

    def recording(self) -> Recording:
        """What has been seen so far."""
        self._synchronize()
        phases: dict[PhaseName, list[float]] = {}
        for _, _, marks in self._recorded:
            for name, seconds in marks.seconds().items():
                phases.setdefault(name, []).append(seconds)
        for name, seconds in self._extra.seconds().items():
            phases[name] = [seconds]
        summary = self._summary
        return Recording(
            step_samples_s=tuple(self._timer.elapsed_s(start, stop) for start, stop, _ in self._recorded),
            bare_step_samples_s=tuple(self._timer.elapsed_s(start, stop) for start, stop in self._bare),
            profiled_step_samples_s=self._profiled_s,
            phase_samples_s={name: tuple(samples) for name, samples in phases.items()},
            losses=tuple(float(loss) for loss in self._losses),
            eval_loss=self._eval_loss,
            ops=summary.ops if summary else (),
            kernels=summary.kernels if summary else (),
            attribution=summary.attribution if summary else None,
            memory_timeline=_thinned(self._timeline),
            memory_peak_bytes=self._peak_bytes,
            memory_peak_source=self._peak_source(),
            notes=tuple(self._notes),
        )

    def _note_once(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)

    def _peak_source(self) -> str:
        if self._device.type == "cuda":
            return "torch.cuda.max_memory_allocated over one step"
        return "weights and optimizer state, plus the largest sum of live allocations of one step (torch.profiler)"

    def _module_ranges(self) -> AbstractContextManager[None]:
        """Annotated modules; a compiled model can't be seen into."""
        if not self._settings.compile:
            return module_ranges(self._loop.model)
        self._note_once(
            "compiled model: kernels of one graph are fused across modules, so they are booked to the model as a "
            "whole, by direction"
        )
        return nullcontext()

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _export(self, session: profile) -> None:
        partial = self._trace_path.with_name(".partial-" + self._trace_path.name)
        session.export_chrome_trace(str(partial))
        partial.replace(self._trace_path)


def _thinned(timeline: tuple[tuple[float, float], ...], most: int = 600) -> tuple[tuple[float, float], ...]:
    """At most about ``most`` points, always with the peak of each stretch."""
    if len(timeline) <= most:
        return timeline
    stride = -(-len(timeline) // most)
    stretches = (timeline[start : start + stride] for start in range(0, len(timeline), stride))
    return tuple(max(stretch, key=lambda point: point[1]) for stretch in stretches)
