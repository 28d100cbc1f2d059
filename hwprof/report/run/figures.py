"""What do the other pictures show? Samples, loss, memory and telemetry as plain scaled points."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hwprof.report import palette
from hwprof.report.pictures import Bar, Line, Mark, Picture, thin
from hwprof.report.run.absence import absence
from hwprof.specs.record.run import MemoryResult, RunRecord, Series
from hwprof.units import format_bytes, format_quantity, format_seconds, format_span, scale

_MOST_PANELS = 40
_MOST_LINES = 16
_FAR_CAPACITY = 4.0
"""A capacity beyond this many times the largest bar is a note and no mark."""
_LINE_COLOURS = (palette.BLUE, palette.ORANGE, palette.GREEN, palette.PURPLE, palette.SKY, palette.VERMILLION)


def samples_picture(record: RunRecord) -> Picture:
    """Each unprofiled step, the median and its 95 % interval."""
    step = record.step
    title = "Step time, step by step"
    if step is None or not step.samples_s:
        return Picture(name="samples", title=title, empty=absence(record, "step times"))
    factor, unit = scale("s", step.samples_s)
    ys = [sample * factor for sample in step.samples_s]
    xs, ys = thin(range(1, len(ys) + 1), ys)
    low, high = step.interval_s
    median = Mark(label=f"median {format_seconds(step.median_s)}", value=step.median_s * factor, colour=palette.BLUE)
    return Picture(
        name="samples",
        title=title,
        x_title="step (after warm-up)",
        whole_x=True,
        y_title=f"time [{unit}]",
        lines=(Line(name="step time", xs=tuple(xs), ys=tuple(ys), colour=palette.BLUE),),
        marks=(median,),
        band=(low * factor, high * factor),
        note=f"Band: 95 % interval of the median, {format_span(step.interval_s, 's')}; {step.warmups} warm-up steps "
        "are not shown.",
    )


def loss_picture(record: RunRecord) -> Picture:
    """The training loss after each step."""
    if not record.losses:
        return Picture(name="loss", title="Training loss", empty=absence(record, "training losses"))
    xs, ys = thin(range(1, len(record.losses) + 1), record.losses)
    line = Line(name="training loss", xs=tuple(xs), ys=tuple(ys), colour=palette.GREEN)
    end = format_quantity(record.eval_loss, "nats_per_token")
    return Picture(
        name="loss",
        title="Training loss",
        x_title="step",
        whole_x=True,
        y_title="loss [nats per token]",
        lines=(line,),
        note="" if record.eval_loss is None else f"Evaluation loss at the end: {end}.",
    )


_PART_COLOURS = (
    palette.BLUE,
    palette.ORANGE,
    palette.GREEN,
    palette.PURPLE,
    palette.SKY,
    palette.YELLOW,
    palette.VERMILLION,
)


def memory_picture(record: RunRecord) -> Picture:
    """The predicted parts one after the other, the predicted and the measured peak, the capacity as a mark."""
    memory = record.memory
    title = "Memory at its peak"
    if memory is None:
        return Picture(name="memory", title=title, empty=absence(record, "memory result"))
    rows = _memory_rows(memory)
    largest_bytes = max((start_bytes + size_bytes for _, start_bytes, size_bytes, _ in rows), default=0.0)
    factor, unit = scale("byte", [largest_bytes])
    marks, note = _capacity_mark(memory, largest_bytes, factor)
    return Picture(
        name="memory",
        title=title,
        x_title=f"memory [{unit}]",
        bars=tuple(
            Bar(label=label, start=start * factor, length=size * factor, text=format_bytes(size), colour=colour)
            for label, start, size, colour in rows
        ),
        marks=marks,
        note=note,
    )


def _memory_rows(memory: MemoryResult) -> list[tuple[str, float, float, str]]:
    """Label, start, size and colour: the parts one after the other, largest first, then the peaks from zero."""
    rows, end_bytes = [], 0.0
    for place, part in enumerate(sorted(memory.parts, key=lambda part: -part.predicted_bytes)):
        rows.append((part.name, end_bytes, part.predicted_bytes, _PART_COLOURS[place % len(_PART_COLOURS)]))
        end_bytes += part.predicted_bytes
    peaks = (
        ("predicted peak", memory.predicted_peak_bytes, palette.SLATE),
        ("measured peak", memory.measured_peak_bytes, palette.GREY),
    )
    return rows + [(label, 0.0, size, colour) for label, size, colour in peaks if size is not None]


def _capacity_mark(memory: MemoryResult, largest_bytes: float, factor: float) -> tuple[tuple[Mark, ...], str]:
    """The capacity as a mark, or as a note where it lies so far off that the bars would shrink to nothing."""
    if memory.capacity_bytes is None:
        return (), ""
    source = f" ({memory.capacity_source})" if memory.capacity_source else ""
    text = f"capacity {format_bytes(memory.capacity_bytes)}"
    if memory.capacity_bytes > _FAR_CAPACITY * largest_bytes:
        return (), f"Beyond the picture: {text}{source}."
    return (Mark(label=text, value=memory.capacity_bytes * factor, colour=palette.VERMILLION),), ""


def timeline_picture(record: RunRecord) -> Picture:
    """Allocated memory over the profiled window."""
    memory = record.memory
    title = "Memory over time"
    if memory is None or not memory.timeline:
        return Picture(name="timeline", title=title, empty=absence(record, "memory timeline"))
    times_s, sizes = zip(*memory.timeline, strict=True)
    time_factor, time_unit = scale("s", times_s)
    factor, unit = scale("byte", sizes)
    xs, ys = thin([time * time_factor for time in times_s], [size * factor for size in sizes])
    line = Line(name="allocated", xs=tuple(xs), ys=tuple(ys), colour=palette.BLUE)
    peaks = (
        ("predicted peak", memory.predicted_peak_bytes, palette.ORANGE),
        ("measured peak", memory.measured_peak_bytes, palette.BLUE),
    )
    return Picture(
        name="timeline",
        title=title,
        x_title=f"time in the profiled window [{time_unit}]",
        y_title=f"allocated [{unit}]",
        lines=(line,),
        marks=_peak_marks(peaks, factor),
        from_zero=True,
    )


def _peak_marks(peaks: Sequence[tuple[str, float | None, str]], factor: float) -> tuple[Mark, ...]:
    """Peaks as marks; two that look the same are one mark with both names."""
    known = [(label, size, colour) for label, size, colour in peaks if size is not None]
    if len({format_bytes(size) for _, size, _ in known}) == 1 < len(known):
        known = [(" and ".join([known[0][0].split()[0], known[1][0]]), *known[0][1:])]
    return tuple(
        Mark(label=f"{label} {format_bytes(size)}", value=size * factor, colour=colour) for label, size, colour in known
    )


def telemetry_pictures(record: RunRecord) -> tuple[Picture, ...]:
    """One small picture a quantity; series whose names differ in a number only (cores, devices) share one."""
    groups: dict[tuple[str, str], list[Series]] = {}
    for series in record.telemetry:
        if series.values:
            groups.setdefault((re.sub(r"\d+", "#", series.name), series.unit), []).append(series)
    return tuple(_panel(name, unit, members) for (name, unit), members in list(groups.items())[:_MOST_PANELS])


def _panel(name: str, unit: str, members: Sequence[Series]) -> Picture:
    factor, shown_unit = scale(unit, [value for series in members for value in series.values])
    shown = members[:_MOST_LINES]
    lines = []
    for place, series in enumerate(shown):
        xs, ys = thin(series.times_s, [value * factor for value in series.values], 200)
        colour = _LINE_COLOURS[place % len(_LINE_COLOURS)]
        lines.append(Line(name=series.name, xs=tuple(xs), ys=tuple(ys), colour=colour))
    title = members[0].name if len(members) == 1 else f"{name} ({len(members)} series)"
    note = f"{len(members) - len(shown)} more stand in the table." if len(members) > len(shown) else ""
    return Picture(
        name="telemetry", title=title, x_title="time since start [s]", y_title=shown_unit, lines=tuple(lines), note=note
    )
