"""Did the ranks of a program get slower, each beside itself? Ranks differ, so they are paired, never pooled.

All ranks of a step wait for each other, so that their steps are no independent samples: steps are drawn again for all
ranks together, ranks beside each other. Where a rank has too few steps to tell its own noise, what the ranks' changes
differ by is the noise; that takes five ranks (five that agree by chance: 1/16 of all cases, either way).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.compare.bootstrap import FEWEST, LEVEL, RESAMPLES, SEED

FEWEST_RANKS = 5
_FAR = 5.0
"""How many robust deviations of the other ranks' changes make one rank's change its own."""
_DEVIATION_OF_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation (Rousseeuw and Croux 1993)."""

Samples = Mapping[int, Sequence[float]]
"""Rank -> times of its steps, in order."""


@dataclass(frozen=True, slots=True)
class Paired:
    """How the step time changed, of all ranks and of each; fractions of A's.

    Attributes:
        change: the middle rank's.
        interval: 95 %, None with too few samples.
        by_rank: each common rank's change, and whether it is slower beyond noise; None where that can't be told.
    """

    change: float
    interval: tuple[float, float] | None
    by_rank: Mapping[int, tuple[float, bool | None]]


def paired_change(a: Samples, b: Samples) -> Paired | None:
    """The change from A to B over the ranks that both have; None where they have none in common."""
    ranks = sorted(rank for rank in a if a[rank] and b.get(rank))
    if not ranks:
        return None
    changes = np.array([np.median(b[rank]) / np.median(a[rank]) - 1 for rank in ranks])
    fewest = min(min(len(a[rank]), len(b[rank])) for rank in ranks)
    drawn = _drawn(a, b, ranks, steps=fewest >= FEWEST)
    enough = fewest >= FEWEST or len(ranks) >= FEWEST_RANKS
    interval = tuple(np.quantile(np.median(drawn, axis=1), LEVEL).tolist()) if enough else None
    slower = _slower(changes, drawn, steps=fewest >= FEWEST)
    return Paired(
        change=float(np.median(changes)),
        interval=(interval[0], interval[1]) if interval else None,
        by_rank={rank: (change, found) for rank, change, found in zip(ranks, changes.tolist(), slower, strict=True)},
    )


def _drawn(a: Samples, b: Samples, ranks: Sequence[int], *, steps: bool) -> NDArray[np.float64]:
    """Changes of resamples [resample, rank]: of steps where there are enough, else of ranks."""
    source = np.random.default_rng(SEED)
    if not steps:
        changes = np.array([np.median(b[rank]) / np.median(a[rank]) - 1 for rank in ranks])
        return changes[source.integers(0, len(ranks), (RESAMPLES, len(ranks)))]
    medians = []
    for side in (a, b):
        count = min(len(side[rank]) for rank in ranks)
        values = np.array([list(side[rank])[:count] for rank in ranks])
        drawn = source.integers(0, count, (RESAMPLES, count))
        medians.append(np.stack([np.median(row[drawn], axis=1) for row in values], axis=1))
    found: NDArray[np.float64] = medians[1] / medians[0] - 1
    return found


def _slower(changes: NDArray[np.float64], drawn: NDArray[np.float64], *, steps: bool) -> list[bool | None]:
    """Whether each rank is slower beyond noise: its own, shared among the ranks that are looked at, or the others'."""
    count = len(changes)
    if steps:
        lowest = np.quantile(drawn, LEVEL[0] / count, axis=0)
        return [bool(low > 0) for low in lowest]
    if count < FEWEST_RANKS:
        return [None] * count
    middle = np.median(changes)
    deviation = _DEVIATION_OF_MAD * np.median(np.abs(changes - middle))
    return [bool(change > 0 and change - middle > _FAR * deviation) for change in changes]
