"""What does the page of an emulated script show? Its step as a verdict, charts and tables; nothing here is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hwprof.emulate.answer import Emulation
from hwprof.emulate.rows import CallRow, ExposedRow, PhaseRow, call_rows, exposed_rows, phase_rows
from hwprof.report import palette
from hwprof.report.cells import Field, build_table, yes
from hwprof.report.head import AnswerPage, card
from hwprof.report.pictures import BOUND_WORDS, Bar, Card, Line, Picture, Segment, segment
from hwprof.spans.intervals import union
from hwprof.specs.hardware.spec import MatmulDtype
from hwprof.units import (
    format_byte_per_s,
    format_bytes,
    format_flop_per_s,
    format_fraction,
    format_quantity,
    format_seconds,
    format_span,
    scale,
)
from hwprof.version import __version__

PARTS = {
    "compute": ("Kernels", palette.BLUE),
    "exposed_communication": ("Communication that nothing hides", palette.VERMILLION),
    "contention": ("What hidden traffic costs compute", palette.ORANGE),
    "stragglers": ("Waiting for the slowest", palette.PURPLE),
    "idle": ("Idle, waiting for the host", palette.GREY),
    "fixed": ("Data, logging, synchronisation", palette.SLATE),
}
MOST_ROWS = 100
MOST_SPANS = 300
"""Bars of a row of the timeline; spans that are nearer than this many fill the step are drawn as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulationPage(AnswerPage):
    """The page: pictures ``roofs`` and ``timeline``, where the step goes, and what the numbers rest on."""

    parts: tuple[Segment, ...]
    roofs: Picture
    timeline: Picture
    notes: tuple[str, ...]


def build_page(found: Emulation, compared: Sequence[Emulation]) -> EmulationPage:
    """Everything that the page shows, scaled, rounded and in words."""
    recording = found.recording
    calls, exposed = call_rows(found), exposed_rows(found)
    tables = (
        build_table("phases", "Phases", PHASE_FIELDS, phase_rows(found)),
        build_table("exposed", "Collectives", EXPOSED_FIELDS, exposed[:MOST_ROWS], empty="The step sends nothing."),
        build_table("calls", "Calls", _call_fields(found), calls[:MOST_ROWS]),
        build_table("assumed", "Calls at assumed prices", _call_fields(found), [row for row in calls if row.assumed],
                    empty="Somebody measured what each price rests on."),
        build_table("kinds", "By what it is for", SIZE_FIELDS, list(recording.memory.kinds.items())),
        build_table("places", "By the module that made it", SIZE_FIELDS, list(recording.memory.places.items())),
        build_table("compared", "The same step elsewhere", COMPARED_FIELDS, [found, *compared]),
    )  # fmt: skip
    return EmulationPage(
        title=f"Emulated on {recording.devices:,} x {found.hardware}",
        subtitle=f"rank {recording.rank}, step {recording.steps}; every number is emulated, none was measured",
        version=__version__,
        sentence=_sentence(found, exposed),
        caution=_caution(found),
        cards=_cards(found),
        parts=tuple(_parts(found)),
        roofs=_roofs(found, calls),
        timeline=_timeline(found),
        tables={table.name: table for table in tables},
        notes=found.basis,
    )


PHASE_FIELDS: tuple[Field[PhaseRow], ...] = (
    Field("phase", "Phase", lambda row: row.phase),
    Field("kernels", "Kernels", lambda row: row.kernels, "count"),
    Field("busy", "Busy", lambda row: row.busy_s, "s", meaning="time in which a kernel of this phase runs"),
    Field("messages", "Collectives", lambda row: row.messages_s, "s", meaning="time in which one is under way"),
    Field("exposed", "Exposed", lambda row: row.exposed_s, "s", meaning="the part in which no kernel runs"),
)
EXPOSED_FIELDS: tuple[Field[ExposedRow], ...] = (
    Field("op", "Collective", lambda row: row.op),
    Field("place", "Module", lambda row: row.place or None, meaning="whose weights or results travel"),
    Field("phase", "Phase", lambda row: row.phase),
    Field("ranks", "Ranks", lambda row: row.ranks, "count"),
    Field("bytes", "Size", lambda row: row.size_bytes, "byte", meaning="of the whole vector, as nccl-tests has it"),
    Field("count", "Times", lambda row: row.count, "count"),
    Field("duration", "Takes", lambda row: row.duration_s, "s"),
    Field("exposed", "Exposed", lambda row: row.exposed_s, "s", meaning="the part in which no kernel runs"),
)
SIZE_FIELDS: tuple[Field[tuple[str, int]], ...] = (
    Field("name", "What", lambda row: row[0] or "outside of modules"),
    Field("bytes", "Size", lambda row: row[1], "byte"),
)
COMPARED_FIELDS: tuple[Field[Emulation], ...] = (
    Field("hardware", "Hardware", lambda one: one.hardware),
    Field("step", "Step", lambda one: one.step_s, "s"),
    Field("interval", "90 % interval", lambda one: format_span(one.interval_s, "s")),
    Field("bound", "Bound", lambda one: one.bound, style="bound"),
    Field("assumed", "At assumed prices", lambda one: one.assumed_share, "fraction"),
    Field("fits", "Fits", lambda one: yes(answer=one.fits)),
)


