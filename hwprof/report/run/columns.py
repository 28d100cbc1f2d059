"""Which columns do phases, operations and layouts have, in files and for people? Each is defined once, here."""

from __future__ import annotations

import math

from hwprof.report.cells import Field, yes
from hwprof.specs.measurement import FEWEST_FOR_INTERVAL
from hwprof.specs.record.run import LayoutRow, OpResult, PhaseTime
from hwprof.units import format_span


def _phase_interval(phase: PhaseTime) -> str:
    return format_span(phase.interval_s, "s") if len(phase.samples_s) >= FEWEST_FOR_INTERVAL else ""


PHASES: tuple[Field[PhaseTime], ...] = (
    Field("phase", "Phase", lambda phase: phase.name, show=lambda phase: phase.name.replace("_", " ")),
    Field("in_step", "In step", lambda phase: yes(answer=phase.in_step), meaning="counts towards the step time"),
    Field("median_s", "Time", lambda phase: phase.median_s, "s", meaning="median per step, profiler off"),
    Field("interval", "95 % interval", _phase_interval, meaning="of the median, from 6 samples on"),
    Field("interval_lo_s", "Interval from", lambda phase: phase.interval_s[0], "s"),
    Field("interval_hi_s", "Interval to", lambda phase: phase.interval_s[1], "s"),
    Field("samples_count", "Samples", lambda phase: len(phase.samples_s), "count"),
    Field("share", "Share", lambda phase: phase.share if phase.in_step else None, "fraction", meaning="of the step"),
    Field("share_fraction", "Share of step", lambda phase: phase.share, "fraction"),
    Field("predicted_s", "Predicted", lambda phase: phase.predicted_s, "s", meaning="from counts and ceilings alone"),
    Field("roof_s", "Roof", lambda phase: phase.roof_s, "s", meaning="least possible time under the ceilings"),
    Field("bound", "Bound by", lambda phase: phase.bound, style="bound"),
)

OPS: tuple[Field[OpResult], ...] = (
    Field("op", "Operation", lambda op: op.label, style="code", meaning="* stands for every layer"),
    Field("layer_kind", "Layer kind", lambda op: op.layer_kind),
    Field("phase", "Phase", lambda op: op.phase),
    Field("direction", "Direction", lambda op: op.direction),
    Field("time", "Time", lambda op: op.time_s, "s", meaning="profiled, all layers, per step"),
    Field("time_ms", "Time", lambda op: 1e3 * op.time_s, "s"),
    Field("share_fraction", "Share", lambda op: op.share, "fraction", meaning="of the step time"),
    Field("lost", "Time lost", lambda op: op.lost_s, "s", meaning="time above the roof"),
    Field("lost_ms", "Time lost", lambda op: 1e3 * op.lost_s, "s"),
    Field("bound", "Bound by", lambda op: op.bound, style="bound"),
    Field(
        "roof_fraction",
        "Of roof",
        lambda op: op.roof_fraction,
        "fraction",
        meaning="time at the binding roof over measured time",
    ),
    Field("roof", "Roof", lambda op: op.roof_name, style="code", meaning="the ceiling that binds"),
    Field("roof_ms", "Time at roof", lambda op: 1e3 * op.roof_s, "s"),
    Field(
        "margin_fraction",
        "Margin",
        lambda op: op.margin,
        "fraction",
        meaning="1 - time at the next roof over time at this one",
    ),
    Field("confidence", "Confidence", lambda op: op.confidence),
    Field(
        "intensity_flop_per_byte",
        "Intensity [FLOP/B]",
        lambda op: op.intensity_flop_per_byte,
        "count",
        meaning="work per byte",
    ),
    Field("compute_rate_flop_per_s", "Compute rate", lambda op: op.flop_per_s, "flop_per_s", meaning="work over time"),
    Field(
        "memory_rate_byte_per_s",
        "Memory rate",
        lambda op: op.byte_per_s,
        "byte_per_s",
        meaning="bytes moved over time",
    ),
    Field("matmul_flop", "Matrix work", lambda op: op.matmul_flop, "flop", meaning="a multiply-add is 2 FLOP"),
    Field("vector_flop", "Vector work", lambda op: op.vector_flop, "flop", meaning="all other arithmetic, an estimate"),
    Field("read_bytes", "Read", lambda op: op.read_bytes, "byte"),
    Field("write_bytes", "Written", lambda op: op.write_bytes, "byte"),
    Field("calls_per_step", "Calls", lambda op: op.calls, "count", meaning="per step"),
    Field("advice", "What to do", lambda op: op.advice, style="long"),
)


def _layout_words(row: LayoutRow) -> str:
    """The degrees as a product; what is left of the devices works along the context."""
    degrees = (row.data_parallel, row.tensor_parallel, row.pipeline_parallel)
    context = row.devices // math.prod(degrees)
    return f"{' × '.join(map(str, (*degrees, context) if context > 1 else degrees))} = {row.devices} devices"


def _layout_interval(row: LayoutRow) -> str:
    return format_span((row.step_lo_s, row.step_hi_s), "s") if row.step_lo_s and row.step_hi_s else ""


LAYOUTS: tuple[Field[LayoutRow], ...] = (
    Field("rank", "Rank", lambda row: row.rank, "count"),
    Field("cluster", "Cluster", lambda row: row.cluster),
    Field("fits", "Fits", lambda row: yes(answer=row.fits)),
    Field("layout", "Layout", _layout_words, meaning="data × tensor × pipeline (× context) parallel"),
    Field(
        "reason", "Reason", lambda row: row.reason, style="long", meaning="why it does not fit, or why it stands here"
    ),
    Field("devices", "Devices", lambda row: row.devices, "count"),
    Field("data_parallel", "Data parallel", lambda row: row.data_parallel, "count"),
    Field("tensor_parallel", "Tensor parallel", lambda row: row.tensor_parallel, "count"),
    Field("pipeline_parallel", "Pipeline parallel", lambda row: row.pipeline_parallel, "count"),
    Field("zero_stage", "ZeRO stage", lambda row: row.zero_stage, "count"),
    Field("micro_batch_sequences", "Micro-batch [sequences]", lambda row: row.micro_batch, "count"),
    Field("gradient_accumulation_steps", "Accumulation [steps]", lambda row: row.gradient_accumulation, "count"),
    Field("recompute", "Recompute", lambda row: row.recompute),
    Field("memory_bytes", "Memory", lambda row: row.memory_bytes, "byte", meaning="predicted need per device"),
    Field("capacity_bytes", "Capacity", lambda row: row.capacity_bytes, "byte", meaning="per device"),
    Field("step_s", "Step time", lambda row: row.step_s, "s"),
    Field("interval", "Step interval", _layout_interval),
    Field("step_lo_s", "Step from", lambda row: row.step_lo_s, "s"),
    Field("step_hi_s", "Step to", lambda row: row.step_hi_s, "s"),
    Field("tokens_per_s_per_device", "Tokens/s per device", lambda row: row.tokens_per_s_per_device, "count"),
    Field("mfu_fraction", "MFU", lambda row: row.mfu, "fraction"),
    Field("compute_s", "Compute", lambda row: row.compute_s, "s"),
    Field("communication_s", "Communication", lambda row: row.communication_s, "s"),
    Field("bubble_s", "Bubble", lambda row: row.bubble_s, "s", meaning="pipeline stages waiting for each other"),
    Field("bound", "Bound by", lambda row: row.bound, style="bound"),
)
