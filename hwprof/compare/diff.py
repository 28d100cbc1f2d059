"""What got slower, by how much beyond noise, and what else differs?"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from hwprof.compare.bootstrap import FEWEST, median_change, median_ratio_change
from hwprof.compare.paired import FEWEST_RANKS, Paired, paired_change
from hwprof.compare.sides import Item, Key, Side
from hwprof.specs.record.diff import (
    ChangeVerdict,
    DiffOutcome,
    DiffRank,
    DiffReport,
    DiffRow,
    DiffSetting,
    DiffSide,
    DiffStep,
)
from hwprof.version import __version__

_NOTHING = Item(0.0)


def compare(a: Side, b: Side, *, limit_fraction: float | None = None) -> DiffReport:
    """The comparison of two sides of the same kind.

    Args:
        a: before.
        b: after.
        limit_fraction: how much slower B may be. It fails where it, or one of its ranks, is slower by more than that
            and beyond noise. It is undecided where there are too few samples to tell noise, or where it is slower by
            more than that and within noise.
    """
    paired = _paired(a, b)
    step = _step(a, b, paired)
    ranks = tuple(_ranks(a, b, paired))
    outcome = _outcome(step, ranks, limit_fraction)
    return DiffReport(
        hwprof_version=__version__,
        a=_side(a),
        b=_side(b),
        step=step,
        rows=tuple(_rows(a, b, step)),
        settings=tuple(_differences(a.settings, b.settings)),
        environment=tuple(_differences(a.environment, b.environment)),
        limit_fraction=limit_fraction,
        failed=outcome == "failed",
        outcome=outcome,
        ranks=ranks,
        notes=(*a.notes, *b.notes, *_notes(a, b, step, ranks)),
    )


def _paired(a: Side, b: Side) -> Paired | None:
    """The change rank by rank; None where a side has one set of samples, or no rank is in both.

    One rank on each side is the same, whatever its number.
    """
    if len(a.ranks) == len(b.ranks) == 1:
        return None
    return paired_change(a.ranks, b.ranks)


def _ranks(a: Side, b: Side, paired: Paired | None) -> Iterator[DiffRank]:
    for rank, (change, slower) in (paired.by_rank if paired else {}).items():
        yield DiffRank(
            rank=rank,
            a_s=statistics.median(a.ranks[rank]),
            b_s=statistics.median(b.ranks[rank]),
            change_fraction=change,
            slower=slower,
        )


def _outcome(step: DiffStep, ranks: Sequence[DiffRank], limit_fraction: float | None) -> DiffOutcome | None:
    if limit_fraction is None:
        return None
    slower = step.change_fraction > limit_fraction
    if (step.verdict == "slower" and slower) or any(
        one.slower and one.change_fraction > limit_fraction for one in ranks
    ):
        return "failed"
    if step.verdict == "too few samples" or (step.verdict == "within noise" and slower):
        return "undecided"
    return "passed"


def _side(side: Side) -> DiffSide:
    return DiffSide(
        name=side.name,
        kind=side.kind,
        step_median_s=side.step_median_s,
        samples=len(side.step_samples_s),
        tokens_per_s=side.tokens_per_s,
        peak_memory_bytes=side.peak_memory_bytes,
    )


def _step(a: Side, b: Side, paired: Paired | None) -> DiffStep:
    change_s = b.step_median_s - a.step_median_s
    if paired is not None:
        change, interval = paired.change, paired.interval
    else:
        change = change_s / a.step_median_s if a.step_median_s else 0.0
        alone = max(len(a.ranks), len(b.ranks)) <= 1
        interval = median_ratio_change(a.step_samples_s, b.step_samples_s) if alone else None
    rate = b.tokens_per_s / a.tokens_per_s if a.tokens_per_s and b.tokens_per_s else None
    return DiffStep(
        change_s=change_s,
        change_fraction=change,
        interval=interval,
        verdict=_verdict(interval),
        tokens_ratio=None if rate is None else rate * b.step_median_s / a.step_median_s,
        rate_change_fraction=None if rate is None else rate - 1,
    )


def _verdict(interval: tuple[float, float] | None) -> ChangeVerdict:
    if interval is None:
        return "too few samples"
    low, high = interval
    return "slower" if low > 0 else "faster" if high < 0 else "within noise"


def _rows(a: Side, b: Side, step: DiffStep) -> Iterator[DiffRow]:
    """All that takes time on either side, by level, the largest change first."""
    keys = dict.fromkeys((*a.items, *b.items))
    rows = [_row(key, a.items.get(key), b.items.get(key), step) for key in keys]
    levels = list(dict.fromkeys(row.level for row in rows))
    yield from sorted(rows, key=lambda row: (levels.index(row.level), -abs(row.change_s), row.name))


def _row(key: Key, a: Item | None, b: Item | None, step: DiffStep) -> DiffRow:
    change_s = (b or _NOTHING).time_s - (a or _NOTHING).time_s
    interval = median_change(a.samples_s, b.samples_s) if a and b else None
    return DiffRow(
        level=key[0],
        name=key[1],
        a_s=a.time_s if a else None,
        b_s=b.time_s if b else None,
        change_s=change_s,
        share=change_s / step.change_s if step.change_s and step.verdict != "within noise" else None,
        interval_s=interval,
        beyond_noise=None if interval is None else interval[0] > 0 or interval[1] < 0,
        a_calls=a.calls if a else None,
        b_calls=b.calls if b else None,
    )


def _differences(a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[DiffSetting]:
    for key in dict.fromkeys((*a, *b)):
        if a.get(key) != b.get(key):
            yield DiffSetting(key=key, a=a.get(key), b=b.get(key))


def _notes(a: Side, b: Side, step: DiffStep, ranks: Sequence[DiffRank]) -> Iterator[str]:
    alone = sorted(a.ranks.keys() ^ b.ranks.keys()) if max(len(a.ranks), len(b.ranks)) > 1 else []
    if alone:
        yield f"ranks {', '.join(map(str, alone))} are on one side only and are not compared"
    if step.interval is None and len(a.ranks) > 1:
        yield (
            f"{len(ranks)} ranks have a pair: at least {FEWEST} steps of each on both sides, or {FEWEST_RANKS} ranks, "
            "are needed to tell a change from noise"
        )
    elif step.interval is None:
        yield (
            f"{len(a.step_samples_s)} and {len(b.step_samples_s)} steps: at least {FEWEST} of each are needed "
            "to tell a change from noise"
        )
    else:
        yield "noise is that within each run; other work on the machine between the two is not in it"
