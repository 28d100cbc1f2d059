"""How is each step of a training loop watched? Bare, with phase marks, under the profiler; and what was seen.

Unprofiled steps come in pairs, one bare and one with phase marks, so that what the marks cost is measured in the same
run. The step time is that of the marked steps; every phase of it is timed on the device's own timeline.
"""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import record_function

from hwprof.errors import InputError, first_line
from hwprof.measure.attribute.attribution import TraceSummary, attribute, host_events
from hwprof.measure.host.accelerator import DeviceMemory, begin_peaks, peaks, synchronize, table_of
from hwprof.measure.host.contention import waited_fraction, waited_s
from hwprof.measure.timing import Timer
from hwprof.measure.watch.allocations import allocated_over_time, thinned
from hwprof.measure.watch.annotate import event_s, phase_range, profiler, quiet_profiler
from hwprof.measure.watch.owners import Modules
from hwprof.measure.watch.phases import PhaseMarks, marking_s
from hwprof.measure.watch.sessions import ProfilerBusyError, Session, opened
from hwprof.measure.watch.timed import TimedSteps
from hwprof.measure.watch.trace_file import TRACE_LIMIT_BYTES, read_whole, shorten
from hwprof.spans.marks import WINDOW
from hwprof.specs.leftovers import scratch_prefix
from hwprof.specs.measurement import FEWEST_FOR_INTERVAL
from hwprof.specs.record.ranks import Axis, CollectiveCall
from hwprof.specs.record.run import Recording
from hwprof.train.loop import PhaseContext, no_phase
from hwprof.units import format_bytes, format_fraction, format_seconds

Beside = Callable[[float, float], dict[str, float]]
Steps = Generator[PhaseContext, None, None]
"""Yields the phase context of each next step; whoever has the loop takes that step and asks again."""

BLIND_PROFILER = (
    "torch.profiler saw no kernel of the GPU, so the step is timed but not attributed: another profiler may hold the "
    "GPU's counters (nsys, ncu, dcgm), or this machine may not allow it (CUPTI)"
)
BUSY_PROFILER = (
    "the program's own torch.profiler was open in the profiled window, so the step is timed but not attributed: torch "
    "has one session a process, and ours made way; leave it out while hwprof measures"
)
DISTURBED_WINDOW = 1.15
"""A profiled window whose steps take more than this times the timed ones is tried again."""

_NO_FILE = (OSError, RuntimeError, InputError, ProfilerBusyError)
"""How torch and the reader say that a trace could not be written whole: the disk is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The ranks that take the same steps: what one decides, all must.

    Attributes:
        any: whether a flag is set on any rank.
        largest: the largest of all ranks' values.
        whole_axis: the axis of the layout on which all ranks lie, or "data" where they lie on several.
    """

    any: Callable[[bool], bool]
    largest: Callable[[float], float]
    whole_axis: Axis = "data"


def blind_of(kind: str) -> str:
    """What is said where the profiler has no kernels of a kind of device."""
    return f"torch.profiler records no kernels of {kind} here, so the step and its phases are timed but not attributed"


def nothing_beside(_start_s: float, _end_s: float) -> dict[str, float]:
    """No counters are read beside the steps."""
    return {}


ALONE = Ranks(any=bool, largest=float)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """One profiled window: times of its steps, and whether something else than training ran in it."""

    steps_s: tuple[float, ...]
    session: Session
    disturbed: bool


