"""What stands in the CSV files? One table a file, in fixed units that the column names state."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.report.cells import Field, Table, build_sheet, yes
from hwprof.specs.record.run import LayoutRow, OpResult, PhaseTime, RunRecord

_PHASES: tuple[Field[PhaseTime], ...] = (
    Field("phase", "Phase", lambda phase: phase.name),
    Field("in_step", "In step", lambda phase: yes(answer=phase.in_step)),
    Field("median_s", "Median", lambda phase: phase.median_s, "s"),
    Field("interval_lo_s", "Interval from", lambda phase: phase.interval_s[0], "s"),
    Field("interval_hi_s", "Interval to", lambda phase: phase.interval_s[1], "s"),
    Field("share_fraction", "Share of step", lambda phase: phase.share, "fraction"),
    Field("bound", "Bound", lambda phase: phase.bound),
    Field("predicted_s", "Predicted", lambda phase: phase.predicted_s, "s"),
    Field("roof_s", "Roof", lambda phase: phase.roof_s, "s"),
    Field("samples_count", "Samples", lambda phase: len(phase.samples_s), "count"),
)

_OPS: tuple[Field[OpResult], ...] = (
    Field("op", "Operation", lambda op: op.label),
    Field("layer_kind", "Layer kind", lambda op: op.layer_kind),
    Field("phase", "Phase", lambda op: op.phase),
    Field("direction", "Direction", lambda op: op.direction),
    Field("calls_per_step", "Calls", lambda op: op.calls, "count"),
    Field("time_ms", "Time", lambda op: 1e3 * op.time_s, "s"),
    Field("share_fraction", "Share of step", lambda op: op.share, "fraction"),
    Field("matmul_flop", "Matrix FLOP", lambda op: op.matmul_flop, "flop"),
    Field("vector_flop", "Vector FLOP", lambda op: op.vector_flop, "flop"),
    Field("read_bytes", "Read", lambda op: op.read_bytes, "byte"),
    Field("write_bytes", "Written", lambda op: op.write_bytes, "byte"),
    Field("intensity_flop_per_byte", "Intensity", lambda op: op.intensity_flop_per_byte, "ratio"),
    Field("compute_rate_flop_per_s", "Compute rate", lambda op: op.flop_per_s, "flop_per_s"),
    Field("memory_rate_byte_per_s", "Memory rate", lambda op: op.byte_per_s, "byte_per_s"),
    Field("roof", "Roof", lambda op: op.roof_name),
    Field("roof_ms", "Time at roof", lambda op: 1e3 * op.roof_s, "s"),
    Field("roof_fraction", "Share of roof", lambda op: op.roof_fraction, "fraction"),
    Field("bound", "Bound", lambda op: op.bound),
    Field("margin_fraction", "Margin", lambda op: op.margin, "fraction"),
    Field("confidence", "Confidence", lambda op: op.confidence),
    Field("lost_ms", "Time lost", lambda op: 1e3 * op.lost_s, "s"),
    Field("advice", "Advice", lambda op: op.advice),
)

_PLAN: tuple[Field[LayoutRow], ...] = (
    Field("rank", "Rank", lambda row: row.rank, "count"),
    Field("cluster", "Cluster", lambda row: row.cluster),
    Field("devices", "Devices", lambda row: row.devices, "count"),
    Field("data_parallel", "Data parallel", lambda row: row.data_parallel, "count"),
    Field("tensor_parallel", "Tensor parallel", lambda row: row.tensor_parallel, "count"),
    Field("pipeline_parallel", "Pipeline parallel", lambda row: row.pipeline_parallel, "count"),
    Field("zero_stage", "ZeRO stage", lambda row: row.zero_stage, "count"),
    Field("micro_batch_sequences", "Micro-batch", lambda row: row.micro_batch, "count"),
    Field("gradient_accumulation_steps", "Accumulation", lambda row: row.gradient_accumulation, "count"),
    Field("recompute", "Recompute", lambda row: row.recompute),
    Field("fits", "Fits", lambda row: yes(answer=row.fits)),
    Field("reason", "Reason", lambda row: row.reason),
    Field("memory_bytes", "Memory", lambda row: row.memory_bytes, "byte"),
    Field("capacity_bytes", "Capacity", lambda row: row.capacity_bytes, "byte"),
    Field("step_s", "Step", lambda row: row.step_s, "s"),
    Field("step_lo_s", "Step from", lambda row: row.step_lo_s, "s"),
    Field("step_hi_s", "Step to", lambda row: row.step_hi_s, "s"),
    Field("tokens_per_s_per_device", "Tokens/s/device", lambda row: row.tokens_per_s_per_device, "count"),
    Field("mfu_fraction", "MFU", lambda row: row.mfu, "fraction"),
    Field("compute_s", "Compute", lambda row: row.compute_s, "s"),
    Field("communication_s", "Communication", lambda row: row.communication_s, "s"),
    Field("bubble_s", "Bubble", lambda row: row.bubble_s, "s"),
    Field("bound", "Bound", lambda row: row.bound),
)


@dataclass(frozen=True, slots=True)
class _MemoryLine:
    part: str
    role: str
    size_bytes: float | None
    source: str


_MEMORY: tuple[Field[_MemoryLine], ...] = (
    Field("part", "Part", lambda line: line.part),
    Field("role", "Role", lambda line: line.role),
    Field("size_bytes", "Size", lambda line: line.size_bytes, "byte"),
    Field("source", "Source", lambda line: line.source),
)


def _memory_lines(record: RunRecord) -> list[_MemoryLine]:
    """Each part, then the totals: predicted peak (the parts' sum at the peak), measured peak, capacity."""
    memory = record.memory
    if memory is None:
        return []
    lines = [_MemoryLine(part.name, "part", part.predicted_bytes, part.note) for part in memory.parts]
    totals = [
        _MemoryLine("predicted peak", "total", memory.predicted_peak_bytes, "counted"),
        _MemoryLine("measured peak", "total", memory.measured_peak_bytes, memory.measured_source),
        _MemoryLine("capacity", "limit", memory.capacity_bytes, memory.capacity_source),
    ]
    return lines + [line for line in totals if line.size_bytes is not None]


def build_sheets(record: RunRecord) -> tuple[Table, ...]:
    """The tables behind ``phases.csv``, ``ops.csv``, ``memory.csv`` and ``plan.csv``; without data a header alone."""
    return (
        build_sheet("phases", "Phases", _PHASES, record.phases),
        build_sheet("ops", "Operations", _OPS, record.ops),
        build_sheet("memory", "Memory", _MEMORY, _memory_lines(record)),
        build_sheet("plan", "Layouts", _PLAN, record.layouts),
    )
