"""What is kept of a trace? Columns of numbers: some 30 bytes an event, where the file takes 300."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Numbers = NDArray[np.signedinteger[Any]]
"""Numbers, mostly places in lists, that are compared and looked up; they are as narrow as their values allow."""

NS = 1e-9
"""Seconds in the unit of the columns of time."""
NS_PER_S = 1e9


class HostKind(IntEnum):
    """What ran on the host."""

    OPERATOR = 0
    ANNOTATION = 1
    MODULE = 2
    RUNTIME = 3
    FRAME = 4


class DeviceKind(IntEnum):
    """What ran on the device."""

    KERNEL = 0
    COPY = 1
    SET = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """The shapes of an operator's arguments as the trace spells them (JSON); equal ones are stored once."""

    dims: bytes
    types: bytes
    strides: bytes
    concrete: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """What a communication kernel or ``record_param_comms`` says of itself: of its group, and how many elements go in.

    ``description`` is what the program calls the group, ``out_elements`` how many elements come out.
    """

    name: str
    group: str
    description: str
    group_size: int
    dtype: str
    elements: int
    out_elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a compiler says of the work of one kernel: FLOP, bytes, and the type of its elements as torch calls it."""

    flop: float
    moved_bytes: float
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedOp:
    """The operator behind kernels of a graph: places of its name, its shapes (-1: none) and its module's label."""

    name: int
    shape: int
    label: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeCounters:
    """What the GPU counted in one kernel: names of counters with their values."""

    name: str
    values: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEvents:
    """Spans on the host by thread, then start; enclosing spans before enclosed ones.

    Attributes:
        start_ns, end_ns: since the first event of the trace.
        kind: a ``HostKind``.
        name, thread, shape, collective: places in the lists of the trace; -1 for none.
        sequence: autograd's number; -1 for none. ``in_backward`` where a backward node carries it.
        correlation: of a call into the device's runtime; -1 for none.
        external: the profiler's own number of an operator, or of the operator around a call; -1 for none.
    """

    start_ns: Ints
    end_ns: Ints
    kind: Numbers
    name: Numbers
    thread: Numbers
    sequence: Numbers
    in_backward: NDArray[np.bool_]
    correlation: Numbers
    external: Numbers
    shape: Numbers
    collective: Numbers

    def __len__(self) -> int:
        return len(self.start_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvents:
    """Kernels, copies and fills by start; columns as in ``HostEvents``.

    ``counted`` and ``captured`` are places in the lists of the trace; -1 for none.
    """

    start_ns: Ints
    end_ns: Ints
    kind: Numbers
    name: Numbers
    device: Numbers
    stream: Numbers
    correlation: Numbers
    external: Numbers
    size_bytes: Ints
    collective: Numbers
    counted: Numbers
    captured: Numbers

    def __len__(self) -> int:
        return len(self.start_ns)

    def where(self, chosen: NDArray[np.bool_]) -> DeviceEvents:
        """Only the chosen events; these themselves if they are all."""
        if chosen.all():
            return self
        return DeviceEvents(**{name: getattr(self, name)[chosen] for name in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEvents:
    """The allocator's counters, in order of time; ``device_type`` as torch numbers them (0: CPU, 1: CUDA)."""

    time_ns: Ints
    thread: Numbers
    device_type: Numbers
    device: Numbers
    changed_bytes: Ints
    allocated_bytes: Ints
    reserved_bytes: Ints


@dataclass(frozen=True, slots=True)
class Break:
    """Where a file could not be read on (a byte of the uncompressed text), and why."""

    offset_bytes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One file. ``skipped`` counts events without a usable time; ``broken`` says where reading had to stop."""

    path: str
    metadata: Mapping[str, Any]
    broken: Break | None
    events: int
    skipped: int
    origin_ns: int
    host: HostEvents
    device: DeviceEvents
    memory: MemoryEvents
    names: tuple[str, ...]
    threads: tuple[tuple[int | str, int | str], ...]
    shapes: tuple[Shapes, ...]
    collectives: tuple[Collective, ...]
    counted: tuple[Counted, ...] = ()
    ranges: tuple[RangeCounters, ...] = ()
    captured: tuple[CapturedOp, ...] = ()
