"""What rows does the analysis of traces have? Kernels, operators, sorts of work, copies, counters, collectives.

Times are totals over the analysed steps, in seconds.
"""

from __future__ import annotations

from typing import Literal

from hwprof.specs.frozen import Record
from hwprof.specs.record.run import BoundClass, Confidence

KernelKind = Literal["compute", "communication", "copy"]
Category = Literal[
    "product", "attention", "norm", "elementwise", "reduction", "gather", "optimizer", "collective", "copy", "unknown"
]
"""Sorts of work: convolutions are products, sums and losses reductions, lookups by number gathers."""
Mark = Literal["above its roof", "may be in cache", "short"]
TraceDirection = Literal["forward", "recompute", "backward", "update", "other"]


class TraceKernel(Record):
    """All runs of one kernel (CPU: one operator, its own time). Times of kernels that overlap each count in full.

    ``library`` is whose kernel it is; empty where the name tells nobody.
    """

    name: str
    kind: KernelKind
    category: Category = "unknown"
    library: str = ""
    calls: int
    time_s: float
    share: float
    mean_s: float
    min_s: float
    max_s: float
    deviation_s: float


class TraceOp(Record):
    """One operator of one module with one set of shapes; ``time_s`` is that of its kernels (CPU: of itself).

    FLOP and bytes are those of all calls, None where the trace has no shapes or nobody knows the operator's cost.
    ``causal_flop`` is half of ``matmul_flop`` in attention that was called as causal, which then has to be done;
    ``flop_per_s`` is of all. ``category`` is that of most of its time. ``marks`` say why a rate is no measure: it is
    above its roof, what it touches may still be in a cache, or its kernels are too short for any roof.
    """

    module: str
    op: str
    direction: TraceDirection
    shapes: str
    dtype: str
    calls: int
    kernels: int
    time_s: float
    share: float
    category: Category = "unknown"
    matmul_flop: float | None = None
    causal_flop: float | None = None
    vector_flop: float | None = None
    moved_bytes: float | None = None
    flop_per_s: float | None = None
    byte_per_s: float | None = None
    bound: BoundClass = "unknown"
    roof_name: str = ""
    roof_s: float | None = None
    roof_fraction: float | None = None
    confidence: Confidence = "low"
    marks: tuple[Mark, ...] = ()


class TraceCategory(Record):
    """All work of one sort; FLOP and bytes as far as they are counted, ``counted_s`` the time of that part.

    The rates are those of the counted part. ``unknown`` is the work that nothing says the sort of.
    """

    category: Category
    kernels: int
    time_s: float
    share: float
    counted_s: float
    matmul_flop: float
    moved_bytes: float
    flop_per_s: float | None
    byte_per_s: float | None


class TraceGather(Record):
    """Gathers of the parameters of one sharded module in one direction.

    ``prefetched`` of ``count`` were asked for by an earlier module; ``exposed_s`` is the part beside which the device
    computed nothing.
    """

    module: str
    direction: TraceDirection
    count: int
    prefetched: int
    time_s: float
    exposed_s: float


class TraceCopy(Record):
    """All copies of one kind, against what their link carries; ``bytes`` is 0 where the trace does not say.

    A copy within a device reads and writes its memory, so that half of the memory's rate is its link.
    """

    name: str
    count: int
    bytes: float
    time_s: float
    byte_per_s: float | None
    best_byte_per_s: float | None
    link_name: str = ""
    link_byte_per_s: float | None = None
    link_fraction: float | None = None


class TraceCounters(Record):
    """What the GPU counted in all runs of one kernel for one operator.

    ``flop`` are those of instructions of threads (SASS), tensor cores apart; None where they were not counted.
    ``moved_bytes`` are those of main memory. ``values`` has every counter, added up.
    """

    op: str
    kernel: str
    kernels: int
    flop: float | None
    moved_bytes: float | None
    values: dict[str, float]


class TraceModule(Record):
    """All operators of one module (or annotation) in one direction."""

    module: str
    direction: TraceDirection
    time_s: float
    share: float
    matmul_flop: float
    moved_bytes: float


class TraceCollective(Record):
    """All calls of one collective of one size in one group; times are totals, waiting for other ranks included.

    Attributes:
        op: all_reduce, all_gather, reduce_scatter, all_to_all, broadcast, send, recv, send_recv, ...; a kernel's name
            where nothing says what it does.
        group: what the program calls the group of ranks; empty if unknown.
        ranks: how many they are, bytes: of the whole vector of one call, as nccl-tests has it; None if unknown.
        algbw_byte_per_s: bytes over the mean time of a call, busbw_byte_per_s: that times nccl-tests' factor.
        best_busbw_byte_per_s: the same of the quickest call, which waited for others least.
        link_byte_per_s: what the links between these ranks carry one way; ``link_fraction`` is the best over that.
        probe_busbw_byte_per_s: what a probe reached at that size; ``probe_fraction`` is the best over that.
        exposed_s: the part beside which the device computed nothing, hidden_s: the rest.
    """

    op: str
    group: str
    ranks: int | None
    bytes: float | None
    dtype: str = ""
    count: int
    duration_s: float
    algbw_byte_per_s: float | None
    busbw_byte_per_s: float | None
    best_busbw_byte_per_s: float | None = None
    link_byte_per_s: float | None = None
    link_fraction: float | None = None
    probe_busbw_byte_per_s: float | None = None
    probe_fraction: float | None = None
    exposed_s: float
    hidden_s: float
