"""Which tables show the results? Phases, layer kinds, operations, kernels, memory, recommendations, layouts."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.predict.classify import ABOVE_ROOF
from hwprof.report.cells import Field, Table, build_table, chosen
from hwprof.report.run.absence import absence
from hwprof.report.run.columns import LAYOUTS, OPS, PHASES
from hwprof.report.run.headline import gain_words, ranked_recommendations
from hwprof.specs.record.goodput import BookedTime
from hwprof.specs.record.run import (
    Interval,
    KernelTime,
    KindResult,
    Recommendation,
    RunRecord,
)
from hwprof.units import format_bytes, format_fraction, format_span

TOP_KERNELS = 40
TOP_LAYOUTS = 200
_PLANNED = "From rank 1 on the planner's answer: the fastest layout of each family of degrees, by the event engine."


_PHASES = chosen(PHASES, "phase in_step median_s interval samples_count share predicted_s roof_s bound")
_OPS = chosen(
    OPS,
    "op layer_kind direction time share_fraction lost bound roof_fraction roof margin_fraction confidence "
    "intensity_flop_per_byte compute_rate_flop_per_s memory_rate_byte_per_s matmul_flop vector_flop read_bytes "
    "write_bytes calls_per_step advice",
)
_LAYOUTS = chosen(
    LAYOUTS,
    "rank cluster fits layout reason zero_stage micro_batch_sequences gradient_accumulation_steps recompute "
    "memory_bytes capacity_bytes step_s interval tokens_per_s_per_device mfu_fraction compute_s communication_s "
    "bubble_s bound",
)

_KINDS: tuple[Field[KindResult], ...] = (
    Field("layer_kind", "Layer kind", lambda kind: kind.layer_kind),
    Field("time", "Time", lambda kind: kind.time_s, "s", meaning="profiled, per step"),
    Field("share", "Share", lambda kind: kind.share, "fraction", meaning="of the step time"),
    Field("roof", "Roof", lambda kind: kind.roof_s, "s", meaning="least possible time under the ceilings"),
    Field("lost", "Time lost", lambda kind: kind.lost_s, "s", meaning="time above the roof"),
    Field("bound", "Bound by", lambda kind: kind.bound, style="bound"),
)

_KERNELS: tuple[Field[KernelTime], ...] = (
    Field("kernel", "Kernel", lambda kernel: kernel.name, style="code"),
    Field("op", "Operation", lambda kernel: kernel.label, style="code"),
    Field("time", "Time", lambda kernel: kernel.time_s, "s", meaning="profiled, own time, per step"),
    Field("phase", "Phase", lambda kernel: kernel.phase.replace("_", " ")),
    Field("direction", "Direction", lambda kernel: kernel.direction),
    Field("calls", "Calls", lambda kernel: kernel.calls, "count", meaning="per step"),
)


@dataclass(frozen=True, slots=True)
class _Booked:
    name: str
    time_s: float
    share: float


_GOODPUT: tuple[Field[_Booked], ...] = (
    Field("part", "Time in", lambda part: part.name),
    Field("time", "Time", lambda part: part.time_s, "s"),
    Field("share", "Share", lambda part: part.share, "fraction", meaning="of all time, over restarts"),
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


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    size_bytes: float
    share: float | None
    note: str


_MEMORY: tuple[Field[_Part], ...] = (
    Field("part", "Part", lambda part: part.name),
    Field("size", "Size", lambda part: part.size_bytes, "byte"),
    Field(
        "share", "Share", lambda part: part.share, "fraction", meaning="of the peak: the predicted one, if there is one"
    ),
    Field("note", "Note", lambda part: part.note, style="long"),
)


def phase_table(record: RunRecord) -> Table:
    """The phases in the order in which they run."""
    note, empty = _overhead_note(record), absence(record, "phase times")
    return build_table("phases", "Phases", _PHASES, record.phases, note=note, empty=empty, one_unit=True)


def _overhead_note(record: RunRecord) -> str:
    parts = [
        f"{name} changes the time of a step by {format_fraction(fraction)}{between}"
        for name, fraction, between in (
            ("recording the phases", record.recorder_overhead_fraction, _between(record.marked_over_bare_interval)),
            ("profiling (only in the profiled window)", record.profiler_overhead_fraction, _own(record)),
        )
        if fraction is not None
    ]
    return f"What hwprof itself costs: {'; '.join(parts)}." if parts else ""


def _own(record: RunRecord) -> str:
    own = record.profiler_own_fraction
    return "" if own is None else f" (its events on the host, counted one by one, take {format_fraction(own)})"


def _between(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f" (steps with marks against steps without: {format_span(interval, 'fraction')}, 95 % interval)"


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
    if memory is None:
        return build_table("memory", "Memory", _MEMORY, (), empty=absence(record, "memory result"))
    predicted, measured = memory.predicted_peak_bytes, memory.measured_peak_bytes
    whole = predicted or measured
    parts = [
        _Part(part.name, part.predicted_bytes, part.predicted_bytes / whole if whole else None, part.note)
        for part in sorted(memory.parts, key=lambda part: -part.predicted_bytes)
    ]
    note = f"Predicted peak {format_bytes(predicted)}" if predicted else "Peak not predicted"
    note += "; not measured" if measured is None else f"; measured {format_bytes(measured)} ({memory.measured_source})"
    if memory.reserved_bytes is not None:
        note += f"; reserved by torch's allocator at most {format_bytes(memory.reserved_bytes)}"
    if memory.outside_bytes is not None:
        note += f"; beside it the context, libraries and other processes have {format_bytes(memory.outside_bytes)}"
    return build_table("memory", "Memory", _MEMORY, parts, note=f"{note}.", empty=absence(record, "memory parts"))


def recommendation_table(record: RunRecord) -> Table:
    """All recommendations: settings before layouts, largest predicted gain first."""
    items = ranked_recommendations(record)
    empty = absence(record, "recommendations")
    return build_table("recommendations", "Recommendations", _RECOMMENDATIONS, items, empty=empty)


def goodput_table(found: BookedTime) -> Table:
    """What became of the loop's time, over all its processes."""
    parts = [_Booked(name, time_s, time_s / found.wall_s if found.wall_s else 0.0) for name, time_s in found.shares]
    return build_table("goodput", "Goodput", _GOODPUT, parts, note=found.sentence)


def layout_table(record: RunRecord) -> Table:
    """Layouts that fit, by rank, then those that do not, with the reason."""
    rows = sorted(record.layouts, key=lambda row: (not row.fits, row.rank))
    hidden = len(rows) - TOP_LAYOUTS
    notes = [_PLANNED] if any(row.rank for row in rows) else []
    notes += [f"{hidden} more stand in plan.csv."] if hidden > 0 else []
    empty = absence(record, "parallel layouts (name a cluster with --cluster to get them)")
    return build_table("layouts", "Parallel layouts", _LAYOUTS, rows[:TOP_LAYOUTS], note=" ".join(notes), empty=empty)
