"""Which tables show the analysis of traces? Devices, findings, operators, kernels, steps, and what is behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hwprof.predict.classify import ABOVE_ROOF
from hwprof.report.cells import Field, Table, build_sheet, build_table
from hwprof.specs.record.stragglers import RankWait
from hwprof.specs.record.trace import (
    TimePart,
    TraceCause,
    TraceDevice,
    TraceFinding,
    TraceMemory,
    TracePathItem,
    TracePathPart,
    TraceQueue,
    TraceReport,
    TraceStep,
)
from hwprof.specs.record.trace_rows import (
    TraceCategory,
    TraceCollective,
    TraceCopy,
    TraceCounters,
    TraceGather,
    TraceKernel,
    TraceModule,
    TraceOp,
)
from hwprof.units import format_fraction, format_seconds, format_span

PART_WORDS: dict[TimePart, str] = {
    "compute": "computation",
    "communication": "exposed communication",
    "copy": "exposed copies",
    "input": "idle: waiting for the next batch",
    "recompilation": "idle: waiting for a compilation",
    "allocation": "idle: waiting for memory from the driver",
    "garbage_collection": "idle: while Python collected garbage",
    "lock": "idle: waiting for a lock",
    "call": "idle: inside one long call",
    "blocking_copy": "idle: after a copy that the host waited for",
    "synchronisation": "idle: after the host waited for the device",
    "host": "idle: waiting for the host",
    "launch": "idle: waiting for a launch to arrive",
    "graph": "idle: in graph replays",
    "queued": "idle: next kernel queued",
    "unknown": "idle: cause not in the trace",
}


DEVICES: tuple[Field[TraceDevice], ...] = (
    Field("rank", "Rank", lambda device: device.rank, "count"),
    Field("device", "Device", lambda device: device.device),
    Field("steps", "Steps", lambda device: len(device.steps), "count"),
    Field("step", "Step", lambda device: device.step_median_s, "s", meaning="median"),
    Field(
        "interval", "95 % interval", lambda device: format_span(device.step_interval_s, "s"), meaning="of the median"
    ),
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
PARTS: tuple[Field[tuple[TimePart, float]], ...] = (
    Field("part", "Part", lambda part: PART_WORDS[part[0]]),
    Field("share", "Share", lambda part: part[1], "fraction", meaning="of all time"),
)
FINDINGS: tuple[Field[TraceFinding], ...] = (
    Field("finding", "The device", lambda finding: finding.title),
    Field("share", "Share", lambda finding: finding.share, "fraction", meaning="of all time"),
    Field("change", "What usually helps", lambda finding: finding.change, style="long"),
    Field("evidence", "Evidence", lambda finding: finding.evidence, style="long"),
)
STEPS: tuple[Field[TraceStep], ...] = (
    Field("step", "Step", lambda step: step.name),
    Field("start_s", "Start", lambda step: step.start_s, "s", meaning="since the first event"),
    Field("duration_s", "Duration", lambda step: step.duration_s, "s"),
    Field("compute_s", "Compute", lambda step: step.compute_s, "s"),
    Field("communication_s", "Exposed communication", lambda step: step.exposed_communication_s, "s"),
    Field("copies_s", "Exposed copies", lambda step: step.exposed_copy_s, "s"),
    Field("idle_s", "Idle", lambda step: step.idle_s, "s"),
)
OPS: tuple[Field[TraceOp], ...] = (
    Field("op", "Operator", lambda op: op.op, style="code"),
    Field("calls", "Calls", lambda op: op.calls, "count"),
    Field("time_s", "Time", lambda op: op.time_s, "s", meaning="of all calls"),
    Field("share", "Share", lambda op: op.share, "fraction", meaning="of the time of all operators"),
    Field("roof_fraction", "Of roof", lambda op: op.roof_fraction, "fraction"),
    Field("bound", "Bound by", lambda op: op.bound, style="bound"),
    Field("module", "Module", lambda op: op.module, style="code"),
    Field("direction", "Direction", lambda op: op.direction),
    Field("category", "Sort", lambda op: op.category),
    Field("shapes", "Shapes", lambda op: op.shapes),
    Field("dtype", "Type", lambda op: op.dtype),
    Field("matmul_flop", "Matrix work", lambda op: op.matmul_flop, "flop", meaning="a multiply-add is 2 FLOP"),
    Field("causal_flop", "Causal", lambda op: op.causal_flop, "flop", meaning="half, where attention was called so"),
    Field("moved_bytes", "Traffic", lambda op: op.moved_bytes, "byte", meaning="arguments and results, each once"),
    Field("rate_flop_per_s", "Compute rate", lambda op: op.flop_per_s, "flop_per_s"),
    Field("bandwidth_byte_per_s", "Memory rate", lambda op: op.byte_per_s, "byte_per_s"),
    Field("roof", "Roof", lambda op: op.roof_name, style="code"),
    Field("marks", "But", lambda op: ", ".join(op.marks), meaning="why the rate says little"),
)
"""What a row is worth stands before what it is long to say, so that a page 1,400 pixels wide shows it."""
_NOT_BY_SHAPE = {"module", "direction"}
RATES = tuple(field for field in OPS if field.name not in _NOT_BY_SHAPE)
CATEGORIES: tuple[Field[TraceCategory], ...] = (
    Field("category", "Sort of work", lambda row: row.category),
    Field("kernels", "Kernels", lambda row: row.kernels, "count"),
    Field("time_s", "Time", lambda row: row.time_s, "s", meaning="of all kernels"),
    Field("share", "Share", lambda row: row.share, "fraction", meaning="of the time of all kernels"),
    Field(
        "counted_s",
        "Counted",
        lambda row: row.counted_s or None,
        "s",
        meaning="of operators whose work is known, fills included",
    ),
    Field("matmul_flop", "Matrix work", lambda row: row.matmul_flop or None, "flop"),
    Field("moved_bytes", "Traffic", lambda row: row.moved_bytes or None, "byte"),
    Field("rate_flop_per_s", "Compute rate", lambda row: row.flop_per_s, "flop_per_s", meaning="of what is counted"),
    Field("bandwidth_byte_per_s", "Memory rate", lambda row: row.byte_per_s, "byte_per_s"),
)
COPIES: tuple[Field[TraceCopy], ...] = (
    Field("copy", "Copy", lambda row: row.name, style="code"),
    Field("count", "Copies", lambda row: row.count, "count"),
    Field("bytes", "Bytes", lambda row: row.bytes or None, "byte", meaning="of all"),
    Field("time_s", "Time", lambda row: row.time_s, "s"),
    Field("rate_byte_per_s", "Rate", lambda row: row.byte_per_s, "byte_per_s"),
    Field("best_byte_per_s", "Best", lambda row: row.best_byte_per_s, "byte_per_s", meaning="of one copy"),
    Field("link_fraction", "Of the link", lambda row: row.link_fraction, "fraction", meaning="the best, over its rate"),
    Field("link", "Link", lambda row: row.link_name, style="code"),
)
GATHERS: tuple[Field[TraceGather], ...] = (
    Field("module", "Gathered for", lambda row: row.module or "(none)", style="code"),
    Field("direction", "Direction", lambda row: row.direction),
    Field("count", "Gathers", lambda row: row.count, "count"),
    Field("prefetched", "Prefetched", lambda row: row.prefetched, "count", meaning="asked for by an earlier module"),
    Field("time_s", "Time", lambda row: row.time_s, "s"),
    Field("exposed_s", "Exposed", lambda row: row.exposed_s, "s", meaning="no computation hides it"),
)
COUNTERS: tuple[Field[TraceCounters], ...] = (
    Field("op", "Operator", lambda row: row.op or "unknown", style="code"),
    Field("kernel", "Kernel", lambda row: row.kernel, style="code"),
    Field("kernels", "Kernels", lambda row: row.kernels, "count"),
    Field("flop", "FLOP", lambda row: row.flop, "flop", meaning="counted by the GPU, tensor cores apart"),
    Field("moved_bytes", "DRAM traffic", lambda row: row.moved_bytes, "byte"),
    Field("counters", "Counters", lambda row: len(row.values), "count", meaning="all of them are in the JSON"),
)
MODULES: tuple[Field[TraceModule], ...] = (
    Field("module", "Module", lambda row: row.module or "(none)", style="code"),
    Field("direction", "Direction", lambda row: row.direction),
    Field("time_s", "Time", lambda row: row.time_s, "s"),
    Field("share", "Share", lambda row: row.share, "fraction", meaning="of the time of all operators"),
    Field("matmul_flop", "Matrix work", lambda row: row.matmul_flop or None, "flop"),
    Field("moved_bytes", "Traffic", lambda row: row.moved_bytes or None, "byte"),
)
KERNELS: tuple[Field[TraceKernel], ...] = (
    Field("kernel", "Kernel", lambda row: row.name, style="code"),
    Field("kind", "Kind", lambda row: row.kind),
    Field("category", "Sort", lambda row: row.category),
    Field("library", "Library", lambda row: row.library or "unknown"),
    Field("calls", "Calls", lambda row: row.calls, "count"),
    Field("time_s", "Time", lambda row: row.time_s, "s", meaning="of all calls"),
    Field("share", "Share", lambda row: row.share, "fraction", meaning="of the time of all kernels"),
    Field("mean_s", "Mean", lambda row: row.mean_s, "s"),
    Field("min_s", "Least", lambda row: row.min_s, "s"),
    Field("max_s", "Most", lambda row: row.max_s, "s"),
    Field("deviation_s", "Deviation", lambda row: row.deviation_s, "s", meaning="standard deviation of a call"),
)
CAUSES: tuple[Field[TraceCause], ...] = (
    Field("what", "The host was in", lambda row: row.what, style="code"),
    Field("module", "Module", lambda row: row.module, style="code"),
    Field("cause", "Cause", lambda row: PART_WORDS[row.cause].removeprefix("idle: ")),
    Field("time_s", "Device idle", lambda row: row.time_s, "s"),
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
    Field("time_s", "Time", lambda row: row.time_s, "s"),
    Field("share", "Share", lambda row: row.share, "fraction", meaning="of the path"),
)
PATH_ITEMS: tuple[Field[TracePathItem], ...] = (
    Field("kind", "Kind", lambda row: row.kind),
    Field("name", "Work", lambda row: row.name or "–", style="code"),
    Field("time_s", "On the path", lambda row: row.time_s, "s"),
    Field("times", "Times", lambda row: row.times, "count"),
)
MEMORY: tuple[Field[TraceMemory], ...] = (
    Field("device", "Device", lambda row: row.device),
    Field("peak_bytes", "Peak allocated", lambda row: row.peak_allocated_bytes, "byte"),
    Field("reserved_bytes", "Peak reserved", lambda row: row.peak_reserved_bytes, "byte"),
    Field("at_s", "At", lambda row: row.peak_at_s, "s", meaning="since the first event"),
    Field("where", "In", lambda row: row.peak_in, style="code"),
    Field("growth_bytes", "Growth per step", lambda row: row.growth_bytes_per_step, "byte"),
)
RANKS: tuple[Field[RankWait], ...] = (
    Field("rank", "Rank", lambda row: row.rank, "count"),
    Field("waited", "Waited", lambda row: row.waited_s, "s", meaning="in collectives, until the last rank came"),
    Field("caused", "Made others wait", lambda row: row.caused_s, "s", meaning="time of all others together"),
    Field("last", "Came last", lambda row: row.last, "count", meaning="times"),
    Field("cause", "Cause", lambda row: row.cause if row.cause is not None else "not clear"),
)
COLLECTIVES: tuple[Field[TraceCollective], ...] = (
    Field("op", "Collective", lambda row: row.op, style="code"),
    Field("group", "Group", lambda row: row.group),
    Field("ranks", "Ranks", lambda row: row.ranks, "count"),
    Field("bytes", "Size", lambda row: row.bytes, "byte", meaning="the whole vector of a call, as nccl-tests has it"),
    Field("count", "Calls", lambda row: row.count, "count"),
    Field(
        "duration_s", "Time", lambda row: row.duration_s, "s", meaning="of all calls, waiting for late ranks included"
    ),
    Field("exposed_s", "Exposed", lambda row: row.exposed_s, "s", meaning="no computation hides it"),
    Field("hidden_s", "Hidden", lambda row: row.hidden_s, "s"),
    Field("algbw_byte_per_s", "Algbw", lambda row: row.algbw_byte_per_s, "byte_per_s", meaning="size over mean time"),
    Field("busbw_byte_per_s", "Busbw", lambda row: row.busbw_byte_per_s, "byte_per_s", meaning="nccl-tests' busbw"),
    Field(
        "best_busbw_byte_per_s",
        "Best busbw",
        lambda row: row.best_busbw_byte_per_s,
        "byte_per_s",
        meaning="of the quickest call",
    ),
    Field(
        "link_fraction", "Of the link", lambda row: row.link_fraction, "fraction", meaning="best busbw over line rate"
    ),
    Field(
        "probe_fraction", "Of a probe", lambda row: row.probe_fraction, "fraction", meaning="best busbw over a probe's"
    ),
)


def _rates(device: TraceDevice) -> Sequence[TraceOp]:
    """Rates of shapes; without modules the operators' own table has them already."""
    return device.rates if any(op.module for op in device.ops) else ()


