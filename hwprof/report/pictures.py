"""What are pages made of? Bars, lines and pictures, parts of a stacked bar, key numbers: plain points, scaled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hwprof.report import palette
from hwprof.specs.record.run import BoundClass
from hwprof.units import format_fraction

_MOST_POINTS = 600
_LABEL_SHARE = 0.1
"""A bar segment narrower than this has no room for its label; the legend has it all the same."""

BOUND_WORDS: dict[BoundClass, str] = {
    "compute": "arithmetic",
    "memory": "memory bandwidth",
    "communication": "communication between devices",
    "transfer": "copies between host and device",
    "host": "waiting for the host",
    "latency": "fixed cost per operation",
    "unknown": "far below every known roof",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of ``length`` that begins at ``start``; bars of one label share a row.

    Attributes:
        label: of the row.
        text: what stands behind the bar's end, or in it where it is ``inside``.
        detail: what is said of it on pointing at it; without one, ``text``.
        interval: ends of an uncertain end, drawn as a whisker.
    """

    label: str
    start: float
    length: float
    text: str
    colour: str
    detail: str = ""
    inside: bool = False
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve, or separate points; ``xs``, ``ys`` and, where given, ``texts`` have equal length.

    Attributes:
        name: for the legend.
        xs, ys: the points.
        colour: of line and markers.
        style: ``line``; ``dashes``; ``dots`` = points without a line; ``rings`` = open circles around points.
        texts: what each point is, for whoever points at it.
    """

    name: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    colour: str
    style: Literal["line", "dashes", "dots", "rings"] = "line"
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A level across the whole picture: a median, a capacity, a measured peak."""

    label: str
    value: float
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Bars or curves in the units that the axis titles name; ``empty`` says why there is nothing.

    Axes are linear but for ``log_x`` and ``log_y``; with ``mark_xs`` each x has a mark of its own; with ``from_zero``
    the upward axis begins at 0.
    """

    name: str
    title: str
    x_title: str = ""
    y_title: str = ""
    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    marks: tuple[Mark, ...] = ()
    band: tuple[float, float] | None = None
    whole_x: bool = False
    log_x: bool = False
    log_y: bool = False
    mark_xs: bool = False
    from_zero: bool = False
    legend: bool = False
    note: str = ""
    empty: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One part of a stacked bar. ``fraction`` of all segments of a bar add up to 1; ``text`` is the recorded share."""

    label: str
    fraction: float
    text: str
    detail: str
    colour: str
    ink: str
    labelled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One key number with what it means: ``detail`` for the page, ``brief`` for the terminal."""

    title: str
    value: str
    brief: str
    detail: str


def segment(label: str, share: float, colour: str, *, detail: str = "", whole: float = 1.0) -> Segment:
    """The part of a stacked bar that stands for ``share`` of the ``whole``."""
    return Segment(
        label=label,
        fraction=share / whole,
        text=format_fraction(share),
        detail=detail,
        colour=colour,
        ink=palette.ink(colour),
        labelled=share / whole >= _LABEL_SHARE,
    )


def thin(xs: Sequence[float], ys: Sequence[float], most: int = _MOST_POINTS) -> tuple[list[float], list[float]]:
    """At most about ``most`` points of a curve; each stretch keeps its least and its greatest value, so peaks stay."""
    pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    if len(xs) <= most:
        return xs, ys
    stretch = -(-2 * len(xs) // most)
    kept: list[int] = []
    for start in range(0, len(xs), stretch):
        places = range(start, min(start + stretch, len(xs)))
        kept += sorted({min(places, key=lambda i: ys[i]), max(places, key=lambda i: ys[i])})
    return [xs[i] for i in kept], [ys[i] for i in kept]
