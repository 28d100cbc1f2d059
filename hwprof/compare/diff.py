"""What got slower, by how much beyond noise, and what else differs?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hwprof.compare.bootstrap import FEWEST, median_change, median_ratio_change
from hwprof.compare.sides import Item, Key, Side
from hwprof.specs.record.diff import ChangeVerdict, DiffReport, DiffRow, DiffSetting, DiffSide, DiffStep
from hwprof.version import __version__

_NOTHING = Item(0.0)


def compare(a: Side, b: Side, *, limit_fraction: float | None = None) -> DiffReport:
    """The comparison of two sides of the same kind.

    Args:
        a: before.
        b: after.
        limit_fraction: how much slower B may be. It fails where its median is slower by more than that and the
            interval of the change lies above zero, so that noise alone fails nothing.
    """
    step = _step(a, b)
    failed = limit_fraction is not None and step.verdict == "slower" and step.change_fraction > limit_fraction
    return DiffReport(
        hwprof_version=__version__,
        a=_side(a),
        b=_side(b),
        step=step,
        rows=tuple(_rows(a, b, step)),
        settings=tuple(_differences(a.settings, b.settings)),
        environment=tuple(_differences(a.environment, b.environment)),
        limit_fraction=limit_fraction,
        failed=failed,
        notes=(*a.notes, *b.notes, *_notes(a, b, step)),
    )


def _side(side: Side) -> DiffSide:
    return DiffSide(
        name=side.name,
        kind=side.kind,
        step_median_s=side.step_median_s,
        samples=len(side.step_samples_s),
        tokens_per_s=side.tokens_per_s,
        peak_memory_bytes=side.peak_memory_bytes,
    )


def _step(a: Side, b: Side) -> DiffStep:
    change_s = b.step_median_s - a.step_median_s
    interval = median_ratio_change(a.step_samples_s, b.step_samples_s)
    rate = b.tokens_per_s / a.tokens_per_s if a.tokens_per_s and b.tokens_per_s else None
    return DiffStep(
        change_s=change_s,
        change_fraction=change_s / a.step_median_s if a.step_median_s else 0.0,
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


def _notes(a: Side, b: Side, step: DiffStep) -> Iterator[str]:
    if step.interval is None:
        yield (
            f"{len(a.step_samples_s)} and {len(b.step_samples_s)} steps: at least {FEWEST} of each are needed "
            "to tell a change from noise"
        )
    else:
        yield "noise is that within each run; other work on the machine between the two is not in it"
