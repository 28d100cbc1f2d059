"""What do the pictures of a comparison show? What each phase and each operation took more or less in B than in A."""

from __future__ import annotations

from hwprof.report import palette
from hwprof.report.pictures import Bar, Picture
from hwprof.specs.record.diff import DiffLevel, DiffReport, DiffRow
from hwprof.units import format_seconds, scale

_MOST_BARS = 12
_NOISE = {True: ", beyond noise", False: ", within noise", None: ""}
_TITLES: dict[DiffLevel, str] = {"phase": "Change by phase", "operation": "Change by operation"}
_SMALLEST_SHARE = 1e-3
"""Changes below this share of the largest are left to the table."""


def diff_pictures(report: DiffReport) -> tuple[Picture, ...]:
    """A picture a level, right of zero what became slower; levels in which nothing changed have none."""
    pictures = (_changes(level, title, report) for level, title in _TITLES.items())
    return tuple(picture for picture in pictures if picture.bars)


def _changes(level: DiffLevel, title: str, report: DiffReport) -> Picture:
    changed = (row for row in report.rows if row.level == level and row.change_s)
    rows = sorted(changed, key=lambda row: -abs(row.change_s))
    largest_s = abs(rows[0].change_s) if rows else 0.0
    shown = [row for row in rows if abs(row.change_s) >= _SMALLEST_SHARE * largest_s][:_MOST_BARS]
    factor, unit = scale("s", [largest_s])
    hidden = f" {len(rows) - len(shown)} smaller changes: see the table." if len(rows) > len(shown) else ""
    return Picture(
        name=f"diff-{level}",
        title=title,
        x_title=f"B less A, time of a step [{unit}]",
        bars=tuple(_bar(row, factor) for row in shown),
        note=f"Right of zero B is slower, left of it faster.{hidden}",
    )


def _bar(row: DiffRow, factor: float) -> Bar:
    slower = row.change_s > 0
    text = f"{'+' if slower else ''}{format_seconds(row.change_s)}"
    a, b = ("nothing" if time_s is None else format_seconds(time_s) for time_s in (row.a_s, row.b_s))
    return Bar(
        label=row.name.replace("_", " ") if row.level == "phase" else row.name,
        start=0.0,
        length=row.change_s * factor,
        text=text,
        colour=palette.VERMILLION if slower else palette.BLUE,
        detail=f"{row.name}: {text}, from {a} to {b}{_NOISE[row.beyond_noise]}",
    )
