"""Which tables show the results? Phases, layer kinds, operations, kernels, memory, recommendations, layouts."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.predict.classify import ABOVE_ROOF
from hwprof.report.cells import Field, Table, build_table, percent, quantity_text, span_text, yes
from hwprof.report.run.absence import absence
from hwprof.report.run.headline import gain_words, ranked_recommendations
from hwprof.specs.measurement import FEWEST_FOR_INTERVAL
from hwprof.specs.record.run import (
    Interval,
    KernelTime,
    KindResult,
    LayoutRow,
    OpResult,
    PhaseTime,
    Recommendation,
    RunRecord,
)

TOP_KERNELS = 40
TOP_LAYOUTS = 200


def _layout_words(row: LayoutRow) -> str:
    return f"{row.data_parallel} × {row.tensor_parallel} × {row.pipeline_parallel} = {row.devices} devices"


def _layout_interval(row: LayoutRow) -> str:
    return span_text((row.step_lo_s, row.step_hi_s), "s") if row.step_lo_s and row.step_hi_s else ""


def _phase_interval(phase: PhaseTime) -> str:
    return span_text(phase.interval_s, "s") if len(phase.samples_s) >= FEWEST_FOR_INTERVAL else ""


_PHASES: tuple[Field[PhaseTime], ...] = (
    Field("phase", "Phase", lambda phase: phase.name.replace("_", " ")),
    Field("in_step", "In step", lambda phase: yes(answer=phase.in_step), meaning="counts towards the step time"),
    Field("median", "Time", lambda phase: phase.median_s, "s", meaning="median per step, profiler off"),
    Field("interval", "95 % interval", _phase_interval, meaning="of the median, from 6 samples on"),
    Field("samples", "Samples", lambda phase: len(phase.samples_s), "count"),
    Field("share", "Share", lambda phase: phase.share if phase.in_step else None, "fraction", meaning="of the step"),
    Field("predicted", "Predicted", lambda phase: phase.predicted_s, "s", meaning="from counts and ceilings alone"),
    Field("roof", "Roof", lambda phase: phase.roof_s, "s", meaning="least possible time under the ceilings"),
    Field("bound", "Bound by", lambda phase: phase.bound, style="bound"),
)

_KINDS: tuple[Field[KindResult], ...] = (
    Field("layer_kind", "Layer kind", lambda kind: kind.layer_kind),
    Field("time", "Time", lambda kind: kind.time_s, "s", meaning="profiled, per step"),
    Field("share", "Share", lambda kind: kind.share, "fraction", meaning="of the step time"),
    Field("roof", "Roof", lambda kind: kind.roof_s, "s", meaning="least possible time under the ceilings"),
    Field("lost", "Time lost", lambda kind: kind.lost_s, "s", meaning="time above the roof"),
    Field("bound", "Bound by", lambda kind: kind.bound, style="bound"),
)

_OPS: tuple[Field[OpResult], ...] = (
    Field("op", "Operation", lambda op: op.label, style="code", meaning="* stands for every layer"),
    Field("layer_kind", "Layer kind", lambda op: op.layer_kind),
    Field("direction", "Direction", lambda op: op.direction),
    Field("time", "Time", lambda op: op.time_s, "s", meaning="profiled, all layers, per step"),
    Field("share", "Share", lambda op: op.share, "fraction", meaning="of the step time"),
    Field("lost", "Time lost", lambda op: op.lost_s, "s", meaning="time above the roof"),
    Field("bound", "Bound by", lambda op: op.bound, style="bound"),
    Field(
        "roof_fraction",
        "Of roof",
        lambda op: op.roof_fraction,
        "fraction",
        meaning="time at the binding roof over measured time",
    ),
    Field("roof", "Roof", lambda op: op.roof_name, style="code", meaning="the ceiling that binds"),
    Field(
        "margin", "Margin", lambda op: op.margin, "fraction", meaning="1 - time at the next roof over time at this one"
    ),
    Field("confidence", "Confidence", lambda op: op.confidence),
    Field("intensity", "Intensity [FLOP/B]", lambda op: op.intensity_flop_per_byte, "count", meaning="work per byte"),
    Field("rate", "Compute rate", lambda op: op.flop_per_s, "flop_per_s", meaning="work over time"),
    Field("bandwidth", "Memory rate", lambda op: op.byte_per_s, "byte_per_s", meaning="bytes moved over time"),
    Field("matmul", "Matrix work", lambda op: op.matmul_flop, "flop", meaning="a multiply-add is 2 FLOP"),
    Field("vector", "Vector work", lambda op: op.vector_flop, "flop", meaning="all other arithmetic, an estimate"),
    Field("read", "Read", lambda op: op.read_bytes, "byte"),
    Field("written", "Written", lambda op: op.write_bytes, "byte"),
    Field("calls", "Calls", lambda op: op.calls, "count", meaning="per step"),
    Field("advice", "What to do", lambda op: op.advice, style="long"),
)

_KERNELS: tuple[Field[KernelTime], ...] = (
    Field("kernel", "Kernel", lambda kernel: kernel.name, style="code"),
    Field("op", "Operation", lambda kernel: kernel.label, style="code"),
    Field("time", "Time", lambda kernel: kernel.time_s, "s", meaning="profiled, own time, per step"),
    Field("phase", "Phase", lambda kernel: kernel.phase.replace("_", " ")),
    Field("direction", "Direction", lambda kernel: kernel.direction),
    Field("calls", "Calls", lambda kernel: kernel.calls, "count", meaning="per step"),
)

_RECOMMENDATIONS: tuple[Field[Recommendation], ...] = (
    Field("title", "Recommendation", lambda item: item.title, style="long"),
    Field("gain", "Predicted saving", lambda item: gain_words(item.gain_fraction)),
    Field("change", "Change", lambda item: item.change, style="code"),
    Field("reason", "Reason", lambda item: item.reason, style="long"),
    Field("evidence", "Evidence", lambda item: item.evidence, style="long"),
    Field("basis", "Basis", lambda item: item.basis),
    Field("kind", "Kind", lambda item: item.kind),
)

_LAYOUTS: tuple[Field[LayoutRow], ...] = (
    Field("rank", "Rank", lambda row: row.rank, "count"),
    Field("cluster", "Cluster", lambda row: row.cluster),
    Field("fits", "Fits", lambda row: yes(answer=row.fits)),
    Field("layout", "Layout", _layout_words, meaning="data × tensor × pipeline parallel"),
    Field(
        "reason", "Reason", lambda row: row.reason, style="long", meaning="why it does not fit, or why it stands here"
    ),
    Field("zero", "ZeRO stage", lambda row: row.zero_stage, "count"),
    Field("micro_batch", "Micro-batch [sequences]", lambda row: row.micro_batch, "count"),
    Field("accumulation", "Accumulation [steps]", lambda row: row.gradient_accumulation, "count"),
    Field("recompute", "Recompute", lambda row: row.recompute),
    Field("memory", "Memory", lambda row: row.memory_bytes, "byte", meaning="predicted need per device"),
    Field("capacity", "Capacity", lambda row: row.capacity_bytes, "byte", meaning="per device"),
    Field("step", "Step time", lambda row: row.step_s, "s"),
    Field("interval", "Step interval", _layout_interval),
    Field("rate", "Tokens/s per device", lambda row: row.tokens_per_s_per_device, "count"),
    Field("mfu", "MFU", lambda row: row.mfu, "fraction"),
    Field("compute", "Compute", lambda row: row.compute_s, "s"),
    Field("communication", "Communication", lambda row: row.communication_s, "s"),
    Field("bubble", "Bubble", lambda row: row.bubble_s, "s", meaning="pipeline stages waiting for each other"),
    Field("bound", "Bound by", lambda row: row.bound, style="bound"),
)


@dataclass(frozen=True, slots=True)
class _MemoryLine:
    name: str
    size_bytes: float
    share: float | None
    note: str


_MEMORY: tuple[Field[_MemoryLine], ...] = (
    Field("part", "Part", lambda line: line.name),
    Field("size", "Size", lambda line: line.size_bytes, "byte"),
    Field(
        "share", "Share", lambda line: line.share, "fraction", meaning="of the peak: the predicted one, if there is one"
    ),
    Field("note", "Note", lambda line: line.note, style="long"),
)


def phase_table(record: RunRecord) -> Table:
    """The phases in the order in which they run."""
    note, empty = _overhead_note(record), absence(record, "phase times")
    return build_table("phases", "Phases", _PHASES, record.phases, note=note, empty=empty, one_unit=True)


def _overhead_note(record: RunRecord) -> str:
    parts = [
        f"{name} changes the time of a step by {percent(fraction)}{between}"
        for name, fraction, between in (
            ("recording the phases", record.recorder_overhead_fraction, _between(record.marked_over_bare_interval)),
            ("profiling (only in the profiled window)", record.profiler_overhead_fraction, _own(record)),
        )
        if fraction is not None
    ]
    return f"What hwprof itself costs: {'; '.join(parts)}." if parts else ""


def _own(record: RunRecord) -> str:
    own = record.profiler_own_fraction
    return "" if own is None else f" (its events on the host, counted one by one, take {percent(own)})"


def _between(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f" (steps with marks against steps without: {span_text(interval, 'fraction')}, 95 % interval)"


def kind_table(record: RunRecord) -> Table:
    """Layer kinds, most time first."""
    kinds = sorted(record.layer_kinds, key=lambda kind: -kind.time_s)
    return build_table(
        "kinds", "Layer kinds", _KINDS, kinds, empty=absence(record, "times by layer kind"), one_unit=True
    )


def op_table(record: RunRecord) -> Table:
    """Operations, most time first."""
    ops = sorted(record.ops, key=lambda op: -op.time_s)
    above = [op for op in ops if op.roof_fraction is not None and op.roof_fraction > ABOVE_ROOF]
    note = (
        f"Faster than their roof, whose ceiling was then measured too low: {len(above)} of {len(ops)}." if above else ""
    )
    return build_table("ops", "Operations", _OPS, ops, note=note, empty=absence(record, "operation times"))


def kernel_table(record: RunRecord) -> Table:
    """The kernels that take most time."""
    kernels = sorted(record.kernels, key=lambda kernel: -kernel.time_s)
    hidden = len(kernels) - TOP_KERNELS
    note = f"The {TOP_KERNELS} slowest of {len(kernels)}; run.json has all." if hidden > 0 else ""
    empty = absence(record, "kernel times")
    return build_table("kernels", "Kernels", _KERNELS, kernels[:TOP_KERNELS], note=note, empty=empty)


def memory_table(record: RunRecord) -> Table:
    """The parts of the predicted need at its peak, largest first."""
    memory = record.memory
    empty = absence(record, "memory result")
    if memory is None:
        return build_table("memory", "Memory", _MEMORY, (), empty=empty)
    whole = memory.predicted_peak_bytes or memory.measured_peak_bytes
    parts = sorted(memory.parts, key=lambda part: -part.predicted_bytes)
    lines = [
        _MemoryLine(part.name, part.predicted_bytes, part.predicted_bytes / whole if whole else None, part.note)
        for part in parts
    ]
    measured = (
        f"; measured {quantity_text(memory.measured_peak_bytes, 'byte')} ({memory.measured_source})"
        if memory.measured_peak_bytes is not None
        else "; not measured"
    )
    predicted = "Predicted peak" if memory.predicted_peak_bytes else "Peak not predicted"
    size = f" {quantity_text(whole, 'byte')}" if memory.predicted_peak_bytes else ""
    note = f"{predicted}{size}{measured}."
    return build_table("memory", "Memory", _MEMORY, lines, note=note, empty=empty)


def recommendation_table(record: RunRecord) -> Table:
    """All recommendations: settings before layouts, largest predicted gain first."""
    items = ranked_recommendations(record)
    empty = absence(record, "recommendations")
    return build_table("recommendations", "Recommendations", _RECOMMENDATIONS, items, empty=empty)


def layout_table(record: RunRecord) -> Table:
    """Layouts that fit, by rank, then those that do not, with the reason."""
    rows = sorted(record.layouts, key=lambda row: (not row.fits, row.rank))
    hidden = len(rows) - TOP_LAYOUTS
    basis = "A first estimate from rooflines and ring collectives, not a simulation."
    note = f"{basis} {hidden} more stand in plan.csv." if hidden > 0 else basis
    empty = absence(record, "parallel layouts (name a cluster with --cluster to get them)")
    return build_table(
        "layouts", "Parallel layouts", _LAYOUTS, rows[:TOP_LAYOUTS], note=note if rows else "", empty=empty
    )