_DETAILS: tuple[tuple[str, str, Sequence[Field[Any]], Callable[[TraceDevice], Sequence[Any]]], ...] = (
    ("findings", "What holds it back", FINDINGS, lambda device: device.findings),
    ("steps", "Steps", STEPS, lambda device: device.steps),
    ("categories", "Sorts of work", CATEGORIES, lambda device: device.categories),
    ("modules", "Modules", MODULES, lambda device: device.modules),
    ("ops", "Operators", OPS, lambda device: device.ops),
    ("rates", "Rates by shape", RATES, _rates),
    ("kernels", "Kernels", KERNELS, lambda device: device.kernels),
    ("counters", "Counted by the GPU", COUNTERS, lambda device: device.counters),
    ("copies", "Copies", COPIES, lambda device: device.copies),
    ("collectives", "Collectives", COLLECTIVES, lambda device: device.collectives),
    ("gathers", "Gathers of sharded parameters", GATHERS, lambda device: device.gathers),
    ("path_parts", "Critical path", PATH_PARTS, lambda device: device.path.parts if device.path else ()),
    (
        "critical_path",
        "Longest work on the critical path",
        PATH_ITEMS,
        lambda device: device.path.items if device.path else (),
    ),
    ("causes", "While the device waited for the host", CAUSES, lambda device: device.causes),
    ("queues", "Queues", QUEUES, lambda device: device.queues),
    ("memory", "Memory", MEMORY, lambda device: device.memory),
)
_GAP_MATTERS = 0.01
"""Of the time: shorter gaps are not named by themselves."""
_TELLING = {"ops", "rates", "collectives", "copies", "counters", "modules", "categories"}
"""Tables that leave out columns without any value."""
_NO_SHEET = {"findings", "path_parts"}
SHEETS = tuple(name for name, *_ in _DETAILS if name not in _NO_SHEET)
"""Names of the CSV files of a device."""


