"""What stands in the CSV files? One table a file, in fixed units that the column names state."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.report.cells import Field, Table, build_sheet, chosen
from hwprof.report.run.columns import LAYOUTS, OPS, PHASES
from hwprof.report.run.rank_tables import rank_sheets
from hwprof.specs.record.run import RunRecord

_PHASES = chosen(
    PHASES,
    "phase in_step median_s interval_lo_s interval_hi_s share_fraction bound predicted_s roof_s samples_count",
)
_OPS = chosen(
    OPS,
    "op layer_kind phase direction calls_per_step time_ms share_fraction matmul_flop vector_flop read_bytes "
    "write_bytes intensity_flop_per_byte compute_rate_flop_per_s memory_rate_byte_per_s roof roof_ms roof_fraction "
    "bound margin_fraction confidence lost_ms advice",
)
_PLAN = chosen(
    LAYOUTS,
    "rank cluster devices data_parallel tensor_parallel pipeline_parallel zero_stage micro_batch_sequences "
    "gradient_accumulation_steps recompute fits reason memory_bytes capacity_bytes step_s step_lo_s step_hi_s "
    "tokens_per_s_per_device mfu_fraction compute_s communication_s bubble_s bound",
)


@dataclass(frozen=True, slots=True)
class _Size:
    part: str
    role: str
    size_bytes: float | None
    source: str


_MEMORY: tuple[Field[_Size], ...] = (
    Field("part", "Part", lambda line: line.part),
    Field("role", "Role", lambda line: line.role),
    Field("size_bytes", "Size", lambda line: line.size_bytes, "byte"),
    Field("source", "Source", lambda line: line.source),
)


def _sizes(record: RunRecord) -> list[_Size]:
    """Each part, then the totals: predicted peak (the parts' sum at the peak), measured peak, capacity."""
    memory = record.memory
    if memory is None:
        return []
    lines = [
        *(_Size(part.name, "part", part.predicted_bytes, part.note) for part in memory.parts),
        _Size("predicted peak", "total", memory.predicted_peak_bytes, "counted"),
        _Size("measured peak", "total", memory.measured_peak_bytes, memory.measured_source),
        _Size("capacity", "limit", memory.capacity_bytes, memory.capacity_source),
    ]
    return [line for line in lines if line.size_bytes is not None]


def build_sheets(record: RunRecord) -> tuple[Table, ...]:
    """The tables behind ``phases.csv``, ``ops.csv``, ``memory.csv``, ``plan.csv`` and, of several ranks, two more.

    Without data a table has its columns alone.
    """
    return (
        build_sheet("phases", "Phases", _PHASES, record.phases),
        build_sheet("ops", "Operations", _OPS, record.ops),
        build_sheet("memory", "Memory", _MEMORY, _sizes(record)),
        build_sheet("plan", "Layouts", _PLAN, record.layouts),
        *(rank_sheets(record.ranks) if record.ranks else ()),
    )