def _call_fields(found: Emulation) -> tuple[Field[CallRow], ...]:
    return (
        Field("name", "Operator", lambda row: row.name, style="code"),
        Field("line", "Line of the script", lambda row: row.line, style="code"),
        Field("count", "Times", lambda row: row.count, "count"),
        Field("time", "Takes", lambda row: row.time_s, "s"),
        Field("share", "Of the step", lambda row: row.time_s / found.step_s, "fraction"),
        Field("rate", "Rate", lambda row: row.flop / row.time_s if row.flop else None, "flop_per_s"),
        Field("moved", "Moves", lambda row: row.moved_bytes / row.time_s, "byte_per_s"),
        Field("assumed", "Assumed", lambda row: yes(answer=row.assumed), meaning="nobody measured such a kernel"),
    )


def _sentence(found: Emulation, exposed: Sequence[ExposedRow]) -> str:
    said = f"A step takes {format_seconds(found.step_s)}, most of it {BOUND_WORDS[found.bound]}."
    worst = exposed[0] if exposed else None
    if worst is None or worst.exposed_s < WORTH_SAYING * found.step_s:
        return said
    where = f" of {worst.place}" if worst.place else ""
    return (
        f"{said} Nothing hides {format_seconds(worst.exposed_s)} of {worst.op.replace('_', '-')}{where} "
        f"({worst.phase}, {worst.count} times {format_bytes(worst.size_bytes)}): start it earlier, or make it smaller."
    )


WORTH_SAYING = 0.01
"""Share of a step from which on a collective is named in the verdict."""


def _caution(found: Emulation) -> str:
    refusal = found.refusal
    if refusal is None:
        need, room = format_bytes(found.recording.memory.reserved_bytes), format_bytes(found.capacity_bytes)
        return "" if found.fits else f"Out of memory: the allocator would hold {need}, the device has {room}."
    asked, held = format_bytes(refusal.asked_bytes), format_bytes(refusal.allocated_bytes)
    return f"Out of memory at {refusal.line}: {asked} more beside {held}. The times are those of a device with room."


def _cards(found: Emulation) -> tuple[Card, ...]:
    memory, recording = found.recording.memory, found.recording

    rate = format_flop_per_s(recording.flop / found.step_s)
    return (
        card("Step", format_seconds(found.step_s), f"90 % interval {format_span(found.interval_s, 's')}"),
        card("Work", format_quantity(float(recording.flop), "flop"), f"{rate} in {recording.call_count:,} calls"),
        card(
            "Memory",
            format_bytes(memory.reserved_bytes),
            f"reserved of {format_bytes(found.capacity_bytes)}; tensors {format_bytes(memory.peak_bytes)}",
        ),
        card("At assumed prices", format_fraction(found.assumed_share), "of the device's time; the interval is wider"),
    )


def _parts(found: Emulation) -> Iterator[Segment]:
    for name, seconds in found.breakdown_s.items():
        if seconds > 0:
            words, colour = PARTS[name]
            yield segment(words, seconds / found.step_s, colour, detail=format_seconds(seconds))


_DTYPES: tuple[MatmulDtype, ...] = ("bf16", "fp8", "tf32", "fp32")


