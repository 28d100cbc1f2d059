"""What does a comparison say? The versioned schema of what ``hwprof diff --format json`` prints.

A change is (B - A) / A, positive where B is slower or larger. An interval is a 95 % bootstrap interval.
"""

from __future__ import annotations

from typing import Literal

from hwprof.specs.frozen import Record
from hwprof.specs.record.run import Interval

DIFF_SCHEMA_VERSION = 1

ChangeVerdict = Literal["slower", "faster", "within noise", "too few samples"]
DiffOutcome = Literal["passed", "failed", "undecided"]
"""Of ``--fail-if-slower``: undecided where samples are too few, or a change above the limit is within noise."""
DiffLevel = Literal["part", "phase", "module", "operation", "kernel"]


class DiffSide(Record):
    """One of the two: what it is, and its step time."""

    name: str
    kind: Literal["run", "trace"]
    step_median_s: float
    samples: int
    tokens_per_s: float | None = None
    peak_memory_bytes: float | None = None


class DiffStep(Record):
    """The step time of both.

    ``change_fraction`` compares medians, of several ranks each with its own, and is that of the middle rank;
    ``interval`` is its interval, None without enough samples on both sides; ``verdict`` says whether that
    leaves out zero.
    ``tokens_ratio`` is tokens of a step of B over those of one of A, ``rate_change_fraction`` the change of tokens/s;
    None where a side does not count tokens.
    """

    change_s: float
    change_fraction: float
    interval: Interval | None
    verdict: ChangeVerdict
    tokens_ratio: float | None = None
    rate_change_fraction: float | None = None


class DiffRank(Record):
    """One rank's step beside its own in the other set: medians, and whether it is slower beyond noise.

    ``slower`` is None where there are too few samples to tell.
    """

    rank: int
    a_s: float
    b_s: float
    change_fraction: float
    slower: bool | None


class DiffRow(Record):
    """One thing that takes time in the step, per step; None where a side does not have it.

    ``share`` is its part of the change of the step; parts of different levels overlap. ``interval`` is that of
    ``change_s``, None where only totals are known; ``beyond_noise`` says whether it leaves out zero.
    """

    level: DiffLevel
    name: str
    a_s: float | None
    b_s: float | None
    change_s: float
    share: float | None
    interval_s: Interval | None = None
    beyond_noise: bool | None = None
    a_calls: float | None = None
    b_calls: float | None = None


class DiffSetting(Record):
    """A setting or a fact of the machine that differs; None where a side does not say."""

    key: str
    a: str | None
    b: str | None


class DiffReport(Record):
    """The whole of ``hwprof diff --format json``; rows of each level, the largest change first."""

    schema_version: int = DIFF_SCHEMA_VERSION
    hwprof_version: str
    a: DiffSide
    b: DiffSide
    step: DiffStep
    rows: tuple[DiffRow, ...]
    settings: tuple[DiffSetting, ...]
    environment: tuple[DiffSetting, ...]
    limit_fraction: float | None = None
    failed: bool = False
    outcome: DiffOutcome | None = None
    ranks: tuple[DiffRank, ...] = ()
    notes: tuple[str, ...] = ()
