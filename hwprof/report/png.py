"""How does a view become pictures for slides? By matplotlib's object interface, with no global state."""

from __future__ import annotations

import io
import itertools
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from hwprof.report import palette
from hwprof.report.pictures import Bar, Picture, Segment
from hwprof.report.run.roofline import RooflineFigure
from hwprof.report.run.view import View
from hwprof.units import scale

_DPI = 150
_ROOM_FOR_LETTER_PX = 15.0
_LETTER_SHARE = 0.0085
"""What a letter of the text in a bar takes of the width of a slide's picture."""
_WANTED_FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Microsoft YaHei",
    "SimHei",
)
"""DejaVu Sans comes with matplotlib; the others cover Chinese names where they are installed."""


def render_roofline(view: View) -> bytes:
    """``roofline.png``: roofs, ridge and operations on logarithmic axes."""
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    axes = figure.add_subplot()
    figure.suptitle(drawable(f"Roofline: {view.title}"), fontsize=12)
    if view.roofline.empty:
        _say(axes, view.roofline.empty)
    else:
        _draw_roofline(axes, view.roofline)
    return _png(figure)


def render_step(view: View) -> bytes:
    """``step.png``: the phases, where the step goes, and the steps one by one."""
    figure = Figure(figsize=(10, 9.6), layout="constrained")
    bar, targets, waterfall, samples = figure.subplots(4, 1, height_ratios=[1, 1.8, 3.2, 2.4])
    figure.suptitle(drawable(f"Training step: {view.title}"), fontsize=12)
    _draw_segments(bar, view.headline.phases)
    _draw_picture(targets, view.targets)
    _draw_picture(waterfall, view.waterfall)
    _draw_picture(samples, view.samples)
    return _png(figure)


