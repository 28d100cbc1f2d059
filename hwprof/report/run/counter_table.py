"""Which table shows a run's kernels beside a GPU's own counters, and in what words do both agree?"""

from __future__ import annotations

from hwprof.report.cells import Field, Table, build_table
from hwprof.specs.record.counters import TOP_KERNELS, CounterRow, CountersResult
from hwprof.units import format_fraction, number

_SHOWN_NAMES = 5

_COUNTERS: tuple[Field[CounterRow], ...] = (
    Field("kernel", "Kernel", lambda row: row.kernel, style="code"),
    Field("op", "Operation", lambda row: row.label, style="code", meaning="in which the kernel takes most time"),
    Field("time", "Time", lambda row: row.time_s, "s", meaning="profiled, per step of the run"),
    Field("counted_bound", "Bound by", lambda row: row.counted_bound, style="bound", meaning="of the operation"),
    Field("measured_bound", "Busiest", lambda row: row.measured_bound, style="bound", meaning="by the counters"),
    Field("byte_ratio", "Counted over DRAM", lambda row: row.byte_ratio, "ratio", meaning="above 1: caches served it"),
    Field("dram", "DRAM", lambda row: row.dram_fraction, "fraction", meaning="of its peak, by the counters"),
    Field("tensor", "Tensor pipe", lambda row: row.tensor_fraction, "fraction", meaning="of its peak, by the counters"),
    Field("counted", "Bytes counted", lambda row: row.counted_bytes, "byte", meaning="by the byte model, per step"),
    Field("measured", "DRAM bytes", lambda row: row.measured_bytes, "byte", meaning="by the counters, per step"),
    Field("op_fraction", "Of operation", lambda row: row.op_fraction, "fraction", meaning="of its time"),
    Field("other_ops", "Others", lambda row: row.other_ops, "count", meaning="more operations that use the kernel"),
    Field("launches", "Launches", lambda row: row.launches, "count", meaning="that the counters saw"),
)


def counter_table(counters: CountersResult) -> Table:
    """Kernels that both know, most time first."""
    return build_table(
        "counters",
        "Counters of the GPU",
        _COUNTERS,
        counters.rows,
        note=_note(counters),
        empty=f"{_matched(counters)} Profile the command of this run.",
    )


def _note(counters: CountersResult) -> str:
    parts = [_matched(counters)]
    if counters.compared:
        parts.append(
            f"Bound classes agree on {counters.agreeing} of {len(counters.compared)} kernels: those of the "
            f"{TOP_KERNELS} longest that are most of their operation and whose class both know."
        )
    if counters.byte_ratio is not None:
        parts.append(f"Bytes counted over DRAM bytes measured: {number(counters.byte_ratio)}.")
    return " ".join([*parts, *_unmatched(counters)])


def _matched(counters: CountersResult) -> str:
    return (
        f"{len(counters.rows)} of {counters.file_kernels} kernels in {counters.source} are among the "
        f"{counters.run_kernels} of the run, {format_fraction(counters.matched_time_fraction)} of its kernel time."
    )


def _unmatched(counters: CountersResult) -> tuple[str, ...]:
    if not counters.unmatched:
        return ()
    more = len(counters.unmatched) - _SHOWN_NAMES
    names = ", ".join(
        name.removeprefix("void ").split("<")[0].split("(")[0] for name in counters.unmatched[:_SHOWN_NAMES]
    )
    return (f"Not in the run: {names}{f' and {more} more' if more > 0 else ''}.",)