def _roofs(found: Emulation, calls: Sequence[CallRow]) -> Picture:
    """Operators by FLOP a byte and FLOP a second, under the machine's roofs."""
    machine = found.machine
    drawn = [row for row in calls if row.flop and row.moved_bytes][:MOST_ROWS]
    title = "Operators that multiply, under the roofs"
    if not drawn:
        return Picture(name="roofs", title=title, empty="Nothing is multiplied in a step.")
    factor, unit = scale("flop_per_s", [machine.peak_flop_per_s("bf16")])
    known = [dtype for dtype in _DTYPES if machine.device.matmul_flop_per_s(dtype) is not None]
    tops = {dtype: machine.peak_flop_per_s(dtype) for dtype in known}
    xs = [row.flop / row.moved_bytes for row in drawn]
    left, right = min(*xs, 1.0) / 2, max([*xs, *(top / machine.memory_byte_per_s for top in tops.values())]) * 2
    lines = [
        Line(
            name=f"{dtype} {format_flop_per_s(top)}",
            xs=(left, top / machine.memory_byte_per_s, right),
            ys=(left * machine.memory_byte_per_s * factor, top * factor, top * factor),
            colour=colour,
            style="line" if place == 0 else "dashes",
        )
        for place, ((dtype, top), colour) in enumerate(
            zip(tops.items(), (palette.BLACK, palette.GREY, palette.SLATE, palette.LIGHT_GREY), strict=False)
        )
    ]
    dots = Line(
        name="operators",
        xs=tuple(xs),
        ys=tuple(row.flop / row.time_s * factor for row in drawn),
        colour=palette.BLUE,
        style="dots",
        texts=tuple(f"{row.name}, {row.line}: {format_seconds(row.time_s)} a step" for row in drawn),
    )
    return Picture(
        name="roofs",
        title=title,
        x_title="FLOP for each byte",
        y_title=f"rate [{unit}]",
        lines=(*lines, dots),
        log_x=True,
        log_y=True,
        legend=True,
        note=f"Roofs are those of the datasheet, the slope is {format_byte_per_s(machine.memory_byte_per_s)}.",
    )


def _timeline(found: Emulation) -> Picture:
    """When kernels of each stream and collectives of each group run."""
    kernels, messages = found.played.kernels, found.played.messages
    begin_s = min([*kernels.starts, *messages.starts], default=0.0)
    rows: list[tuple[str, str, np.ndarray, np.ndarray]] = []
    streams, starts, ends = (np.array(each) for each in (kernels.streams, kernels.starts, kernels.ends))
    for number in np.unique(streams):
        mine = streams == number
        rows.append((f"kernels, stream {number}", palette.BLUE, starts[mine], ends[mine]))
    kinds = [found.recording.collectives[kind] for kind in messages.kinds]
    names = [f"{one.op.replace('_', '-')} over {2 if one.peer >= 0 else len(one.ranks)}" for one in kinds]
    starts, ends = np.array(messages.starts), np.array(messages.ends)
    for name in dict.fromkeys(names):
        mine = np.array([each == name for each in names])
        rows.append((name, palette.VERMILLION, starts[mine], ends[mine]))
    factor, unit = scale("s", [found.played.step_s])
    bars = [bar for row in rows for bar in _bars(row, begin_s, found.played.step_s, factor)]
    return Picture(
        name="timeline",
        title="The step, as streams and groups play it",
        x_title=f"time [{unit}]",
        bars=tuple(bars),
        note="Spans close to each other are drawn as one; trace.json.gz has each (open it in Perfetto).",
        empty="" if bars else "Nothing runs in a step.",
    )


def _bars(row: tuple[str, str, np.ndarray, np.ndarray], begin_s: float, step_s: float, factor: float) -> Iterator[Bar]:
    name, colour, starts, ends = row
    gap_s = step_s / MOST_SPANS
    spans = union(starts, ends + gap_s)
    for start_s, end_s in zip(spans.starts, spans.ends, strict=True):
        length_s = max(float(end_s) - gap_s - float(start_s), 0.0)
        yield Bar(
            label=name,
            start=(float(start_s) - begin_s) * factor,
            length=length_s * factor,
            text="",
            detail=f"{name}: {format_seconds(length_s)} from {format_seconds(float(start_s) - begin_s)}",
            colour=colour,
        )