def render_memory(view: View) -> bytes:
    """``memory.png``: predicted parts, measured peak, capacity, and the timeline."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    parts, timeline = figure.subplots(2, 1, height_ratios=[3, 2])
    figure.suptitle(drawable(f"Memory: {view.title}"), fontsize=12)
    _draw_picture(parts, view.memory)
    _draw_picture(timeline, view.timeline)
    return _png(figure)


def render_pictures(title: str, pictures: Sequence[Picture]) -> bytes:
    """Pictures one below the other under a title: ``pareto.png``, ``scaling.png``."""
    figure = Figure(figsize=(10, 1 + 4.5 * len(pictures)), layout="constrained")
    figure.suptitle(drawable(title), fontsize=12)
    for place, picture in enumerate(pictures, start=1):
        _draw_picture(figure.add_subplot(len(pictures), 1, place), picture)
    return _png(figure)


def drawable(text: str) -> str:
    """``text`` as matplotlib can draw it: no mathematics in dollar signs, ``?`` for what no installed font has."""
    known = [get_font(findfont(FontProperties(family=[name]))) for name in _fonts()]
    shown = (char if char == "\n" or any(font.get_char_index(ord(char)) for font in known) else "?" for char in text)
    return "".join(shown).replace("$", r"\$")


def _fonts() -> list[str]:
    installed = set(fontManager.get_font_names())
    return [name for name in _WANTED_FONTS if name in installed]


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_fontfamily(_fonts())
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": "hwprof"})
    return out.getvalue()


def _say(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    said = axes.text(0.5, 0.5, drawable(text), ha="center", va="center", wrap=True, transform=axes.transAxes)
    said.set_in_layout(False)  # a long one would leave no room for the axes


def _draw_roofline(axes: Axes, roofline: RooflineFigure) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*roofline.x_range)
    axes.set_ylim(*roofline.y_range)
    axes.set_xlabel("arithmetic intensity [FLOP/B]")
    axes.set_ylabel("compute rate [FLOP/s]")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(_rate_tick))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    for roof in roofline.roofs:
        style = "-" if roof.slanted else "--"
        axes.plot(roof.xs, roof.ys, style, color=palette.BLACK, linewidth=2.2 if roof.main else 1.1, zorder=2)
        _label(axes, roof.label, (roof.label_x, roof.label_y), (-6, 4) if roof.slanted else (0, 4))
    for point in roofline.points:
        marker = palette.MARKERS[point.direction].matplotlib
        size = point.diameter_px * 0.75
        axes.plot(
            point.x,
            point.y,
            marker,
            markersize=size,
            color=point.colour,
            markeredgecolor=palette.BLACK,
            alpha=0.85,
            zorder=5,
        )
        inside = point.diameter_px >= _ROOM_FOR_LETTER_PX
        axes.annotate(
            point.letter,
            (point.x, point.y),
            xytext=(0, 0) if inside else (size / 2 + 1, 0),
            textcoords="offset points",
            ha="center" if inside else "left",
            va="center",
            fontsize=6.5,
            zorder=6,
            color=point.ink if inside else palette.BLACK,
        )
    for ridge in roofline.ridges:
        axes.plot(ridge.x, ridge.y, "x", color=palette.BLACK, markersize=9, markeredgewidth=2)
        _label(axes, ridge.label, (ridge.x, ridge.y), (0, 16), align="center")
    _roofline_legend(axes, roofline)


def _rate_tick(value: float, _: int) -> str:
    factor, unit = scale("flop_per_s", [value])
    return f"{value * factor:g} {unit}"


def _label(
    axes: Axes, text: str, place: tuple[float, float], offset_points: tuple[float, float], *, align: str = "right"
) -> None:
    axes.annotate(
        drawable(text),
        place,
        xytext=offset_points,
        textcoords="offset points",
        ha=align,
        fontsize=8,
        zorder=4,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )


def _roofline_legend(axes: Axes, roofline: RooflineFigure) -> None:
    kinds = dict.fromkeys((f"{point.letter}  {point.kind}", point.colour) for point in roofline.points)
    directions = dict.fromkeys(point.direction for point in roofline.points)
    entries = [
        Line2D([], [], marker="o", linestyle="", color=colour, markeredgecolor=palette.BLACK, label=kind)
        for kind, colour in kinds
    ]
    entries += [
        Line2D(
            [],
            [],
            marker=palette.MARKERS[direction].matplotlib,
            linestyle="",
            markerfacecolor="none",
            markeredgecolor=palette.BLACK,
            label=direction,
        )
        for direction in directions
    ]
    if entries:
        axes.legend(handles=entries, loc="lower right", fontsize=8, ncols=2, framealpha=0.9)


def _draw_segments(axes: Axes, segments: Sequence[Segment]) -> None:
    if not segments:
        _say(axes, "No phase times.")
        return
    start = 0.0
    for segment in segments:
        name = drawable(f"{segment.label} {segment.text}")
        axes.barh(0, segment.fraction, left=start, color=segment.colour, edgecolor="white", label=name)
        if segment.labelled:
            middle = start + segment.fraction / 2
            axes.text(middle, 0, drawable(segment.label), ha="center", va="center", fontsize=8, color=segment.ink)
        start += segment.fraction
    axes.set_xlim(0, 1)
    axes.set_axis_off()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.05), ncols=5, fontsize=8, frameon=False)


def _draw_picture(axes: Axes, picture: Picture) -> None:
    if picture.empty:
        _say(axes, picture.empty)
        return
    axes.set_title(drawable(picture.title), fontsize=10, loc="left")
    axes.set_xlabel(drawable(picture.x_title), fontsize=9)
    axes.set_ylabel(drawable(picture.y_title), fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if picture.bars:
        _draw_bars(axes, picture)
    else:
        _draw_lines(axes, picture)


def _draw_bars(axes: Axes, picture: Picture) -> None:
    rows = {label: row for row, label in enumerate(dict.fromkeys(bar.label for bar in picture.bars))}
    axes.barh(
        [rows[bar.label] for bar in picture.bars],
        [bar.length for bar in picture.bars],
        left=[bar.start for bar in picture.bars],
        color=[bar.colour for bar in picture.bars],
        edgecolor=palette.BLACK,
        linewidth=0.5,
    )
    longest = max(end for bar in picture.bars for end in (bar.start + bar.length, *(bar.interval or ()))) or 1.0
    for bar in picture.bars:
        _bar_text(axes, bar, rows[bar.label], bar.length / longest)
    axes.set_yticks(range(len(rows)), [drawable(label) for label in rows])
    axes.invert_yaxis()
    axes.margins(x=0.02 if all(bar.inside for bar in picture.bars) else 0.16)
    right = max(axes.get_xlim()[1], *(1.02 * mark.value for mark in picture.marks), 0.0)
    axes.set_xlim(min(0.0, *(bar.start + bar.length for bar in picture.bars)), right)
    for mark in picture.marks:
        axes.axvline(mark.value, color=mark.colour, linestyle="--", linewidth=1.5)
        axes.annotate(
            drawable(mark.label),
            (mark.value, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-3, 2),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )


def _bar_text(axes: Axes, bar: Bar, row: int, share: float) -> None:
    """The text in the bar, where its ``share`` of the width has room, or behind it; the whisker of an uncertain end."""
    if bar.inside and len(bar.text) * _LETTER_SHARE <= share:
        axes.annotate(
            drawable(bar.text),
            (bar.start, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=palette.ink(bar.colour),
        )
    elif not bar.inside:
        end = max(bar.start, bar.start + bar.length)
        axes.annotate(
            drawable(bar.text), (end, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
        )
    if bar.interval:
        axes.plot(bar.interval, (row, row), "|-", color=palette.BLACK, markersize=9, linewidth=1.4)


_LINE_STYLES = {"line": "-", "dashes": "--", "dots": "none", "rings": "none"}


def _draw_lines(axes: Axes, picture: Picture) -> None:
    markers = _markers_of(picture)
    for line in picture.lines:
        rings = line.style == "rings"
        axes.plot(
            line.xs,
            line.ys,
            linestyle=_LINE_STYLES[line.style],
            marker=markers[line.colour] if len(line.xs) <= 60 or line.style in {"dots", "rings"} else "",
            markersize={"dots": 7, "rings": 12}.get(line.style, 4),
            markerfacecolor="none" if rings else line.colour,
            linewidth=1.3,
            color=palette.BLACK if rings else line.colour,
            label=drawable(line.name),
        )
    if picture.legend:
        axes.legend(fontsize=8, frameon=False)
    if picture.band:
        axes.axhspan(*picture.band, color=palette.BLUE, alpha=0.15, linewidth=0)
    highest = max((mark.value for mark in picture.marks), default=0.0)
    for mark in picture.marks:
        axes.axhline(mark.value, color=mark.colour, linestyle="--", linewidth=1.2)
        axes.annotate(
            drawable(textwrap.fill(mark.label, 15)),
            (1, mark.value),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center" if len(picture.marks) == 1 else "bottom" if mark.value == highest else "top",
            fontsize=8,
        )
    if picture.from_zero:
        axes.set_ylim(bottom=0)
    if picture.log_y:
        axes.set_yscale("log")
        _plain_logarithm(axes.yaxis)
    if picture.log_x:
        axes.set_xscale("log")
        _plain_logarithm(axes.xaxis)
    if picture.mark_xs:
        _mark_each(axes, sorted({x for line in picture.lines for x in line.xs}))
    elif not picture.log_x:
        axes.xaxis.set_major_locator(MaxNLocator(integer=picture.whole_x))
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)


def _markers_of(picture: Picture) -> dict[str, str]:
    """Each colour has a marker of its own, so that curves are told apart without it; rings are round."""
    colours = dict.fromkeys(line.colour for line in picture.lines if line.style != "rings")
    own = dict(zip(colours, itertools.cycle("oDs^P*"), strict=False))
    return own | {line.colour: "o" for line in picture.lines if line.style == "rings"}


def _mark_each(axes: Axes, values: Sequence[float]) -> None:
    """These values are marked and no others."""
    axes.set_xticks(values, [f"{value:,.0f}" for value in values], rotation=30 if len(values) > 8 else 0)
    axes.xaxis.set_minor_locator(NullLocator())


def _plain_logarithm(axis: Axis) -> None:
    """Marks at 1, 2 and 5 of each decade, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_locator(NullLocator())
