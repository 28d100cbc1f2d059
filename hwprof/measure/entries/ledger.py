"""What does a rank do with its own time between the collectives at which ranks wait for each other?

Every moment of the loop's thread belongs to one activity. Linux says how much of it the thread ran, and how much it
could have run and had no processor (``/proc/<pid>/task/<tid>/schedstat``; kernel documentation, scheduler/sched-stats).
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from hwprof.measure.timing import Mark, Timer
from hwprof.specs.job.settings import PhaseName

Special = Literal["garbage collection", "recompilation", "loading", "communication"]
Activity = PhaseName | Special
"""A phase of the step, or what interrupts it."""

NS = 1e-9


@dataclass(frozen=True, slots=True)
class Spent:
    """Time of one activity: on the clock, running, and without a processor though it could have run; seconds."""

    wall_s: float
    ran_s: float
    delayed_s: float


@dataclass(slots=True)
class Sync:
    """One time at which the loop waited for other ranks: the last collective before it went on.

    Attributes:
        key: which collective: operation and group.
        arrived: when this rank came to it, went_on: when it had it; None while it waits.
        left: when it went on from the one before; None for the first.
        spent: since then, by activity.
    """

    key: str
    arrived: Mark
    left: Mark | None
    spent: dict[Activity, Spent] = field(default_factory=dict)
    went_on: Mark | None = None


@dataclass(frozen=True, slots=True)
class StepEntry:
    """One step: its length, its meetings with other ranks, what it did outside of them, and all of it by activity."""

    began: Mark
    ended: Mark
    counts: bool
    syncs: tuple[Sync, ...]
    spent_s: dict[Activity, float] = field(default_factory=dict)


class _ThreadTimes:
    """Seconds that the thread which made this has run, and was delayed; any thread may ask where Linux says it."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._last = 0.0
        try:
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
            self.read()
        except (OSError, ValueError):
            self._file = -1

    def read(self) -> tuple[float, float]:
        """Running and delayed; the second is 0 where the system does not say."""
        if self._file >= 0:
            ran, delayed, _ = os.pread(self._file, 64, 0).split()
            return int(ran) * NS, int(delayed) * NS
        if threading.get_ident() == self._thread:
            self._last = time.thread_time()
        return self._last, 0.0

    def close(self) -> None:
        """Nothing more is asked."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Ledger:
    """Books the time of a loop's thread. Mutable: it is written while the loop runs, from ``begin`` on.

    Args:
        timer: the clock of the device.
        saved: called when a checkpoint was written.
    """

    def __init__(self, timer: Timer, saved: Callable[[], None] = lambda: None) -> None:
        self._timer = timer
        self._saved = saved
        self._thread = threading.get_ident()
        self._times = _ThreadTimes()
        self._activity: Activity = "data"
        self._around: list[Activity] = []
        self._since = (time.perf_counter(), *self._times.read())
        self._spent: dict[Activity, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        self._of_step: dict[Activity, float] = defaultdict(float)
        self._totals_s: dict[Activity, float] = defaultdict(float)
        self._left: Mark | None = None
        self._pending: Sync | None = None
        self._syncs: list[Sync] = []
        self._began = timer.mark()

    @property
    def _mine(self) -> bool:
        return threading.get_ident() == self._thread

    def _book(self) -> None:
        """The time since the last mark belongs to the activity under way."""
        wall, ran, delayed = self._since
        now = time.perf_counter()
        ran_now, delayed_now = self._times.read()
        total = self._spent[self._activity]
        self._of_step[self._activity] += now - wall
        total[0] += now - wall
        self._totals_s[self._activity] += now - wall
        total[1] += ran_now - ran
        total[2] += delayed_now - delayed
        self._since = (now, ran_now, delayed_now)

    def totals_s(self) -> dict[Activity, float]:
        """Seconds on the clock in each activity, since this was made."""
        self._book()
        return dict(self._totals_s)

    def switch(self, activity: Activity) -> None:
        """A phase of the step begins; inside something special it begins when that ends."""
        if not self._mine:
            return
        if self._around:
            self._around[0] = activity
            return
        self._book()
        self._activity = activity

    def begin(self, activity: Activity) -> None:
        """Something interrupts the phase."""
        if self._mine:
            self._book()
            self._around.append(self._activity)
            self._activity = activity

    def end(self) -> None:
        """The phase goes on."""
        if self._mine and self._around:
            self._book()
            ended, self._activity = self._activity, self._around.pop()
            if ended == "checkpoint" and "checkpoint" not in (self._activity, *self._around):
                self._saved()

    def arrive(self, key: str) -> None:
        """This rank comes to a collective; it may go on meanwhile."""
        self._book()
        spent = {name: Spent(*times) for name, times in self._spent.items()}
        self._pending = Sync(key=key, arrived=self._timer.mark(), left=self._left, spent=spent)

    def wait(self) -> None:
        """It can't go on without what it came to; what it did meanwhile was its own."""
        if self._pending is not None:
            self.arrive(self._pending.key)
            self.begin("communication")

    def go_on(self) -> None:
        """It has what it came to last."""
        if self._pending is None:
            return
        if self._activity == "communication":
            self.end()
        else:
            self._book()
        self._spent.clear()
        self._left = self._pending.went_on = self._timer.mark()
        self._syncs.append(self._pending)
        self._pending = None

    def step(self, *, counts: bool) -> StepEntry:
        """The step under way is over.

        Args:
            counts: whether it ran as steps usually do.
        """
        if self._mine:
            self._book()
        ended = self._timer.mark()
        found = StepEntry(
            began=self._began, ended=ended, counts=counts, syncs=tuple(self._syncs), spent_s=dict(self._of_step)
        )
        self._syncs = []
        self._of_step.clear()
        self._began = ended
        return found

    def close(self) -> None:
        """Nothing more is booked."""
        self._times.close()
