"""What becomes of a loop's time, over restarts? Marks in a file that outlives the process, and what they add up to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from hwprof.measure.entries.ledger import Activity, Ledger
from hwprof.measure.entries.loop_hooks import LoopHooks
from hwprof.measure.timing import timer_for
from hwprof.measure.watch.hooks import Hooks
from hwprof.specs.frozen import Record
from hwprof.specs.record.goodput import BookedTime

if TYPE_CHECKING:
    import torch

_EVERY_S = 1.0
"""Between two marks, where no checkpoint calls for one."""

_BESIDE: tuple[Activity, ...] = ("checkpoint", "evaluation", "recompilation")


class Mark(Record):
    """Where a process was.

    Attributes:
        process: its number, from 1.
        at_s: the clock (seconds since 1970).
        steps: that it took.
        training_s, beside_s: what its thread did so far: training, and each of what stands beside it.
        saved_steps, saved_training_s: the same at the end of its last checkpoint.
        over: it ended as it was meant to.
    """

    process: int
    at_s: float
    steps: int = 0
    training_s: float = 0.0
    beside_s: dict[str, float] = Field(default_factory=dict)
    saved_steps: int = 0
    saved_training_s: float = 0.0
    over: bool = False


def booked(marks: Sequence[Mark]) -> BookedTime:
    """What the marks of one training add up to, in the order in which they were written."""
    processes: dict[int, list[Mark]] = {}
    for mark in marks:
        processes.setdefault(mark.process, []).append(mark)
    firsts = [each[0] for each in processes.values()]
    lasts = [each[-1] for each in processes.values()]
    died = lasts[:-1]
    trained_s = sum(mark.training_s for mark in lasts)
    lost_s = sum(mark.training_s - mark.saved_training_s for mark in died)
    lost_steps = sum(mark.steps - mark.saved_steps for mark in died)
    beside = {name: sum(mark.beside_s.get(name, 0.0) for mark in lasts) for name in _BESIDE}
    return BookedTime(
        wall_s=lasts[-1].at_s - firsts[0].at_s,
        steps=sum(mark.steps for mark in lasts) - lost_steps,
        training_s=trained_s - lost_s,
        lost_s=lost_s,
        lost_steps=lost_steps,
        checkpoint_s=beside["checkpoint"],
        evaluation_s=beside["evaluation"],
        recompilation_s=beside["recompilation"],
        restart_s=sum(after.at_s - before.at_s for before, after in zip(lasts, firsts[1:], strict=False)),
        restarts=len(died),
        failure_s=trained_s / len(died) if died else None,
    )


def marks_of(path: Path) -> list[Mark]:
    """What a file says of a training that is not over; the line at which a process died half-way is left out."""
    lines = path.read_text().splitlines() if path.is_file() else []
    found = [Mark.model_validate_json(line) for line in lines if line.endswith("}")]
    return [] if found and found[-1].over else found


class GoodputBook:
    """Books a loop's time into a file, from ``start`` to ``stop``. Mutable: it is written while the loop runs.

    Args:
        path: the file, None = nothing is booked; that of a process that died is gone on with, that of a training that
            was over begins anew.
        now: the clock.

    Attributes:
        booked: what became of the time, once it was stopped.
    """

    def __init__(self, path: Path | None, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._hooks = Hooks([])
        self._ledger: Ledger | None = None
        self._loop: LoopHooks | None = None
        self._marks: list[Mark] = []
        self.booked: BookedTime | None = None
        self._updates_s = 0.0
        self._written_s = 0.0

    def start(
        self,
        root: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        device: torch.device,
        notes: list[str],
    ) -> None:
        """The loop begins, or goes on in a new process."""
        if self._path is None:
            return
        self._hooks = Hooks(notes)
        self._marks = marks_of(self._path)
        if not self._marks and self._path.is_file():
            self._path.unlink()
        process = self._marks[-1].process + 1 if self._marks else 1
        self._ledger = Ledger(timer_for(device), saved=self._saved)
        self._loop = LoopHooks(root, optimizers, self._ledger, self._hooks)
        self._write(Mark(process=process, at_s=self._now()))

    def step(self) -> None:
        """An optimizer step is over."""
        if self._ledger is None or self._loop is None:
            return
        self._loop.look_again()
        found = self._mark(self._ledger.totals_s(), steps=self._marks[-1].steps + 1)
        self._updates_s = self._ledger.totals_s().get("optimizer", 0.0)
        if found.at_s - self._written_s >= _EVERY_S:
            self._write(found)
        else:
            self._keep(found)

    def _saved(self) -> None:
        """A checkpoint is there: of the step under way where its update is done, else of the one before."""
        if self._ledger is None:
            return
        totals_s = self._ledger.totals_s()
        last = self._marks[-1]
        updated = totals_s.get("optimizer", 0.0) > self._updates_s
        found = self._mark(totals_s, steps=last.steps)
        self._write(found.changed(saved_steps=last.steps + updated, saved_training_s=found.training_s))

    def phase(self, name: Activity) -> None:
        """The loop names its phase itself."""
        if self._ledger is not None:
            self._ledger.begin(name)

    def phase_end(self) -> None:
        """That phase is over."""
        if self._ledger is not None:
            self._ledger.end()

    def stop(self) -> None:
        """The loop is over."""
        self._hooks.close()
        if self._ledger is None:
            return
        found = self._mark(self._ledger.totals_s(), steps=self._marks[-1].steps)
        self._ledger.close()
        self._ledger = None
        self._write(found.changed(over=True))
        self.booked = booked(self._marks)

    def _mark(self, totals_s: Mapping[Activity, float], *, steps: int) -> Mark:
        beside_s = {name: totals_s.get(name, 0.0) for name in _BESIDE}
        training_s = sum(totals_s.values()) - sum(beside_s.values())
        return self._marks[-1].changed(at_s=self._now(), steps=steps, training_s=training_s, beside_s=beside_s)

    def _keep(self, mark: Mark) -> None:
        """Of a process its first and its last mark are needed."""
        if len(self._marks) > 1 and self._marks[-2].process == mark.process:
            self._marks.pop()
        self._marks.append(mark)

    def _write(self, mark: Mark) -> None:
        self._written_s = mark.at_s
        self._keep(mark)
        assert self._path is not None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(mark.model_dump()) + "\n")
