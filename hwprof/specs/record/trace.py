"""What does the analysis of traces say? The versioned schema of what ``hwprof trace --format json`` prints.

Times are totals over the analysed steps, in seconds; ``steps`` says how many there are.
"""

from __future__ import annotations

from typing import Literal

from hwprof.specs.frozen import Record
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.stragglers import Stragglers
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

TRACE_SCHEMA_VERSION = 1

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
    gathers: tuple[TraceGather, ...] = ()
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
