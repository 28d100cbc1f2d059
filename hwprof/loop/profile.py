"""How does a person profile a loop of their own? ``with hwprof.profile(model, optimizer) as prof: ... prof.step()``."""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, get_args

from hwprof.errors import InputError
from hwprof.loop.ceilings import KnownCeilings, known_ceilings
from hwprof.loop.conclusions import Seen, concluded
from hwprof.loop.cycle import TRACE_FILE, Cycle, Subject, subject_of
from hwprof.loop.frames import frame_of
from hwprof.loop.goodput import GoodputBook
from hwprof.loop.live import LiveMetrics, Logger
from hwprof.loop.schedule import Schedule
from hwprof.loop.together import Together
from hwprof.loop.whole_run import RunWatch, run_words
from hwprof.measure.host.accelerator import kind_of
from hwprof.measure.host.environment import environment
from hwprof.measure.host.identity import identify
from hwprof.measure.their_loop.optimizer import implementation
from hwprof.measure.their_loop.phase_finder import PhaseFinder
from hwprof.measure.their_loop.world import matmul_precision, world
from hwprof.plan.advice.loops import recommend_loop
from hwprof.report.files.folder import claimed
from hwprof.report.files.run import cleared, write_record, write_run
from hwprof.report.html import render_notebook
from hwprof.report.run.text import plain_summary
from hwprof.report.run.view import build_view
from hwprof.specs.leftovers import scratch_prefix
from hwprof.specs.record.loop import LoopSettings
from hwprof.specs.record.run import PhaseName, RunRecord, Status
from hwprof.specs.record.stragglers import Stragglers
from hwprof.version import __version__

if TYPE_CHECKING:
    import pandas as pd
    import torch

Progress = Callable[[str], None]


def profile(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | None = None,
    *,
    schedule: Schedule | None = None,
    ceilings: str | Path | None = None,
    output: str | Path | None = None,
    goodput: str | Path | None = None,
    loggers: Sequence[Logger] = (),
    log_every: int = 10,
    tokens_per_step: int | None = None,
    progress: Progress = lambda _: None,
) -> Profile:
    """Measure what a training loop does, while it runs; call ``step()`` of the result after each optimizer step.

    >>> with hwprof.profile(model, optimizer, output="report") as prof:  # doctest: +SKIP
    ...     for batch in loader:
    ...         train_step(batch)
    ...         prof.step()

    Args:
        model: what the loop calls: a module, or what it was wrapped in.
        optimizer: one or several; None = every optimizer of the program.
        schedule: which steps are measured; by default 31 of them, once.
        ceilings: ``"measure"`` spends some 15 s on them before the first step; a path is a calibration that
            ``hwprof probe`` saved; ``"datasheet"`` measures nothing; None = those that were measured on this machine
            before, else measured now and kept in ``~/.cache/hwprof`` (or as HWPROF_CEILINGS says).
        output: where the report is written at the end; None = only where ``report`` is called.
        goodput: a file in which the whole loop's time is booked, over restarts (rank 0 alone).
        loggers: get metrics while the loop runs on (rank 0 alone); they are closed at the end.
        log_every: steps between two entries.
        tokens_per_step: of this rank; None = as seen at the model's inputs.
        progress: called with a line of text on what is going on.

    Raises:
        InputError: no module, an optimizer that is none, a calibration that can't be read or is another device's.
    """
    subject = subject_of(model, optimizer, tokens_per_step)
    if log_every < 1:
        raise InputError(f"log_every = {log_every}", expectation="expected 1 or more steps")
    return Profile(
        subject,
        schedule=schedule or Schedule(),
        ceilings=ceilings,
        output=None if output is None else Path(output),
        goodput=None if goodput is None or world()[0] else Path(goodput),
        live=LiveMetrics(loggers if world()[0] == 0 else (), every=log_every),
        progress=progress,
    )


