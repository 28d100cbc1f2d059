"""What does the roofline show? Roofs, ridge and operations, in FLOP per byte and FLOP/s (Williams et al., 2009)."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from hwprof.predict.ceilings.roofs import best_ceilings
from hwprof.predict.classify import ABOVE_ROOF
from hwprof.report import palette
from hwprof.report.cells import finite
from hwprof.report.run.absence import absence
from hwprof.report.run.roof_labels import Place, Spaces
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.run import Direction, LayerKind, OpResult, RunRecord
from hwprof.units import format_byte_per_s, format_flop_per_s, format_fraction, format_quantity, format_seconds

_LEAST_DIAMETER_PX, _MOST_DIAMETER_PX = 7.0, 42.0
_ALONG_SLOPE = (0.5, 0.72, 0.6, 0.4, 0.82, 0.3)
_ALONG_FLAT = (0.98, 0.62, 0.8, 0.5, 0.4, 0.3, 0.2)
"""Where along a roof its name may stand, the best place first."""
_MARGIN = 2.0
"""The axes reach beyond the outermost point or ridge by this factor."""
_LOW_SPAN = 3e4
"""The rate axis shows at most this factor below the highest roof, unless an operation lies lower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """One ceiling as a line; ``label_x, label_y`` is where its name stands."""

    name: str
    label: str
    slanted: bool
    main: bool
    xs: tuple[float, float]
    ys: tuple[float, float]
    label_x: float
    label_y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ridge:
    """Where the roof of main memory meets a compute roof: the least intensity that can reach it."""

    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One operation; its area grows with its time. ``letter`` tells the layer kind; ``hover`` is lines of text."""

    label: str
    kind: LayerKind
    direction: Direction
    x: float
    y: float
    time_s: float
    diameter_px: float
    colour: str
    ink: str
    letter: str
    hover: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineFigure:
    """Everything in the picture; ``note`` says what is not drawn and what looks wrong."""

    roofs: tuple[Roof, ...]
    ridges: tuple[Ridge, ...]
    points: tuple[Point, ...]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    note: str
    empty: str


def build_roofline(record: RunRecord) -> RooflineFigure:
    """The roofline of the run's operations; ``empty`` says why there is none."""
    best = best_ceilings(record.ceilings).values()
    memory = sorted((c for c in best if c.kind == "memory"), key=lambda c: -c.value)
    compute = sorted((c for c in best if _is_flat_roof(c)), key=lambda c: -c.value)
    points = _points(record.ops)
    if not (memory and compute):
        return RooflineFigure(
            roofs=(),
            ridges=(),
            points=(),
            x_range=(0.1, 100),
            y_range=(1, 10),
            note="",
            empty=absence(record, "roofline: it needs a compute and a memory ceiling"),
        )
    ridges = _ridges(record, memory, compute)
    x_range = _x_range(points, memory, compute)
    y_range = _y_range(points, compute, memory, x_range)
    spaces = Spaces(x_range, y_range, [(point.x, point.y) for point in points])
    for ridge in ridges:
        spaces.take((ridge.x, ridge.y))
    return RooflineFigure(
        roofs=tuple(_roofs(memory, compute, spaces, dtype=record.settings.dtype, x_range=x_range, foot=y_range[0])),
        ridges=ridges,
        points=points,
        x_range=x_range,
        y_range=y_range,
        note=_note(record, points),
        empty="",
    )


def _is_flat_roof(ceiling: Ceiling) -> bool:
    """``matmul.<dtype>`` is a roof; what holds at one shape only, of matmul or attention, stands in the table."""
    return ceiling.name.startswith("matmul.") and ceiling.name.count(".") == 1


def _main_memory(memory: Sequence[Ceiling]) -> Ceiling:
    """Main memory, which is the slowest level."""
    return next((ceiling for ceiling in memory if ceiling.level == "dram"), memory[-1])


def _points(ops: Sequence[OpResult]) -> tuple[Point, ...]:
    drawn = [op for op in ops if _has_place(op)]
    longest = max((op.time_s for op in drawn), default=0.0)
    return tuple(_point(op, longest) for op in sorted(drawn, key=lambda op: -op.time_s))


def _has_place(op: OpResult) -> bool:
    x, y = op.intensity_flop_per_byte, op.flop_per_s
    return x is not None and finite(x) and finite(y) and x > 0 and y > 0 and op.time_s > 0