def together_tables(report: TraceReport) -> list[Table]:
    """One line a device, where there are several, and who waited for whom."""
    devices = [build_table("devices", "Devices", DEVICES, report.devices)] if len(report.devices) > 1 else []
    waits = report.stragglers
    if waits is None:
        return devices
    note = f"{waits.collectives} collectives that all ranks share; {waits.unmatched} others. {waits.note}".strip()
    return [*devices, build_table("ranks", "Ranks waiting for each other", RANKS, waits.ranks, note=note)]


def gap_words(device: TraceDevice) -> str:
    """The longest time in which the device did nothing, why, and what the host was in; empty where that says little."""
    gap = device.largest_gap
    if gap is None or gap.duration_s < _GAP_MATTERS * device.breakdown.span_s:
        return ""
    host = f", the host in {' > '.join(gap.host[-3:])}" if gap.host else ""
    return f"Longest gap: {format_seconds(gap.duration_s)}, {PART_WORDS[gap.cause].removeprefix('idle: ')}{host}."


def waiting_words(report: TraceReport) -> str:
    """Which rank the others waited for, and why; empty where none stands out."""
    waits = report.stragglers
    worst = waits.named if waits else None
    if waits is None or worst is None:
        return ""
    why = f"; before, it did more than the others of: {worst.cause}" if worst.cause else ""
    return (
        f"Rank {worst.rank} made the others wait most, {format_seconds(worst.caused_s)} of all of them together: "
        f"it came last to {worst.last} of {waits.collectives} collectives{why}."
    )


