"""Does a rank of a watched loop keep the others waiting, always or sometimes, and what would a step be without it?

A rank is named where it is late beyond what steps differ by anyway: in most steps, or in a few by much. What it had no
processor for is not its own doing. Without that, it would come to each collective as one of the others does.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hwprof.predict.ranks.lateness import Met, Stay, Waits, alone_late_s, cause_of, latest, waits_of
from hwprof.specs.record.stragglers import LateCause, RankWait, Stragglers
from hwprof.units import format_seconds

FEWEST_STEPS = 8
_SHARE = 0.05
"""A rank is named where the step would be shorter by this share of it ..."""
_LEAST_S = 1e-3
"""... and by this much,"""
_MOSTLY = 0.8
"""in this share of the steps; by chance 8 of 8 steps have probability 1/256 (sign test)."""
_FAR = 6.0
"""Or in single steps, by so many robust deviations of what steps differ by."""
_SINGLE_SHARE = 0.2
"""Of the median step, at least, for a single one."""
_DEVIATION_OF_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation (Rousseeuw and Croux 1993)."""
_SEEN: frozenset[LateCause] = frozenset({"input", "garbage collection", "recompilation", "checkpoint"})
"""Causes that were watched themselves: one single step is enough. Of others three are needed, as systems stall, too."""
_FEWEST_SINGLE = 3