def _point(op: OpResult, longest_s: float) -> Point:
    assert op.intensity_flop_per_byte is not None
    hover = (
        op.label,
        f"{op.layer_kind}, {op.direction}",
        f"time {format_seconds(op.time_s)} per step ({format_fraction(op.share)} of it)",
        f"{format_quantity(op.intensity_flop_per_byte, 'count')} FLOP/B",
        f"{format_flop_per_s(op.flop_per_s)}, {format_byte_per_s(op.byte_per_s)}",
        f"{format_fraction(op.roof_fraction)} of {op.roof_name or 'no known roof'}",
        f"bound by {op.bound} (confidence {op.confidence})",
        f"lost {format_seconds(op.lost_s)} per step",
    )
    return Point(
        label=op.label,
        kind=op.layer_kind,
        direction=op.direction,
        x=op.intensity_flop_per_byte,
        y=op.flop_per_s,
        time_s=op.time_s,
        diameter_px=max(_MOST_DIAMETER_PX * math.sqrt(op.time_s / longest_s), _LEAST_DIAMETER_PX),
        colour=palette.KIND_COLOURS[op.layer_kind],
        ink=palette.ink(palette.KIND_COLOURS[op.layer_kind]),
        letter=palette.KIND_LETTERS[op.layer_kind],
        hover=hover,
    )


def _ridges(record: RunRecord, memory: Sequence[Ceiling], compute: Sequence[Ceiling]) -> tuple[Ridge, ...]:
    """The ridge of main memory under the roof of the run's own data type (or the highest, if that has none)."""
    roof = next((ceiling for ceiling in compute if ceiling.dtype == record.settings.dtype), compute[0])
    main = _main_memory(memory)
    x = roof.value / main.value
    label = f"ridge of {main.level or main.name} and {roof.dtype or roof.name}: {format_quantity(x, 'count')} FLOP/B"
    return (Ridge(x=x, y=roof.value, label=label),)


def _x_range(points: Sequence[Point], memory: Sequence[Ceiling], compute: Sequence[Ceiling]) -> tuple[float, float]:
    ridge_xs = [roof.value / _main_memory(memory).value for roof in compute]
    xs = [point.x for point in points] + ridge_xs
    return min(*xs, 0.25) / _MARGIN, max(*xs, 4 * max(ridge_xs)) * _MARGIN


def _y_range(
    points: Sequence[Point], compute: Sequence[Ceiling], memory: Sequence[Ceiling], x_range: tuple[float, float]
) -> tuple[float, float]:
    top = max([ceiling.value for ceiling in compute] + [point.y for point in points])
    foot = max(_main_memory(memory).value * x_range[0], top / _LOW_SPAN)
    return min([foot, *(point.y for point in points)]) / _MARGIN, top * _MARGIN * 1.5


def _roofs(
    memory: Sequence[Ceiling], compute: Sequence[Ceiling], spaces: Spaces, *, dtype: str, x_range: Place, foot: float
) -> Iterator[Roof]:
    """Bandwidth times intensity up to the highest compute roof, then compute roofs from the fastest memory on."""
    highest = compute[0].value
    for ceiling in memory:
        start, end = max(x_range[0], foot / ceiling.value), highest / ceiling.value
        label_x = spaces.claim(start, end, partial(operator.mul, ceiling.value), _ALONG_SLOPE)
        yield Roof(
            name=ceiling.name,
            label=_roof_label(ceiling, ceiling.level),
            slanted=True,
            main=ceiling is _main_memory(memory),
            xs=(start, end),
            ys=(start * ceiling.value, highest),
            label_x=label_x,
            label_y=label_x * ceiling.value,
        )
    for ceiling in compute:
        start, end = ceiling.value / memory[0].value, x_range[1]
        yield Roof(
            name=ceiling.name,
            label=_roof_label(ceiling, ceiling.dtype),
            slanted=False,
            main=ceiling.dtype == dtype,
            xs=(start, end),
            ys=(ceiling.value, ceiling.value),
            label_x=spaces.claim(start, end, partial(_level, ceiling.value), _ALONG_FLAT),
            label_y=ceiling.value,
        )


def _roof_label(ceiling: Ceiling, name: str) -> str:
    origin = "" if ceiling.origin == "measured" else f" ({ceiling.origin})"
    return f"{name or ceiling.name} {format_quantity(ceiling.value, ceiling.unit)}{origin}"


def _level(height: float, _: float) -> float:
    return height


def _note(record: RunRecord, points: Sequence[Point]) -> str:
    hidden = len(record.ops) - len(points)
    above = [op for op in record.ops if op.roof_fraction is not None and op.roof_fraction > ABOVE_ROOF]
    notes = [
        f"{hidden} of {len(record.ops)} operations move data without counted arithmetic and stand in the table only."
        if hidden
        else "",
        f"Above their roof, whose ceiling was then measured too low: {len(above)} of {len(record.ops)}, "
        + ", ".join(f"{op.label} {op.direction} ({format_fraction(op.roof_fraction)})" for op in above[:3])
        if above
        else "",
    ]
    return " ".join(note for note in notes if note)