def part_table(device: TraceDevice) -> Table:
    """Where the time of one device went."""
    return build_table("parts", "Where the time went", PARTS, list(device.shares.items()))


def detail_tables(device: TraceDevice, top: int) -> tuple[Table, ...]:
    """The tables of one device that have rows, each with its ``top`` rows."""
    found = ((name, title, fields, rows_of(device)) for name, title, fields, rows_of in _DETAILS)
    return tuple(
        build_table(
            name,
            title,
            _telling(fields, rows) if name in _TELLING else fields,
            rows[:top],
            note=" ".join(filter(None, [_above(rows) if name in {"ops", "rates"} else "", _more(rows, top)])),
        )
        for name, title, fields, rows in found
        if rows
    )


def _above(ops: Sequence[TraceOp]) -> str:
    above = [op for op in ops if op.roof_fraction is not None and op.roof_fraction > ABOVE_ROOF]
    if not above:
        return ""
    most = max(above, key=lambda op: op.roof_fraction or 0.0)
    return (
        f"{len(above)} of {len(ops)} are above their roof (the most {most.op}, {format_fraction(most.roof_fraction)}): "
        "they move less than is counted, or out of a cache, and nothing is said to bind them."
    )


def _more(rows: Sequence[Any], top: int) -> str:
    return f"The first {top} of {len(rows)}; --top N shows more, --format json all." if len(rows) > top else ""


def _telling(fields: Sequence[Field[Any]], rows: Sequence[Any]) -> tuple[Field[Any], ...]:
    """The columns that say anything: without shapes there is no work, without ceilings no bound."""
    return tuple(field for field in fields if any(field.read(row) not in {None, "", "unknown"} for row in rows))


def sheets(device: TraceDevice) -> dict[str, Table]:
    """Name of a CSV file -> its table, nothing scaled or left out."""
    return {
        name: build_sheet(name, title, fields, rows_of(device))
        for name, title, fields, rows_of in _DETAILS
        if name in SHEETS
    }


def device_title(device: TraceDevice) -> str:
    """Which device, how many steps, how long."""
    step = format_seconds(device.step_median_s)
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
    return "Most time: " + ", ".join(f"{PART_WORDS[part]} {format_fraction(share)}" for part, share in shares) + "."
