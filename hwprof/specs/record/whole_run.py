"""What happened to the steps of a loop over its whole run? Rare slow steps, drift, memory that grows."""

from __future__ import annotations

from pydantic import Field

from hwprof.specs.frozen import Record


class SlowStep(Record):
    """A step that took far longer than those around it.

    ``cause`` is the activity with most of the excess: loading, checkpoint, garbage collection, recompilation,
    communication, or a phase of the step; empty where none has half of it. ``excess_s`` is the time beyond usual.
    """

    number: int
    step_s: float
    excess_s: float
    cause: str


class WholeRun(Record):
    """Every step but those that a profiler watched, by the host's clock.

    Attributes:
        steps: how many.
        median_s: of them.
        slow: the slowest, the longest first.
        slow_steps: how many were slow, lost_s: what they took beyond usual, together.
        slow_by_cause: how many by cause.
        drift_fraction: median of the last tenth over that of the first, less 1; None with fewer than 20 steps in each.
        drift_interval: 95 %.
        memory_of: "device" as the allocator counts it, "process" resident memory.
        memory_bytes: at the last step; None if unknown.
        memory_growth_bytes_per_step: of memory that grew through all quarters of the run; 0 where it did not.
    """

    steps: int
    median_s: float
    slow: tuple[SlowStep, ...] = ()
    slow_steps: int = 0
    lost_s: float = 0.0
    slow_by_cause: dict[str, int] = Field(default_factory=dict)
    drift_fraction: float | None = None
    drift_interval: tuple[float, float] | None = None
    memory_of: str = ""
    memory_bytes: float | None = None
    memory_growth_bytes_per_step: float | None = None

    @property
    def drifts(self) -> bool:
        """Whether the last steps differ from the first beyond noise, and by more than 2 %."""
        known = self.drift_fraction is not None and self.drift_interval is not None
        return known and abs(self.drift_fraction or 0.0) > _WORTH_SAYING and not _holds_zero(self.drift_interval)


_WORTH_SAYING = 0.02


def _holds_zero(interval: tuple[float, float] | None) -> bool:
    return interval is not None and interval[0] <= 0 <= interval[1]