class Profile:
    """A measurement of a training loop, under way or done; made by ``hwprof.profile``.

    What goes wrong in measuring ends the measurement with a warning and never the loop; the record says what it was.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        schedule: Schedule,
        ceilings: str | Path | None,
        output: Path | None,
        goodput: Path | None,
        live: LiveMetrics,
        progress: Progress,
    ) -> None:
        self._subject = subject
        self._schedule = schedule
        self._source = ceilings
        self._output = output
        self._live = live
        self._progress = progress
        self._book = GoodputBook(goodput)
        self._together = Together(subject.model.root, subject.optimizers, subject.device, self._book)
        self._whole = RunWatch(subject.device)
        live.beside = self._whole.metrics
        self._stragglers: Stragglers | None = None
        self._finder = PhaseFinder(subject.model.root, subject.optimizers)
        self._folder = Path(tempfile.mkdtemp(prefix=scratch_prefix()))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._started = ""
        self._known: KnownCeilings | None = None
        self._cycle: Cycle | None = None
        self._measured: RunRecord | None = None
        self._failure = ""
        self._stopped = False
        self._steps = self._ended_at = 0
        self._loop_failed = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop_failed = error is not None
        self.stop()

    def start(self) -> None:
        """Begin to measure; ``with`` does so by itself.

        Raises:
            InputError: the calibration can't be read, or is another device's; or this profile was started before.
        """
        if self._cycle is not None:
            raise InputError(
                "this profile was started before",
                expectation="one profile measures one loop",
                remedy="make another with hwprof.profile(...), or give Schedule(every=...) to measure again",
            )
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        identity, spec = identify(self._subject.device)
        self._known = known_ceilings(self._source, self._subject.device, spec, self._progress)
        self._fields: dict[str, Any] = {
            "created": self._started,
            "environment": environment(self._subject.device),
            "device": identity,
        }
        self._guarded(self._together.start, else_said="who waits for whom is not watched")
        self._begin_cycle()

    def step(self) -> None:
        """One optimizer step of the loop is over; call it after each, at the same place in the loop.

        Raises:
            InputError: the measurement was not started.
        """
        cycle = self._started_cycle
        self._steps += 1
        self._whole.step(self._steps, self._together.step(counts=self._counts), counts=self._counts)
        self._guarded(self._book.step, else_said="the time is not booked")
        if not self._failure and not self._stopped:
            self._guarded(lambda: self._advance(cycle))

    def phase(self, name: PhaseName, *, inputs: Any = None) -> AbstractContextManager[None]:
        """Name a phase of the step by hand; nothing is looked for inside it.

        Args:
            name: "data", "host_to_device", "forward", "loss", "backward", "clip" or "optimizer" of the step, or
                "evaluation" or "checkpoint" beside it.
            inputs: of a forward pass that is named by hand: the batch, whose shapes the report shows.

        Raises:
            InputError: there is no such phase.
        """
        if name not in get_args(PhaseName):
            raise InputError(f"{name!r} is no phase", expectation=f"expected one of {', '.join(get_args(PhaseName))}")
        return self._named(name, inputs)

    @contextmanager
    def _named(self, name: PhaseName, inputs: Any) -> Iterator[None]:
        self._together.phase(name)
        try:
            with self._finder.by_hand(name, inputs):
                yield
        finally:
            self._together.phase_end()

    @property
    def _counts(self) -> bool:
        """Whether the step just taken ran as steps usually do: it was no warm-up, and no profiler saw it."""
        return self._cycle is not None and (self._cycle.done or self._cycle.plain)

    def leave_out_step(self) -> None:
        """Something else than training happens in the step under way: leave it out of what is measured."""
        self._finder.leave_out()

    def stop(self) -> None:
        """End the measurement, leave nothing behind in model, optimizer or torch, and write the report if asked to.

        A report that can't be written is a warning: what the program does after its loop still has to be done. Further
        calls do nothing.
        """
        if self._stopped:
            return
        self._stopped = True
        if self._cycle is not None:
            self._guarded(self._cycle.close)
        self._guarded(self._conclude, else_said="who waits for whom is not known")
        self._guarded(self._live.close, else_said="a logger was not closed")
        output = self._output
        if output is not None:
            self._guarded(lambda: self.report(output), else_said="the report was not written")

    def _conclude(self) -> None:
        self._stragglers = self._together.stop()

    @property
    def done(self) -> bool:
        """Whether every step of the schedule was taken."""
        return self._measured is not None

    @property
    def metrics(self) -> dict[str, float]:
        """What was logged last."""
        return dict(self._live.latest)

    @property
    def record(self) -> RunRecord:
        """All that was found so far: the last whole measurement, else what there is of the first.

        Raises:
            InputError: nothing was begun.
        """
        record, whole = self._seen_record, self._whole.found()
        notes = (*record.notes, *self._together.notes, *(run_words(whole) if whole else ()))
        found = {"stragglers": self._stragglers, "whole_run": whole, "goodput": self._book.booked, "notes": notes}
        return (record := record.changed(**found)).changed(recommendations=recommend_loop(record))

    @property
    def _seen_record(self) -> RunRecord:
        """What was found on this rank alone."""
        if self._measured is not None:
            return self._measured
        cycle = self._started_cycle
        if self._failure:
            return self._record(cycle, "failed", self._failure)
        taken = max(cycle.steps, 0)
        needed = f"{self._schedule.steps} steps, or {self._schedule.most_steps} where disturbed windows are repeated"
        return self._record(
            cycle, "partial", f"the loop ended after {taken} step{'s' * (taken != 1)}; the schedule needs {needed}"
        )

    def report(self, directory: str | Path) -> Path:
        """Write the run directory, as ``hwprof run`` does, in place of an earlier one; ``hwprof view`` renders it anew.

        Each rank but rank 0 has a folder of its own in it.

        Returns:
            The directory that this rank wrote.

        Raises:
            InputError: nothing was begun.
            WorkError: a file can't be written, or another program writes into the directory.
        """
        record, target = self.record, Path(directory)
        if record.rank:
            target = target / f"rank-{record.rank}"
        trace = self._folder / TRACE_FILE
        with claimed(target):
            cleared(target, ranks=record.world_size)
            if trace.is_file():
                shutil.copyfile(trace, target / TRACE_FILE)
            if record.rank:
                write_record(record, target)
            else:
                write_run(record, target)
                print(f"hwprof: the report is {target / 'report.html'}", file=sys.stderr)  # noqa: T201
        return target

    def summary(self) -> str:
        """The findings in lines of text."""
        return plain_summary(build_view(self.record))

    def to_pandas(self, table: str = "ops") -> pd.DataFrame:
        """One of the tables of the record; its columns have the units in their names.

        Args:
            table: "ops", "phases", "kernels", "layer_kinds", "ceilings" or "steps".

        Raises:
            InputError: there is no such table.
        """
        return frame_of(self.record, table)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return render_notebook(build_view(self.record)) if self._cycle is not None else "hwprof: not started"

    def __repr__(self) -> str:
        state = "done" if self.done else "failed" if self._failure else "under way" if self._cycle else "not started"
        return f"<hwprof.Profile of {self._subject.model.spec().name}: {state}, {self._steps} steps>"

    def _begin_cycle(self) -> None:
        self._cycle = Cycle(self._subject, self._finder, self._schedule, self._folder, self._progress)
        self._guarded(self._cycle.next)

    @property
    def _started_cycle(self) -> Cycle:
        if self._cycle is None:
            raise InputError("this profile was not started", remedy="use it in a with statement, or call start()")
        return self._cycle

    def _advance(self, cycle: Cycle) -> None:
        watched = not cycle.done
        self._live.step(self._steps, watched=watched)
        if watched:
            if not cycle.next():
                self._ended_at = self._steps
                self._measured = self._record(cycle, "complete", "")
                self._live.learn(self._measured, self._steps)
        elif self._steps - self._ended_at == self._schedule.every:
            self._begin_cycle()

    def _guarded(self, action: Callable[[], object], *, else_said: str = "measuring stopped") -> None:
        """Act; an error ends the measurement and is told, and the loop goes on."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 (whatever it is, somebody's training must not end for it)
            self._failure = f"{else_said}: {type(error).__name__}: {error}"
            if not self._loop_failed:  # else the program's own error says more, and must come out
                warnings.warn(f"hwprof: {self._failure}; the loop itself goes on", RuntimeWarning, stacklevel=4)
            if self._cycle is not None:
                with suppress(Exception):
                    self._cycle.close()

    def _record(self, cycle: Cycle, status: Status, note: str) -> RunRecord:
        assert self._known is not None
        rank, size = world()
        seen = cycle.seen()
        record = RunRecord(
            hwprof_version=__version__,
            status=status,
            status_note=note,
            command=" ".join(sys.argv),
            settings=self._settings(seen),
            model=seen.module,
            world_size=size,
            rank=rank,
            ceilings=self._known.ceilings,
            skipped=(*self._known.skipped, *cycle.skipped),
            telemetry=cycle.telemetry,
            notes=self._known.notes,
            **self._fields,
        )
        return concluded(record, seen)

    def _settings(self, seen: Seen) -> LoopSettings:
        subject, counted = self._subject, seen.counted
        optimizers = subject.optimizers or tuple(self._finder.stepped)
        return LoopSettings(
            model=seen.module.name,
            device=kind_of(subject.device),
            dtype=matmul_precision(counted.dtype, subject.device),
            inputs=counted.inputs.described,
            gradient_accumulation=counted.backward_passes,
            samples_per_step=counted.inputs.rows,
            tokens_per_step=counted.inputs.tokens,
            optimizer=" and ".join(type(one).__name__ for one in optimizers),
            optimizer_implementation=implementation(optimizers, subject.device),
            recompute="seen" if counted.recompute else "none",
            compile=subject.model.compiled,
            warmup_steps=self._schedule.warmup,
            steps=self._schedule.pairs,
            profiled_steps=self._schedule.profiled,
        )
