"""What is logged while the loop runs on? Step time and rates of the steps since the last entry; shares as measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from hwprof.specs.record.run import RunRecord


class Logger(Protocol):
    """Where metrics go: the shape of torchtitan's loggers, so that one of those will do."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Write the metrics of a step."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


class LiveMetrics:
    """Turns the times between steps into metrics, and hands them to the loggers.

    Args:
        loggers: where they go.
        every: steps between two entries.
        clock_s: the host's clock. A loop that runs ahead of its device waits for it now and then, so over several
            steps the host's time is the device's.

    Attributes:
        latest: what was logged last.
        beside: asked for more metrics with every entry.
    """

    def __init__(
        self, loggers: Sequence[Logger], *, every: int, clock_s: Callable[[], float] = time.perf_counter
    ) -> None:
        self._loggers = loggers
        self._every = every
        self._clock_s = clock_s
        self._since_s: float | None = None
        self._steps = 0
        self._record: RunRecord | None = None
        self.latest: dict[str, float] = {}
        self.beside: Callable[[], Mapping[str, float]] = dict

    def learn(self, record: RunRecord, number: int) -> None:
        """Rates and shares follow from this record from now on; what it measured is the first entry.

        Args:
            record: of the measurement that has ended.
            number: of the step in the loop.
        """
        self._record = record
        if record.step is not None:
            self._log(record.step.median_s, number)

    def step(self, number: int, *, watched: bool) -> None:
        """A step is over.

        Args:
            number: of the step in the loop.
            watched: whether it was measured, and so slower than usual; the time up to here then says nothing.
        """
        if watched or self._since_s is None:
            self._since_s, self._steps = self._clock_s(), 0
            return
        self._steps += 1
        if self._steps < self._every:
            return
        now_s = self._clock_s()
        self._log((now_s - self._since_s) / self._steps, number)
        self._since_s, self._steps = now_s, 0

    def _log(self, step_s: float, number: int) -> None:
        self.latest = {**metrics(self._record, step_s=step_s), **self.beside()}
        for logger in self._loggers:
            logger.log(self.latest, number)

    def close(self) -> None:
        """Close the loggers."""
        for logger in self._loggers:
            logger.close()


def metrics(record: RunRecord | None, *, step_s: float) -> dict[str, float]:
    """What is known of a step that took so long.

    Rates are those of the counted work at this step time. Shares of the step by bound class and exposed communication
    are those of the last profiled window. What is not known is left out.
    """
    found: dict[str, float | None] = {"step_time_s": step_s}
    if record is not None and record.step is not None:
        step = record.step
        scale = step.median_s / step_s
        rates = {name: getattr(step, name) for name in ("tokens_per_s", "samples_per_s", "mfu", "hfu")}
        found |= {name: None if rate is None else rate * scale for name, rate in rates.items()}
    if record is not None and record.verdict is not None:
        found |= {f"bound_share/{bound}": share for bound, share in record.verdict.shares.items()}
    if record is not None and record.attribution is not None:
        attribution = record.attribution
        found["exposed_communication_share"] = attribution.exposed_communication_s / attribution.step_s
    return {f"hwprof/{name}": value for name, value in found.items() if value is not None}
