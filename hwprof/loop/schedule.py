"""Which steps of a loop are measured, and how?"""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.errors import InputError

WINDOW_ATTEMPTS = 3
"""A disturbed profiled window is repeated until there are so many."""

_LEAST = {"warmup": 2, "timed": 2, "profiled": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The steps that one measurement takes, in this order; the loop itself runs on unchanged.

    Attributes:
        warmup: steps that let caches, allocators and compilers settle. During the second one every torch operator is
            recorded, which makes that step slower.
        timed: steps with the profiler off, half of them with phase marks and half bare; 12 or more for a 95 % interval.
        profiled: steps under torch.profiler, after one that pays its set-up, and before one that records memory;
            0 = none. A window that ran much slower than the timed steps is repeated, at most twice.
        every: measure again so many steps after the last measurement ended; None = once.

    Raises:
        InputError: a number is too small.
    """

    warmup: int = 5
    timed: int = 20
    profiled: int = 3
    every: int | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise InputError(
                    f"schedule: {name} = {getattr(self, name)}",
                    expectation=f"expected {least} or more",
                    remedy=f"write for example Schedule({name}={getattr(Schedule(), name)})",
                )
        if self.every is not None and self.every < 1:
            raise InputError(f"schedule: every = {self.every}", expectation="expected 1 or more steps, or None")

    @property
    def pairs(self) -> int:
        """Pairs of a marked and a bare step."""
        return -(-self.timed // 2)

    @property
    def steps(self) -> int:
        """Steps of one measurement, if no window is repeated and no step left out."""
        return self.warmup + 2 * self.pairs + (self.profiled + 2 if self.profiled else 0)

    @property
    def most_steps(self) -> int:
        """The same with every window repeated as often as may be."""
        return self.steps + (WINDOW_ATTEMPTS - 1) * (self.profiled + 1 if self.profiled else 0)
