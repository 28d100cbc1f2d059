"""How long does the script's own code take between its calls? Read while it runs, without what watching it takes.

What Python, modules, hooks, autograd and sharded tensors do between two operators really happens, on this machine.
Time inside of this package is left out; what a call takes on its way here, over that of a plain one, is taken off.
It is the processor's time of the thread that calls, so that whatever else the machine does is no part of it.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import get_ident
from time import thread_time
from typing import Any, Self

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes

from hwprof.measure.host.caches import cpu_caches


class HostTime(AbstractContextManager["HostTime"]):
    """A stop-watch that stands while this package works. Mutable: it runs.

    ``with host_time:`` is time that does not count.

    Attributes:
        way_s: what a call takes on its way here and back beside its own work.
    """

    def __init__(self) -> None:
        self._depth, self._spent_s, self._since_s, self._thread = 0, 0.0, thread_time(), get_ident()
        self.way_s = 0.0
        self._memory: np.ndarray[Any, np.dtype[np.float64]] | None = None
        self._swept = 0

    def arrive(self) -> None:
        """A call is here."""
        if self._depth == 1:
            self._spent_s -= self.way_s

    def worked(self, seconds: float) -> None:
        """Something within this package was the script's own work all the same."""
        self._spent_s += seconds

    def sweep(self, size_bytes: int) -> None:
        """Read as many bytes as a call touched, others each time: what follows finds its caches as after that call."""
        if self._memory is None:
            caches = cpu_caches()
            last_bytes = caches[-1].instance_bytes * caches[-1].instances if caches else 0
            self._memory = np.ones(2 * last_bytes // 8)
        words = min(size_bytes // 8, len(self._memory) // 2)
        begin = self._swept if self._swept + words <= len(self._memory) else 0
        self._swept = begin + words
        self._memory[begin : self._swept].sum()

    def __enter__(self) -> Self:
        if not self._depth:
            self._count()
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._since_s, self._thread = thread_time(), get_ident()

    def _count(self) -> None:
        """What this thread has done since; another one's clock says nothing of this one's."""
        now_s, thread = thread_time(), get_ident()
        if thread == self._thread:
            self._spent_s += now_s - self._since_s
        self._since_s, self._thread = now_s, thread

    def take_s(self) -> float:
        """Seconds of the script's own code since it was last asked."""
        if not self._depth:
            self._count()
        spent_s, self._spent_s = self._spent_s, 0.0
        return max(spent_s, 0.0)

    def not_counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose time does not count."""

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return run


SAMPLES, CALLS = 9, 200


def dispatch_s() -> float:
    """Host time of the addition of one number and one number, from Python: as ``latency.dispatch`` is measured."""
    with _disable_current_modes():
        x, y = torch.ones(1), torch.ones(1)
        return _each_s(lambda: torch.add(x, x, out=y))


def way_s(clock: HostTime, written: list[float]) -> float:
    """What a call of one number takes outside of this package until it is here, and back.

    Asked while the script's calls are watched: an addition under a watch, in the time that counts.

    Args:
        clock: the watch.
        written: where the time before each call is written down.
    """
    x = torch.empty(1)
    samples = []
    for _ in range(SAMPLES):
        clock.take_s()
        known = len(written)
        for _ in range(CALLS):
            x + x
        samples.append((sum(written[known:]) + clock.take_s()) / CALLS)
    return statistics.median(samples)


def _each_s(work: Callable[[], object]) -> float:
    samples = []
    for _ in range(SAMPLES):
        start_s = thread_time()
        for _ in range(CALLS):
            work()
        samples.append((thread_time() - start_s) / CALLS)
    return statistics.median(samples)
