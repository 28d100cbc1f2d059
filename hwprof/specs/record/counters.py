"""What did a GPU's own counters say of the run's kernels, and does that agree with what hwprof counted?"""

from __future__ import annotations

from hwprof.specs.frozen import Record
from hwprof.specs.job.settings import BoundClass, Direction

TOP_KERNELS = 20
"""Agreement of bound classes is stated for this many kernels, those of most time."""
MAIN_FRACTION = 0.5
"""An operation's class is that of a kernel which takes at least so much of its time."""


class KernelCounters(Record):
    """What the counters said of one kernel, as means over its launches.

    Attributes:
        name: as the profiler writes it, demangled.
        launches: how many were counted.
        time_s: of one launch, under the profiler's own clocks.
        dram_bytes: read and written by one launch.
        dram_fraction, l2_fraction: of the level's peak throughput.
        tensor_fraction: of the tensor pipe's peak.
        pipe_fraction: of the peak of the busiest pipe of the multiprocessors, the tensor pipe included.

    A value that the file does not have is None.
    """

    name: str
    launches: int
    time_s: float | None = None
    dram_bytes: float | None = None
    dram_fraction: float | None = None
    l2_fraction: float | None = None
    tensor_fraction: float | None = None
    pipe_fraction: float | None = None


class CounterRow(Record):
    """A kernel of the run beside its counters; ``label`` is the operation in which it takes most time.

    Attributes:
        kernel: the run's name of it.
        launches: how many the counters saw.
        calls: in a step of the run.
        time_s: in a step of the run.
        label, direction: the operation, and which pass of it.
        op_fraction: the kernel's share of that operation's time.
        other_ops: how many more operations use the kernel.
        counted_bytes: of a step by the byte model: each operation's bytes, shared among its kernels by their time.
        measured_bytes: of a step by the counters: bytes of a launch times calls.
        dram_fraction, tensor_fraction: as in ``KernelCounters``.
        counted_bound: the operation's class.
        measured_bound: the resource that the counters show the busiest.
    """

    kernel: str
    launches: int
    calls: float
    time_s: float
    label: str
    direction: Direction
    op_fraction: float
    other_ops: int
    counted_bytes: float | None = None
    measured_bytes: float | None = None
    dram_fraction: float | None = None
    tensor_fraction: float | None = None
    counted_bound: BoundClass
    measured_bound: BoundClass

    @property
    def byte_ratio(self) -> float | None:
        """Bytes counted over bytes measured."""
        return self.counted_bytes / self.measured_bytes if self.counted_bytes and self.measured_bytes else None

    @property
    def agrees(self) -> bool | None:
        """Whether the two classes are the same; None where one is unknown, or the class is that of other kernels."""
        if self.op_fraction < MAIN_FRACTION or "unknown" in {self.counted_bound, self.measured_bound}:
            return None
        return self.counted_bound == self.measured_bound


class CountersResult(Record):
    """Counters of a run's kernels, most time first.

    Attributes:
        source: the file.
        rows: kernels that both know.
        run_kernels: how many kernels the run has.
        file_kernels: how many the file has.
        matched_time_fraction: the rows' share of the time of all kernels of the run.
        unmatched: kernels of the file that the run does not have.
    """

    source: str
    rows: tuple[CounterRow, ...]
    run_kernels: int
    file_kernels: int
    matched_time_fraction: float
    unmatched: tuple[str, ...] = ()

    @property
    def compared(self) -> tuple[CounterRow, ...]:
        """Of the ``TOP_KERNELS`` rows of most time, those whose two bound classes are known."""
        return tuple(row for row in self.rows[:TOP_KERNELS] if row.agrees is not None)

    @property
    def agreeing(self) -> int:
        """How many of ``compared`` agree."""
        return sum(bool(row.agrees) for row in self.compared)

    @property
    def byte_ratio(self) -> float | None:
        """Bytes counted over bytes measured, of all rows that have both."""
        both = [row for row in self.rows if row.byte_ratio is not None]
        measured_bytes = sum(row.measured_bytes or 0.0 for row in both)
        return sum(row.counted_bytes or 0.0 for row in both) / measured_bytes if measured_bytes else None
