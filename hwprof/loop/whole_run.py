"""What changes over a whole run? Slow steps and their causes, drift, memory that grows: two clock readings a step."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwprof.compare.bootstrap import median_ratio_change
from hwprof.specs.record.whole_run import SlowStep, WholeRun
from hwprof.units import format_bytes, format_change, format_seconds

AROUND, FEWEST = 100, 20
"""Steps that say what is usual; before so many, nothing is called slow."""
_MUCH, _FAR = 1.3, 6.0
"""A slow step takes so many times the usual, and lies so many robust deviations above it."""
_DEVIATION_OF_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation (Rousseeuw and Croux 1993)."""
_KEPT = 50
_MEMORY_EVERY = _LEARN_EVERY = 10
_MOST_DRAWN = 500
"""Steps of each end of a run that its drift's noise is drawn from."""
_GROWN = 0.01
"""Memory that grew by less than this share of itself is called steady."""


def _process_bytes() -> float | None:
    """Resident memory of this process (``/proc/self/statm``: pages); None where the system does not say."""
    try:
        return float(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


class RunWatch:
    """Looks at every step. Mutable: it grows by some bytes a step.

    Args:
        device: whose memory is looked at; of a CPU, the process's.
        clock_s: the host's clock. A loop that runs ahead of its device waits for it in the end, so that a step here
            and there is the host's own, and all together are the device's.
    """

    def __init__(self, device: torch.device, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._clock_s = clock_s
        self._memory_of = "device" if device.type == "cuda" else "process"
        self._device = device
        self._times = array("d")
        self._memory = array("d")
        self._around: deque[tuple[float, Mapping[str, float]]] = deque(maxlen=AROUND)
        self._slow: list[SlowStep] = []
        self._count: Counter[str] = Counter()
        self._lost_s = 0.0
        self._since_s: float | None = None
        self._usual_s = self._limit_s = 0.0

    def step(self, number: int, spent: Mapping[Any, float], *, counts: bool) -> None:
        """A step is over.

        Args:
            number: of the step in the loop.
            spent: seconds of the loop's thread by activity.
            counts: whether it ran as steps usually do.
        """
        now_s, since_s = self._clock_s(), self._since_s
        self._since_s = now_s if counts else None
        if since_s is None or not counts:
            return
        self._look(number, now_s - since_s, spent)
        self._times.append(now_s - since_s)
        if len(self._times) % _MEMORY_EVERY == 0:
            self._memory.append(self._memory_bytes() or 0.0)

    def _look(self, number: int, step_s: float, spent: Mapping[Any, float]) -> None:
        if len(self._around) >= FEWEST and step_s > self._limit_s:
            cause = self._cause(spent, step_s - self._usual_s)
            self._keep(SlowStep(number=number, step_s=step_s, excess_s=step_s - self._usual_s, cause=cause))
            return  # what is slow says nothing of what is usual
        self._around.append((step_s, dict(spent)))
        if len(self._times) % _LEARN_EVERY == 0 or len(self._around) <= FEWEST:
            self._learn()

    def _learn(self) -> None:
        """What is usual by now, and from when on a step is slow."""
        times = [each for each, _ in self._around]
        self._usual_s = statistics.median(times)
        spread_s = _DEVIATION_OF_MAD * statistics.median(abs(each - self._usual_s) for each in times)
        self._limit_s = max(_MUCH * self._usual_s, self._usual_s + _FAR * spread_s)

    def _cause(self, spent: Mapping[str, float], excess_s: float) -> str:
        """The activity that took most of the excess, if that is half of it."""
        more = {
            name: time_s - statistics.median(each.get(name, 0.0) for _, each in self._around)
            for name, time_s in spent.items()
        }
        most = max(more, key=lambda name: more[name], default="")
        return most if most and more[most] >= excess_s / 2 else ""

    def _keep(self, slow: SlowStep) -> None:
        self._count[slow.cause] += 1
        self._lost_s += slow.excess_s
        self._slow = sorted([*self._slow, slow], key=lambda one: -one.excess_s)[:_KEPT]

    def _memory_bytes(self) -> float | None:
        if self._memory_of == "device":
            return float(torch.cuda.memory_allocated(self._device))
        return _process_bytes()

    def metrics(self) -> dict[str, float]:
        """What loggers get beside the step time."""
        if not self._times:
            return {}
        values: dict[str, float | None] = {
            "slow_steps": float(sum(self._count.values())),
            "slow_steps_lost_s": self._lost_s,
            "drift": self._drift(),
            "memory_bytes": self._memory[-1] if self._memory else None,
            "memory_growth_bytes_per_step": growth(self._memory) / _MEMORY_EVERY if self._memory else None,
        }
        values |= {f"slow_steps/{cause or 'not clear'}": float(many) for cause, many in self._count.items()}
        return {f"hwprof/{name}": value for name, value in values.items() if value is not None}

    def _ends(self) -> tuple[list[float], list[float]]:
        """Some of the steps of the first tenth and of the last, evenly; empty with fewer than 20 in each."""
        tenth = len(self._times) // 10
        if tenth < FEWEST:
            return [], []
        every = max(tenth // _MOST_DRAWN, 1)
        return list(self._times[:tenth:every]), list(self._times[-tenth::every])

    def _drift(self) -> float | None:
        first, last = self._ends()
        return statistics.median(last) / statistics.median(first) - 1 if first else None

    def found(self) -> WholeRun | None:
        """All that was seen so far; None before the first step that counts."""
        if not self._times:
            return None
        first, last = self._ends()
        return WholeRun(
            steps=len(self._times),
            median_s=float(np.median(self._times)),
            slow=tuple(self._slow),
            slow_steps=sum(self._count.values()),
            lost_s=self._lost_s,
            slow_by_cause=dict(self._count),
            drift_fraction=self._drift(),
            drift_interval=median_ratio_change(first, last) if first else None,
            memory_of=self._memory_of if self._memory else "",
            memory_bytes=self._memory[-1] if self._memory else None,
            memory_growth_bytes_per_step=growth(self._memory) / _MEMORY_EVERY if self._memory else None,
        )


def growth(samples: array[float]) -> float:
    """Growth from one sample to the next, of memory that grew through all quarters; 0 where it did not.

    The first quarter is left out of the slope: caches fill at the beginning.
    """
    values = np.asarray(samples)
    quarters = [float(np.median(part)) for part in np.array_split(values, 4)] if len(values) >= FEWEST else []
    grew = all(later > earlier for earlier, later in itertools.pairwise(quarters))
    if not quarters or not grew or quarters[-1] - quarters[1] < _GROWN * quarters[-1]:
        return 0.0
    return (quarters[-1] - quarters[1]) / (len(values) / 2)


def run_words(found: WholeRun) -> Iterator[str]:
    """What is worth saying of a whole run, in sentences."""
    if found.slow_steps:
        causes = ", ".join(f"{many} {cause or 'not clear'}" for cause, many in found.slow_by_cause.items())
        yield (
            f"{found.slow_steps} of {found.steps} steps were far slower than usual ({causes}) and took "
            f"{format_seconds(found.lost_s)} more; the slowest, step {found.slow[0].number}, "
            f"{format_seconds(found.slow[0].step_s)} where {format_seconds(found.median_s)} is usual"
        )
    if found.drifts and found.drift_fraction is not None:
        yield f"the last tenth of {found.steps} steps is {format_change(found.drift_fraction)} against the first"
    if found.memory_growth_bytes_per_step:
        grown = format_bytes(found.memory_growth_bytes_per_step)
        yield f"memory of the {found.memory_of} grew by {grown} a step all the time"
