"""What does the analysis of traces say? The versioned schema of what ``hwprof trace --format json`` prints.

Times are totals over the analysed steps, in seconds; ``steps`` says how many there are.
"""

from __future__ import annotations

from typing import Literal

from hwprof.specs.frozen import Record
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.run import BoundClass, Confidence
from hwprof.specs.record.stragglers import Stragglers

TRACE_SCHEMA_VERSION = 1

KernelKind = Literal["compute", "communication", "copy"]
Category = Literal[
    "product", "attention", "norm", "elementwise", "reduction", "gather", "optimizer", "collective", "copy", "unknown"
]
"""Sorts of work: convolutions are products, sums and losses reductions, lookups by number gathers."""
Mark = Literal["above its roof", "may be in cache", "short"]
TraceDirection = Literal["forward", "recompute", "backward", "update", "other"]
TimePart = Literal[
    "compute",
    "communication",
    "copy",
    "input",
    "recompilation",
    "allocation",
    "garbage_collection",
    "lock",
    "blocking_copy",
    "synchronisation",
    "host",
    "call",
    "launch",
    "graph",
    "queued",
    "unknown",
]
PathKind = Literal["compute", "communication", "copy", "launch", "queued", "host", "synchronisation", "input", "idle"]


class TraceBreak(Record):
    """Where a file could not be read on: a byte of the (uncompressed) text; what stands before is analysed."""

    offset_bytes: int
    reason: str


class TraceIdle(Record):
    """Why nothing ran; the parts add up to the idle time.

    ``input_s``: the host waited for the input pipeline. ``recompilation_s``: it compiled (dynamo, inductor).
    ``allocation_s``: it asked the driver for memory, or gave some back. ``garbage_collection_s``: Python collected
    garbage. ``lock_s``: the thread that launches waited for a lock of Python's or of the system's, or, inside a long
    call, for another thread that was in the driver. ``blocking_copy_s``: the host had waited for a copy, and nothing
    was queued; ``synchronisation_s``: it had waited for the device otherwise. ``call_s``: the next kernel was launched,
    and the host was inside one long call (first use loads code). ``host_s``: the host had other work before the next
    launch. ``launch_s``: from the call that launched the next kernel to its start. ``graph_s``: the same of a graph's
    launch, and between the kernels of one graph. ``queued_s``: the next kernel was launched already and waited for
    another stream, or for the device itself. ``unknown_s``: the trace has no launch for the next kernel.
    """

    input_s: float = 0.0
    recompilation_s: float = 0.0
    allocation_s: float = 0.0
    garbage_collection_s: float = 0.0
    lock_s: float = 0.0
    call_s: float = 0.0
    blocking_copy_s: float = 0.0
    synchronisation_s: float = 0.0
    host_s: float = 0.0
    launch_s: float = 0.0
    graph_s: float = 0.0
    queued_s: float = 0.0
    unknown_s: float = 0.0


class TraceBreakdown(Record):
    """Where the time went; compute, exposed communication, exposed copies and idle add up to ``span_s``.

    What runs at the same time as computation is hidden behind it; copies may hide behind communication as well.
    """

    span_s: float
    compute_s: float
    exposed_communication_s: float
    exposed_copy_s: float
    idle_s: float
    idle: TraceIdle


class TraceStep(Record):
    """One step: on a GPU from the first kernel that it launched to that of the next, on a CPU as the host marked it."""

    name: str
    start_s: float
    duration_s: float
    compute_s: float
    exposed_communication_s: float
    exposed_copy_s: float
    idle_s: float


class TraceOverlap(Record):
    """How much of communication and copies ran at the same time as computation; None where there are none."""

    communication_s: float
    hidden_communication_s: float
    communication_fraction: float | None
    copy_s: float
    hidden_copy_s: float
    copy_fraction: float | None


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


class TraceLaunches(Record):
    """How the host feeds the device. The delay of a kernel is from the start of its launch call to its own start."""

    kernels: int
    launched: int
    calls: int
    call_s: float
    delay_median_s: float
    delay_p90_s: float
    short_kernels: int
    graph_kernels: int


class TraceQueue(Record):
    """Kernels of one stream that were launched and had not started: the most, and the mean over time."""

    stream: int
    longest: int
    mean: float
    empty_fraction: float


class TraceCause(Record):
    """What the host did while the device had nothing to do; ``cause`` is most of each of these gaps."""

    what: str
    module: str
    cause: TimePart
    time_s: float
    gaps: int


class TraceGap(Record):
    """The longest time in which the device did nothing.

    ``cause`` is most of it, ``host`` what the host was in meanwhile, outermost first, ``then`` what ran next.
    """

    start_s: float
    duration_s: float
    cause: TimePart
    host: tuple[str, ...]
    then: str


class TracePathPart(Record):
    """One kind of work on the critical path."""

    kind: PathKind
    time_s: float
    share: float


class TracePathItem(Record):
    """One operation or kernel on the critical path."""

    kind: PathKind
    name: str
    time_s: float
    times: int


class TracePath(Record):
    """The chain of work and waiting that decides when the last step ends; its parts add up to ``span_s``."""

    span_s: float
    parts: tuple[TracePathPart, ...]
    items: tuple[TracePathItem, ...]


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


class TraceMemory(Record):
    """The allocator's counters of one device over the whole file."""

    device: str
    peak_allocated_bytes: float
    peak_reserved_bytes: float | None
    peak_at_s: float
    peak_in: str
    first_allocated_bytes: float
    last_allocated_bytes: float
    growth_bytes_per_step: float | None


class TraceFinding(Record):
    """One thing that holds the loop back: the share of time it takes, what shows it, what to change."""

    title: str
    share: float
    evidence: str
    change: str


class TraceDevice(Record):
    """What one device did in one file: a GPU by its kernels, a CPU by its operators.

    ``shares`` are those of the span: the parts of the breakdown, idle by its causes; they add up to 1. ``rates`` are
    the operators of all modules by their shapes, as far as their work is counted.
    """

    file: str
    rank: int
    world_size: int
    device: str
    kind: Literal["cpu", "gpu"]
    broken: TraceBreak | None
    events: int
    steps: tuple[TraceStep, ...]
    step_median_s: float
    step_interval_s: tuple[float, float]
    breakdown: TraceBreakdown
    shares: dict[TimePart, float]
    findings: tuple[TraceFinding, ...]
    overlap: TraceOverlap
    kernels: tuple[TraceKernel, ...]
    ops: tuple[TraceOp, ...]
    rates: tuple[TraceOp, ...] = ()
    categories: tuple[TraceCategory, ...] = ()
    copies: tuple[TraceCopy, ...] = ()
    counters: tuple[TraceCounters, ...] = ()
    modules: tuple[TraceModule, ...]
    launches: TraceLaunches | None
    queues: tuple[TraceQueue, ...]
    causes: tuple[TraceCause, ...]
    largest_gap: TraceGap | None = None
    path: TracePath | None
    collectives: tuple[TraceCollective, ...] = ()
    memory: tuple[TraceMemory, ...]
    notes: tuple[str, ...] = ()


class TraceReport(Record):
    """The whole of ``hwprof trace --format json``."""

    schema_version: int = TRACE_SCHEMA_VERSION
    hwprof_version: str
    devices: tuple[TraceDevice, ...]
    stragglers: Stragglers | None
    ceilings: tuple[Ceiling, ...] = ()
    notes: tuple[str, ...] = ()
