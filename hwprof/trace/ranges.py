"""What did the GPU count in each kernel, and which operator launched it?

Kernels that are counted run one by one, in the order of their launches, which is how HTA joins them, too
(hta/analyzers/cupti_counter_analysis.py).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from hwprof.spans.columns import HostKind, Trace
from hwprof.spans.nesting import at, named
from hwprof.specs.record.trace_rows import TraceCounters
from hwprof.trace.calls import Calls

_LAUNCH = re.compile(r"(cuda|hip|cu)(Launch|ModuleLaunch|ExtModuleLaunch)\w*Kernel")
_FLOP: Mapping[str, int] = {
    f"smsp__sass_thread_inst_executed_op_{kind}{word}_pred_on.sum": 2 if word == "fma" else 1
    for kind in "fhd"
    for word in ("fma", "mul", "add")
}
"""FLOP of one instruction of a thread, tensor cores apart."""
_BYTES = "dram__bytes.sum"


def counter_table(trace: Trace, calls: Calls) -> tuple[TraceCounters, ...]:
    """Counters of each kernel and operator, added up; operators are unknown where launches and kernels do not match."""
    if not trace.ranges:
        return ()
    launches = np.flatnonzero((trace.host.kind == HostKind.RUNTIME) & named(trace, _LAUNCH.match)).astype(np.int32)
    launches = launches[np.argsort(trace.host.start_ns[launches], kind="stable")]
    owner = at(calls.owner, launches).tolist() if len(launches) == len(trace.ranges) else [-1] * len(trace.ranges)
    sums: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for one, place in zip(trace.ranges, owner, strict=True):
        key = (trace.names[int(trace.host.name[place])] if place >= 0 else "", one.name)
        counts[key] += 1
        for name, value in one.values:
            sums[key][name] += value
    rows = [_row(*key, kernels=count, values=dict(sums[key])) for key, count in counts.items()]
    return tuple(sorted(rows, key=lambda row: (-(row.flop or 0.0), row.op, row.kernel)))


def _row(op: str, kernel: str, *, kernels: int, values: dict[str, float]) -> TraceCounters:
    flop = [each * values[name] for name, each in _FLOP.items() if name in values]
    return TraceCounters(
        op=op, kernel=kernel, kernels=kernels, flop=sum(flop) if flop else None, moved_bytes=values.get(_BYTES),
        values=values,
    )  # fmt: skip