class StepWatch:
    """Watches steps and keeps what it saw; ``recording`` may be asked for at any time, also after an error.

    Args:
        timer: the clock of the device.
        device: the device that the loop runs on.
        trace_path: where the Chrome trace of the profiled window goes (``.json.gz``).
        modules: the modules that own the kernels.
        time_budget_s: after this long no further pair of timed steps is begun, once there are ``FEWEST_FOR_INTERVAL``.
        progress: called with a line of text after each step.
        waited_s: thread-seconds that other processes have kept this one off the CPU so far; None where unknown.
        disturbed: whether something else than training ran in the step just taken; it is then left out.
        ranks: the other ranks that take the same steps, if there are any.
        beside: what counters of the device were on average between two moments of the host's clock.
        window_attempts: how many windows are profiled at most, where they ran slower than the timed steps.
    """

    def __init__(
        self,
        *,
        timer: Timer,
        device: torch.device,
        trace_path: Path,
        modules: Modules,
        time_budget_s: float = math.inf,
        progress: Callable[[str], None] = lambda _: None,
        waited_s: Callable[[], float | None] = waited_s,
        disturbed: Callable[[], bool] = lambda: False,
        ranks: Ranks = ALONE,
        beside: Beside = nothing_beside,
        window_attempts: int = 3,
    ) -> None:
        self._timer = timer
        self._device = device
        self._trace_path = trace_path
        self._modules = modules
        self._time_budget_s = time_budget_s
        self._progress = progress
        self._waited_s = waited_s
        self._disturbed = disturbed
        self._ranks = ranks
        self._beside = beside
        self._counters: dict[str, float] = {}
        self._shapes = ranks is not ALONE
        self._window_attempts = window_attempts
        self._left_out = 0
        self._timed = TimedSteps(timer)
        self._waited: float | None = None
        self._marking_s: float | None = None
        self._profiling_s: float | None = None
        self._summary: TraceSummary | None = None
        self._profiled_s: tuple[float, ...] = ()
        self._timeline: tuple[tuple[float, float], ...] = ()
        self._memory = DeviceMemory()
        self.notes: list[str] = []

    def warm_up(self, steps: int) -> Steps:
        """Steps that let caches, allocators and compilers settle; not timed."""
        for index in range(steps):
            yield PhaseMarks(self._timer)  # thrown away: by them the timer meets the streams that the program uses
            self._disturbed()
            self._progress(f"warm-up step {index + 1} of {steps}")
        self._synchronize()

    def timed(self, pairs: int) -> Steps:
        """Pairs of a marked and a bare step, in alternating order so that drift cancels."""
        began, waited_before_s = self._timer.mark(), self._waited_s()
        for index in range(pairs):
            late = self._timer.mark().host_s - began.host_s > self._time_budget_s
            if index >= FEWEST_FOR_INTERVAL and self._ranks.any(late):
                self.notes.append(
                    f"{index} of {pairs} timed steps ran: the time budget of {format_seconds(self._time_budget_s)} was "
                    "up"
                )
                break
            order = (self._marked_step, self._bare_step) if index % 2 == 0 else (self._bare_step, self._marked_step)
            for step in order:
                yield from step()
            self._progress(f"timed step {index + 1} of {pairs}")
        self._synchronize()
        ended_s = self._timer.mark().host_s
        elapsed_s = ended_s - began.host_s
        self._counters = self._beside(began.host_s, ended_s)
        self._waited = waited_fraction(waited_before_s, self._waited_s(), elapsed_s)
        if self._timed.names:
            self._marking_s = marking_s(self._timer, self._timed.names)

    def _marked_step(self) -> Steps:
        while True:
            self._timed.read_reached()
            marks = PhaseMarks(self._timer)
            start = self._timer.mark()
            yield marks
            stop = self._timer.mark()
            if not self._disturbed():
                self._timed.add(start, stop, marks)
                return
            self._left_out += 1

    def _bare_step(self) -> Steps:
        self._timed.read_reached()
        start = self._timer.mark()
        yield no_phase
        self._timed.add(start, self._timer.mark())

    def profiled(self, steps: int) -> Steps:
        """A window of steps under torch.profiler, each kernel booked to module, phase and direction.

        A window that ran much slower than the timed steps is tried again, because what disturbed it would be booked to
        whatever ran at the time; the fastest is kept.
        """
        quiet_profiler()
        if hidden := self._modules.why_hidden():
            self.notes.append(hidden)
        longest_s = (self._timed.median_s() or math.inf) * DISTURBED_WINDOW
        windows: list[_Window] = []
        try:
            while len(windows) < self._window_attempts:
                self._progress("profiling")
                windows.append((yield from self._window(steps)))
                again = windows[-1].disturbed or statistics.median(windows[-1].steps_s) > longest_s
                if not self._ranks.any(again and not windows[-1].session.lost):
                    break
        except ProfilerBusyError:
            if not windows:
                self.notes.append(BUSY_PROFILER)
                return
        except GeneratorExit:  # a loop that ends during a repetition leaves the windows before it
            if windows and self._ranks is ALONE:  # other ranks may be gone
                self._keep(windows, steps)
            raise
        self._keep(windows, steps)

    def _keep(self, windows: Sequence[_Window], steps: int) -> None:
        """Attribute the best window."""
        slowest_s = [  # one window for all ranks
            self._ranks.largest(math.inf if window.session.lost else sum(window.steps_s)) for window in windows
        ]
        best = min(zip(windows, slowest_s, strict=True), key=lambda pair: (pair[0].disturbed, pair[1]))[0]
        if best.session.lost:
            self.notes.append(BUSY_PROFILER)
            return
        self._profiled_s = best.steps_s
        if len(windows) > 1:
            self.notes.append(
                f"{len(windows)} windows were profiled, because steps ran slower there; the fastest is kept"
            )
        if best.disturbed:
            self.notes.append("an evaluation or a checkpoint ran inside the profiled window, and its time is in it")
        self._progress("reading the trace")
        try:
            self._export(best.session)
            trace = read_whole(self._trace_path)
        except _NO_FILE as error:
            self.notes.append(f"the step is timed but not attributed: its trace could not be kept ({error})")
            return
        self._shorten()
        with suppress(ProfilerBusyError):
            self._profiling_s = host_events(trace) / steps * event_s(self._device, shapes=self._shapes)
        self._summary = attribute(
            trace,
            device=table_of(self._device),
            steps=steps,
            whole_axis=self._ranks.whole_axis,
            graphs=self._modules.graphs.graphs if self._modules.graphs else (),
        )
        if self._summary is None:
            self.notes.append(BLIND_PROFILER if self._device.type in {"cpu", "cuda"} else blind_of(self._device.type))

    def _shorten(self) -> None:
        """The trace file, which was read whole, within its limit."""
        try:
            kept = shorten(self._trace_path, window=WINDOW)
        except OSError as error:
            self.notes.append(f"{self._trace_path.name} could not be shortened ({error})")
            return
        if kept < 1:
            self.notes.append(
                f"{self._trace_path.name} holds the first {format_fraction(kept)} of the profiled window's events: the "
                f"whole is larger than {format_bytes(TRACE_LIMIT_BYTES)}; times and shares are those of the whole"
            )

    def _window(self, steps: int) -> Generator[PhaseContext, None, _Window]:
        """One window of profiled steps."""
        disturbed = False
        with self._modules.ranges(self.notes), opened(profiler(self._device, shapes=self._shapes)) as session:
            # the first step under the profiler pays its set-up; it lies outside the window
            yield phase_range
            self._disturbed()
            self._synchronize()
            with record_function(WINDOW):
                marks = [self._timer.mark()]
                for _ in range(steps):
                    yield phase_range
                    marks.append(self._timer.mark())
                    disturbed |= self._disturbed()
                self._synchronize()
        times_s = tuple(self._timer.elapsed_s(start, stop) for start, stop in itertools.pairwise(marks))
        return _Window(steps_s=times_s, session=session, disturbed=disturbed)

    def memory(self, state_bytes: Callable[[], float]) -> Steps:
        """One step with the allocator's events on; peak and timeline of allocated bytes.

        Args:
            state_bytes: what weights, buffers and optimizer state take; on a CPU they were allocated before.
        """
        self._progress("memory timeline")
        on_host = self._device.type == "cpu"
        before_bytes = state_bytes()
        resident_bytes = before_bytes if on_host else 0.0
        begin_peaks(self._device)
        try:
            with opened(profiler(self._device, memory=True)) as session:
                yield no_phase
                self._disturbed()
                self._synchronize()
        except ProfilerBusyError:
            return
        points = self._allocations(session)
        if points:
            start_s = points[0][0]
            self._timeline = tuple((time_s - start_s, size + resident_bytes) for time_s, size in points)
        self._memory = peaks(self._device)
        if on_host and points:
            self._memory = DeviceMemory(allocated=max(size for _, size in self._timeline))

    def _allocations(self, session: Session) -> list[tuple[float, float]]:
        """Allocated bytes over time, through a file that is not kept."""
        try:
            with tempfile.TemporaryDirectory(prefix=scratch_prefix()) as folder:
                path = Path(folder) / "memory.json"
                session.export(path)
                memory = read_whole(path).memory
        except _NO_FILE as error:
            self.notes.append(f"no memory timeline: its trace could not be written ({error})")
            return []
        return allocated_over_time(memory, self._device.type)

    def recording(self) -> Recording:
        """What has been seen so far; of a device that answers no more, what was read before."""
        broken: tuple[str, ...] = ()
        try:
            self._timed.read()
        except RuntimeError as error:
            broken = (f"the device answers no more, so only steps read before are here ({first_line(error)})",)
        summary = self._summary
        return Recording(
            step_samples_s=tuple(self._timed.marked_s),
            bare_step_samples_s=tuple(self._timed.bare_s),
            waited_fraction=self._waited,
            counters=self._counters,
            marking_s=self._marking_s,
            profiling_s=self._profiling_s,
            profiled_step_samples_s=self._profiled_s,
            phase_samples_s={name: tuple(samples) for name, samples in self._timed.phases_s.items()},
            ops=summary.ops if summary else (),
            kernels=summary.kernels if summary else (),
            attribution=summary.attribution if summary else None,
            memory_timeline=thinned(self._timeline),
            memory_peak_bytes=self._memory.allocated,
            memory_reserved_bytes=self._memory.reserved,
            memory_outside_bytes=self._memory.outside,
            memory_peak_source=self._peak_source(),
            notes=(*self.notes, *self._left_out_notes(), *broken),
        )

    @property
    def calls(self) -> tuple[CollectiveCall, ...]:
        """The collectives of the profiled window."""
        return self._summary.calls if self._summary else ()

    def _left_out_notes(self) -> tuple[str, ...]:
        if not self._left_out:
            return ()
        return (f"{self._left_out} steps with an evaluation or a checkpoint in them are left out of the step time",)

    def _peak_source(self) -> str:
        if self._device.type != "cpu":
            return f"torch.{self._device.type}.max_memory_allocated over one step"
        return "weights and optimizer state, plus the largest sum of live allocations of one step (torch.profiler)"

    def _synchronize(self) -> None:
        synchronize(self._device)

    def _export(self, session: Session) -> None:
        partial = self._trace_path.with_name(".partial-" + self._trace_path.name)
        try:
            session.export(partial)
            partial.replace(self._trace_path)
        finally:
            partial.unlink(missing_ok=True)  # what a full disk left of it
