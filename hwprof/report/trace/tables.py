"""Which tables show the analysis of traces? Devices, findings, operators, kernels, steps, and what is behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hwprof.report.cells import Field, Table, build_sheet, build_table, percent, quantity_text, span_text
from hwprof.specs.record.trace import (
    RankWait,
    Stragglers,
    TimePart,
    TraceCause,
    TraceDevice,
    TraceFinding,
    TraceKernel,
    TraceMemory,
    TraceModule,
    TraceOp,
    TracePathItem,
    TracePathPart,
    TraceQueue,
    TraceStep,
)

PART_WORDS: dict[TimePart, str] = {
    "compute": "computation",
    "communication": "exposed communication",
    "copy": "exposed copies",
    "input": "idle: waiting for the next batch",
    "synchronisation": "idle: after the host waited for the device",
    "host": "idle: waiting for the host",
    "launch": "idle: waiting for a launch to arrive",
    "queued": "idle: next kernel queued",
    "unknown": "idle: cause not in the trace",
}


@dataclass(frozen=True, slots=True)
class _Part:
    words: str
    share: float


DEVICES: tuple[Field[TraceDevice], ...] = (
    Field("rank", "Rank", lambda device: device.rank, "count"),
    Field("device", "Device", lambda device: device.device),
    Field("steps", "Steps", lambda device: len(device.steps), "count"),
    Field("step", "Step", lambda device: device.step_median_s, "s", meaning="median"),
    Field("interval", "95 % interval", lambda device: span_text(device.step_interval_s, "s"), meaning="of the median"),
    Field("compute", "Compute", lambda device: device.shares.get("compute", 0.0), "fraction", meaning="of all time"),
    Field(
        "communication",
        "Exposed comm.",
        lambda device: device.shares.get("communication", 0.0),
        "fraction",
        meaning="communication that no computation hides",
    ),
    Field(
        "copies",
        "Exposed copies",
        lambda device: device.shares.get("copy", 0.0),
        "fraction",
        meaning="copies that nothing hides",
    ),
    Field("hidden", "Comm. hidden", lambda device: device.overlap.communication_fraction, "fraction"),
    Field("file", "File", lambda device: device.file, style="code"),
)
PARTS: tuple[Field[_Part], ...] = (
    Field("part", "Part", lambda part: part.words),
    Field("share", "Share", lambda part: part.share, "fraction", meaning="of all time"),
)
FINDINGS: tuple[Field[TraceFinding], ...] = (
    Field("finding", "The device", lambda finding: finding.title),
    Field("share", "Share", lambda finding: finding.share, "fraction", meaning="of all time"),
    Field("evidence", "Evidence", lambda finding: finding.evidence, style="long"),
    Field("change", "What usually helps", lambda finding: finding.change, style="long"),
)
STEPS: tuple[Field[TraceStep], ...] = (
    Field("step", "Step", lambda step: step.name),
    Field("start", "Start", lambda step: step.start_s, "s", meaning="since the first event"),
    Field("duration", "Duration", lambda step: step.duration_s, "s"),
    Field("compute", "Compute", lambda step: step.compute_s, "s"),
    Field("communication", "Exposed communication", lambda step: step.exposed_communication_s, "s"),
    Field("copies", "Exposed copies", lambda step: step.exposed_copy_s, "s"),
    Field("idle", "Idle", lambda step: step.idle_s, "s"),
)
OPS: tuple[Field[TraceOp], ...] = (
    Field("module", "Module", lambda op: op.module, style="code"),
    Field("op", "Operator", lambda op: op.op, style="code"),
    Field("direction", "Direction", lambda op: op.direction),
    Field("shapes", "Shapes", lambda op: op.shapes),
    Field("dtype", "Type", lambda op: op.dtype),
    Field("calls", "Calls", lambda op: op.calls, "count"),
    Field("time", "Time", lambda op: op.time_s, "s", meaning="of all calls"),
    Field("share", "Share", lambda op: op.share, "fraction", meaning="of the time of all operators"),
    Field("matmul", "Matrix work", lambda op: op.matmul_flop, "flop", meaning="a multiply-add is 2 FLOP"),
    Field("moved", "Traffic", lambda op: op.moved_bytes, "byte", meaning="arguments and results, each once"),
    Field("rate", "Compute rate", lambda op: op.flop_per_s, "flop_per_s"),
    Field("bandwidth", "Memory rate", lambda op: op.byte_per_s, "byte_per_s"),
    Field("bound", "Bound by", lambda op: op.bound, style="bound"),
    Field("roof_fraction", "Of roof", lambda op: op.roof_fraction, "fraction"),
    Field("roof", "Roof", lambda op: op.roof_name, style="code"),
)
MODULES: tuple[Field[TraceModule], ...] = (
    Field("module", "Module", lambda row: row.module or "(none)", style="code"),
    Field("direction", "Direction", lambda row: row.direction),
    Field("time", "Time", lambda row: row.time_s, "s"),
    Field("share", "Share", lambda row: row.share, "fraction", meaning="of the time of all operators"),
    Field("matmul", "Matrix work", lambda row: row.matmul_flop, "flop"),
    Field("moved", "Traffic", lambda row: row.moved_bytes, "byte"),
)
KERNELS: tuple[Field[TraceKernel], ...] = (
    Field("kernel", "Kernel", lambda row: row.name, style="code"),
    Field("kind", "Kind", lambda row: row.kind),
    Field("calls", "Calls", lambda row: row.calls, "count"),
    Field("time", "Time", lambda row: row.time_s, "s", meaning="of all calls"),
    Field("share", "Share", lambda row: row.share, "fraction", meaning="of the time of all kernels"),
    Field("mean", "Mean", lambda row: row.mean_s, "s"),
    Field("min", "Least", lambda row: row.min_s, "s"),
    Field("max", "Most", lambda row: row.max_s, "s"),
    Field("deviation", "Deviation", lambda row: row.deviation_s, "s", meaning="standard deviation of a call"),
)
CAUSES: tuple[Field[TraceCause], ...] = (
    Field("what", "The host was in", lambda row: row.what, style="code"),
    Field("module", "Module", lambda row: row.module, style="code"),
    Field("time", "Device idle", lambda row: row.time_s, "s"),
    Field("gaps", "Gaps", lambda row: row.gaps, "count"),
)
QUEUES: tuple[Field[TraceQueue], ...] = (
    Field("stream", "Stream", lambda row: row.stream, "count"),
    Field("longest", "Longest queue", lambda row: row.longest, "count", meaning="kernels launched and not started"),
    Field("mean", "Mean queue", lambda row: row.mean, "count", meaning="over time"),
    Field("empty", "Empty", lambda row: row.empty_fraction, "fraction", meaning="of the time"),
)
PATH_PARTS: tuple[Field[TracePathPart], ...] = (
    Field("kind", "On the critical path", lambda row: row.kind),
    Field("time", "Time", lambda row: row.time_s, "s"),
    Field("share", "Share", lambda row: row.share, "fraction", meaning="of the path"),
)
PATH_ITEMS: tuple[Field[TracePathItem], ...] = (
    Field("kind", "Kind", lambda row: row.kind),
    Field("name", "Work", lambda row: row.name or "–", style="code"),
    Field("time", "On the path", lambda row: row.time_s, "s"),
    Field("times", "Times", lambda row: row.times, "count"),
)
MEMORY: tuple[Field[TraceMemory], ...] = (
    Field("device", "Device", lambda row: row.device),
    Field("peak", "Peak allocated", lambda row: row.peak_allocated_bytes, "byte"),
    Field("reserved", "Peak reserved", lambda row: row.peak_reserved_bytes, "byte"),
    Field("at", "At", lambda row: row.peak_at_s, "s", meaning="since the first event"),
    Field("where", "In", lambda row: row.peak_in, style="code"),
    Field("growth", "Growth per step", lambda row: row.growth_bytes_per_step, "byte"),
)
RANKS: tuple[Field[RankWait], ...] = (
    Field("rank", "Rank", lambda row: row.rank, "count"),
    Field("waited", "Waited", lambda row: row.waited_s, "s", meaning="in collectives, until the last rank came"),
    Field("caused", "Made others wait", lambda row: row.caused_s, "s", meaning="time of all others together"),
    Field("last", "Came last", lambda row: row.last, "count", meaning="times"),
)

SHEETS: dict[str, tuple[Sequence[Field[Any]], Callable[[TraceDevice], Sequence[Any]]]] = {
    "steps": (STEPS, lambda device: device.steps),
    "modules": (MODULES, lambda device: device.modules),
    "ops": (OPS, lambda device: device.ops),
    "kernels": (KERNELS, lambda device: device.kernels),
    "causes": (CAUSES, lambda device: device.causes),
    "critical_path": (PATH_ITEMS, lambda device: device.path.items if device.path else ()),
    "queues": (QUEUES, lambda device: device.queues),
    "memory": (MEMORY, lambda device: device.memory),
}
"""Name of a CSV file -> its columns and rows; all in base units."""


def device_table(devices: Sequence[TraceDevice]) -> Table:
    """One line a device."""
    return build_table("devices", "Devices", DEVICES, devices)


def part_table(device: TraceDevice) -> Table:
    """Where the time of one device went."""
    parts = [_Part(PART_WORDS[part], share) for part, share in device.shares.items()]
    return build_table("parts", "Where the time went", PARTS, parts)


def straggler_table(waits: Stragglers) -> Table:
    """Who waited for whom."""
    note = f"{waits.collectives} collectives that all ranks share; {waits.unmatched} others. {waits.note}".strip()
    return build_table("ranks", "Ranks waiting for each other", RANKS, waits.ranks, note=note)


def detail_tables(device: TraceDevice, top: int) -> tuple[Table, ...]:
    """The tables of one device, each with its ``top`` rows."""
    path = device.path
    chosen: tuple[tuple[str, str, Sequence[Field[Any]], Sequence[Any]], ...] = (
        ("findings", "What holds it back", FINDINGS, device.findings),
        ("steps", "Steps", STEPS, device.steps),
        ("modules", "Modules", MODULES, device.modules),
        ("ops", "Operators", _filled(OPS, device.ops), device.ops),
        ("kernels", "Kernels", KERNELS, device.kernels),
        ("path_parts", "Critical path", PATH_PARTS, path.parts if path else ()),
        ("path_items", "Longest work on the critical path", PATH_ITEMS, path.items if path else ()),
        ("causes", "While the device waited for the host", CAUSES, device.causes),
        ("queues", "Queues", QUEUES, device.queues),
        ("memory", "Memory", MEMORY, device.memory),
    )
    return tuple(
        build_table(name, title, fields, rows[:top], note=_hidden(len(rows), top))
        for name, title, fields, rows in chosen
        if rows
    )


def _hidden(rows: int, top: int) -> str:
    return f"The first {top} of {rows}; --top N shows more, --format json all." if rows > top else ""


def _filled(fields: Sequence[Field[TraceOp]], ops: Sequence[TraceOp]) -> tuple[Field[TraceOp], ...]:
    """The columns that say anything: without shapes there is no work, without ceilings no bound."""
    return tuple(field for field in fields if any(field.read(op) not in {None, "", "unknown"} for op in ops))


def sheets(device: TraceDevice) -> dict[str, Table]:
    """The tables of one device for spreadsheets, nothing scaled or left out."""
    return {name: build_sheet(name, name, _united(fields), rows(device)) for name, (fields, rows) in SHEETS.items()}


_UNITS = {"s": "_s", "byte": "_bytes", "flop": "_flop", "flop_per_s": "_flop_per_s", "byte_per_s": "_byte_per_s"}


def _united(fields: Sequence[Field[Any]]) -> list[Field[Any]]:
    """The columns with the unit in their names."""
    return [
        Field(field.name + _UNITS.get(field.quantity, ""), field.title, field.read, field.quantity) for field in fields
    ]


def device_title(device: TraceDevice) -> str:
    """Which device, how many steps, how long."""
    step = quantity_text(device.step_median_s, "s")
    steps = f"{len(device.steps)} steps of {step} (median)" if len(device.steps) > 1 else f"one step of {step}"
    return f"Rank {device.rank} of {device.world_size}, {device.device}: {steps}"


def broken_words(device: TraceDevice) -> str:
    """Where its file could not be read on; empty for a whole file."""
    if device.broken is None:
        return ""
    return f"BROKEN at byte {device.broken.offset_bytes}: {device.broken.reason}; this is what stands before."


def headline(device: TraceDevice) -> str:
    """Where the time went, in a sentence; the largest parts first."""
    shares = sorted(device.shares.items(), key=lambda part: -part[1])[:3]
    return "Most time: " + ", ".join(f"{PART_WORDS[part]} {percent(share)}" for part, share in shares) + "."