@dataclass(frozen=True, slots=True)
class SeenStep:
    """One step of one rank: its length, whether it ran as steps usually do, and its stays in collectives in order."""

    step_s: float
    counts: bool
    stays: tuple[tuple[str, Stay], ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of all ranks: its length, the meetings, and how long each rank made all others wait.

    ``own_s`` is without what the rank had no processor for.
    """

    step_s: float
    met: tuple[Met, ...]
    late_s: Mapping[int, float]
    own_s: Mapping[int, float]


def watched(seen: Mapping[int, Sequence[SeenStep]]) -> Stragglers | None:
    """What the ranks of a loop waited for each other; None with fewer than two ranks, or steps that do not match.

    Args:
        seen: rank -> its steps, the same ones of every rank, in order.
    """
    ranks = sorted(seen)
    if len(ranks) < 2:
        return None
    steps = [step for each in zip(*(seen[rank] for rank in ranks), strict=False) if (step := _together(ranks, each))]
    met = [one for step in steps for one in step.met]
    if not met:
        return None
    waits = waits_of(met, ranks)
    step_s = statistics.median(step.step_s for step in steps)
    named, places = _named(steps, ranks) if len(steps) >= FEWEST_STEPS else (None, ())
    cause = _cause(steps, named) if named is not None else None
    without = _without_s(steps, named) if named is not None else []
    found = Stragglers(
        collectives=len(met),
        unmatched=0,
        transfer_s=waits.transfer_s,
        ranks=tuple(
            RankWait(
                rank=rank,
                waited_s=waits.waited_s[rank],
                caused_s=waits.caused_s[rank],
                last=waits.last[rank],
                cause=cause if rank == named else "",
            )
            for rank in ranks
        ),
        steps=len(steps),
        step_s=step_s,
        step_without_s=statistics.median(without) if without else None,
        lost_fraction=1 - sum(without) / sum(step.step_s for step in steps) if without else None,
        late_steps=len(places) if named is not None else None,
        where=_where(waits, named) if named is not None else "",
        note="" if len(steps) >= FEWEST_STEPS else f"{len(steps)} steps: {FEWEST_STEPS} are needed to name a rank",
    )
    late = [(steps[place].step_s, without[place], steps[place].late_s[named]) for place in places if named is not None]
    return found.changed(sentence=_sentence(found, late))


def _together(ranks: Sequence[int], steps: Sequence[SeenStep]) -> _Step | None:
    """One step of all ranks; None where one of them did something else, or other collectives."""
    keys = {tuple(key for key, _ in step.stays) for step in steps}
    if len(keys) != 1 or not all(step.counts for step in steps):
        return None
    met = tuple(
        dict(zip(ranks, (stay for _, stay in each), strict=True))
        for each in zip(*(step.stays for step in steps), strict=True)
    )
    late_s: dict[int, float] = defaultdict(float)
    own_s: dict[int, float] = defaultdict(float)
    for one in met:
        rank, whole_s, its_own_s = alone_late_s(one)
        late_s[rank] += whole_s
        own_s[rank] += its_own_s
    return _Step(step_s=statistics.median(step.step_s for step in steps), met=met, late_s=late_s, own_s=own_s)


def _without_s(steps: Sequence[_Step], named: int) -> list[float]:
    """How long each step would be if the rank did between collectives what another one did there.

    The others' own last arrival alone would make it too short: of several ranks that all differ from step to step, each
    comes last at times. So what others did in the next ``_STAND_INS`` steps, which is independent, stands in for it.
    """
    others = [rank for rank in steps[0].met[0] if rank != named]
    found = []
    for place, step in enumerate(steps):
        ahead = [steps[(place + 1 + more) % len(steps)] for more in range(min(_STAND_INS, len(steps) - 1))]
        like = [other.met for other in ahead if len(other.met) == len(step.met)]
        shorter_s = 0.0
        for number, met in enumerate(step.met):
            last_s = max(met[rank].own_s for rank in others)
            stand_ins = [other[number][rank].own_s for other in like for rank in others]
            later_s = statistics.fmean(max(one - last_s, 0.0) for one in stand_ins) if stand_ins else 0.0
            shorter_s += min(met[rank].time_s for rank in others) - latest(met)[0] - later_s
        found.append(max(step.step_s - shorter_s, 0.0))
    return found


_STAND_INS = 5


_Late = tuple[int | None, Sequence[int]]
"""The rank that is named, and the numbers of the steps in which it was late."""


def _named(steps: Sequence[_Step], ranks: Sequence[int]) -> _Late:
    """The rank that is late in most steps, else the one that is late by much in single ones."""
    step_s = statistics.median(step.step_s for step in steps)
    signed = {rank: [_signed(step, rank) for step in steps] for rank in ranks}
    usual = {rank: statistics.median(each) for rank, each in signed.items()}
    rank = max(ranks, key=lambda one: usual[one])
    mostly = sum(late_s > 0 for late_s in signed[rank]) >= _MOSTLY * len(steps)
    if mostly and usual[rank] >= max(_SHARE * step_s, _LEAST_S):
        return rank, [place for place, step in enumerate(steps) if step.late_s.get(rank, 0.0) > _SHARE * step_s]
    return _by_single_steps(steps, signed, step_s)


def _signed(step: _Step, rank: int) -> float:
    """How long the others waited for a rank, less what it waited for the latest of them."""
    return step.own_s.get(rank, 0.0) - max((own_s for one, own_s in step.own_s.items() if one != rank), default=0.0)


def _by_single_steps(steps: Sequence[_Step], signed: Mapping[int, Sequence[float]], step_s: float) -> _Late:
    total_s = sum(step.step_s for step in steps)
    far_s: dict[int, list[int]] = {}
    for rank, each in signed.items():
        middle = statistics.median(each)
        deviation = _DEVIATION_OF_MAD * statistics.median(abs(late_s - middle) for late_s in each)
        least = max(middle + _FAR * deviation, _SINGLE_SHARE * step_s, _LEAST_S)
        far_s[rank] = [place for place, late_s in enumerate(each) if late_s > least]
    sums = {rank: sum(signed[rank][place] for place in places) for rank, places in far_s.items()}
    order = sorted(sums, key=lambda one: sums[one], reverse=True)
    first, second = order[:2]
    if sums[first] < max(_SHARE * total_s, 2 * sums[second]):
        return None, ()
    cause = _cause([steps[place] for place in far_s[first]], first)
    return (first, far_s[first]) if cause in _SEEN or len(far_s[first]) >= _FEWEST_SINGLE else (None, ())


def _cause(steps: Sequence[_Step], rank: int) -> LateCause | None:
    """What the rank did more of than the others, where it was last."""
    waits = waits_of((one for step in steps for one in step.met if latest(one)[1] == rank), steps[0].met[0])
    return cause_of(waits.more_s[rank])


def _where(waits: Waits, rank: int) -> str:
    where = waits.where_s[rank]
    return max(where, key=lambda name: where[name], default="")


_DID = {
    "input": "it waits longer for its next batch",
    "compute": "it computes longer (more work, or a slower processor)",
    "copies": "it copies longer",
    "host": "its program stands still or does other things",
    "garbage collection": "Python's garbage collector runs there",
    "recompilation": "it compiles again",
    "checkpoint": "it writes a checkpoint",
    None: "nothing that it did stands out",
}


def _sentence(found: Stragglers, late: Sequence[tuple[float, float, float]]) -> str:
    """``late``: of each late step, how long it was, would be without, and how long the others waited; seconds."""
    one = found.named
    if one is None or not late:
        return ""
    where = f" (in {found.where})" if found.where else ""
    step_s, without_s, late_s = (statistics.median(each) for each in zip(*late, strict=True))
    return (
        f"Rank {one.rank} keeps the others waiting in {found.late_steps} of {found.steps} steps, "
        f"{format_seconds(late_s)} each: {_DID[one.cause or None]}{where}. Without that such a step of "
        f"{format_seconds(step_s)} would take {format_seconds(without_s)}."
    )
