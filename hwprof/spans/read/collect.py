"""How do events become columns? Batch by batch: names, threads and shapes are numbered, what no analysis reads goes."""

from __future__ import annotations

from array import array
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hwprof.spans.columns import (
    Break,
    Collective,
    Counted,
    DeviceEvents,
    DeviceKind,
    HostEvents,
    HostKind,
    Ints,
    MemoryEvents,
    Shapes,
    Trace,
)
from hwprof.spans.marks import COLLECTS, TORCH_MODULE
from hwprof.spans.read.events import NO_ARGS, Args, Event
from hwprof.spans.read.ranges import CATEGORY

Key = TypeVar("Key", bound=Hashable)

HOST_CATEGORIES = {
    "cpu_op": HostKind.OPERATOR,
    "Operator": HostKind.OPERATOR,
    "user_annotation": HostKind.ANNOTATION,
    "python_function": HostKind.MODULE,
    "cuda_runtime": HostKind.RUNTIME,
    "cuda_driver": HostKind.RUNTIME,
    "xpu_runtime": HostKind.RUNTIME,
    "xpu_driver": HostKind.RUNTIME,
    "privateuse1_runtime": HostKind.RUNTIME,
    "privateuse1_driver": HostKind.RUNTIME,
    "mtia_runtime": HostKind.RUNTIME,
    "Runtime": HostKind.RUNTIME,
}
DEVICE_CATEGORIES = {
    "kernel": DeviceKind.KERNEL,
    "Kernel": DeviceKind.KERNEL,
    "mtia_ccp_events": DeviceKind.KERNEL,
    "gpu_memcpy": DeviceKind.COPY,
    "Memcpy": DeviceKind.COPY,
    "gpu_memset": DeviceKind.SET,
    "Memset": DeviceKind.SET,
}
"""Categories of Kineto's ActivityType, and those of its first releases."""

_MEMORY = "[memory]"
_LARGEST_US = 4e15
"""Time stamps beyond this do not fit into 64 bits of nanoseconds; that is the year 2096."""
_SPANS = frozenset(HOST_CATEGORIES) | frozenset(DEVICE_CATEGORIES)


class _Numbers(dict[Key, int], Generic[Key]):
    """Numbers for values in the order in which they come. Mutable: it grows while a file is read."""

    def __missing__(self, key: Key) -> int:
        number = self[key] = len(self)
        return number


_HOST = ("kind", "name", "thread", "sequence", "in_backward", "correlation", "external", "shape", "collective")
_DEVICE = (
    "kind",
    "name",
    "device",
    "stream",
    "correlation",
    "external",
    "size_bytes",
    "collective",
    "counted",
    "captured",
)
_ALLOCATOR = ("thread", "device_type", "device", "changed_bytes", "allocated_bytes", "reserved_bytes")
_WIDTHS = "bhiq"
"""Codes of array.array for whole numbers of 1, 2, 4 and 8 bytes."""


class _Growing:
    """Columns that grow; a column has the narrowest numbers that hold it. Mutable: filled while a file is read.

    Times and sizes always take 8 bytes, so that their differences and sums are right.
    """

    def __init__(self, names: Iterable[str], times: Iterable[str]) -> None:
        wide = {name for name in names if name.endswith("_bytes")}
        self._columns = {name: array("q" if name in wide else "b") for name in names}
        self._columns |= {name: array("q") for name in times}

    def add(self, values: Mapping[str, list[int]], times: Mapping[str, Ints]) -> None:
        """One more batch of every column."""
        for name, numbers in values.items():
            self._add(name, numbers)
        for name, moments in times.items():
            self._columns[name].frombytes(moments.tobytes())

    def _add(self, name: str, numbers: list[int]) -> None:
        for code in _WIDTHS[_WIDTHS.index(self._columns[name].typecode) :]:
            if code != self._columns[name].typecode:
                self._columns[name] = array(code, self._columns[name])
            try:
                self._columns[name].fromlist(numbers)  # all or nothing
            except OverflowError:
                continue
            return

    def view(self, name: str) -> NDArray[Any]:
        """A column as it stands now."""
        column = self._columns[name]
        return np.frombuffer(column, dtype=f"i{column.itemsize}")

    def taken(self, order: NDArray[np.intp], origin_ns: int) -> dict[str, NDArray[Any]]:
        """The columns in order, times from the origin; each unordered one is let go as soon as it is copied."""
        ordered = {}
        for name in list(self._columns):
            ordered[name] = self.view(name)[order]
            del self._columns[name]
            if name.endswith("_ns"):
                ordered[name] -= origin_ns
        return ordered


class Collector:
    """Takes events in batches, keeps columns. Mutable: it is filled while a file is read.

    Args:
        values_of: operators of which arguments that are no tensors are kept, too.

    Attributes:
        counts_ranges: whether there are counters of kernels, which are read by themselves.
    """

    def __init__(self, values_of: Container[str]) -> None:
        self._values_of = values_of
        self.events = 0
        self.skipped = 0
        self.counts_ranges = False
        self._names: _Numbers[str] = _Numbers()
        self._threads: _Numbers[tuple[int | str, int | str]] = _Numbers()
        self._streams: _Numbers[str] = _Numbers()
        self._shapes: _Numbers[tuple[bytes, bytes, bytes, bytes]] = _Numbers()
        self._collectives: _Numbers[Collective] = _Numbers()
        self._counted: _Numbers[Counted] = _Numbers()
        self._host = _Growing(_HOST, ("start_ns", "end_ns"))
        self._device = _Growing(_DEVICE, ("start_ns", "end_ns"))
        self._memory = _Growing(_ALLOCATOR, ("time_ns",))

    def add(self, events: Sequence[Event]) -> None:
        """Keep what the analysis needs of a batch."""
        self.events += len(events)
        self.counts_ranges = self.counts_ranges or any(event.cat == CATEGORY for event in events)
        spans = [event for event in events if event.ph == "X" and event.cat in _SPANS]
        timed = [event for event in spans if abs(event.ts) < _LARGEST_US and 0 <= event.dur < _LARGEST_US]
        self.skipped += len(spans) - len(timed)
        host = [event for event in timed if event.cat in HOST_CATEGORIES and _is_kept(event)]
        self._host.add(self._host_columns(host, [event.args or NO_ARGS for event in host]), _times(host))
        device = [event for event in timed if event.cat in DEVICE_CATEGORIES]
        self._device.add(self._device_columns(device, [event.args or NO_ARGS for event in device]), _times(device))
        memory = [event for event in events if event.name == _MEMORY and event.args and abs(event.ts) < _LARGEST_US]
        self._memory.add(self._memory_columns(memory), {"time_ns": _nanoseconds([event.ts for event in memory])})

    def _host_columns(self, events: Sequence[Event], args: Sequence[Args]) -> dict[str, list[int]]:
        names, threads = self._names, self._threads
        return {
            "kind": [_kind(event) for event in events],
            "name": [names[event.name] for event in events],
            "thread": [threads[event.pid, event.tid] for event in events],
            "sequence": [arg.sequence for arg in args],
            "in_backward": [arg.forward_thread > 0 and arg.sequence >= 0 for arg in args],
            "correlation": [arg.correlation for arg in args],
            "external": [_external(arg) for arg in args],
            "shape": [self._shape(event, arg) for event, arg in zip(events, args, strict=True)],
            "collective": [self._collective(arg) for arg in args],
        }

    def _device_columns(self, events: Sequence[Event], args: Sequence[Args]) -> dict[str, list[int]]:
        names = self._names
        return {
            "kind": [DEVICE_CATEGORIES[event.cat] for event in events],
            "name": [names[event.name] for event in events],
            "device": [self._number(arg.device, event.pid) for event, arg in zip(events, args, strict=True)],
            "stream": [self._number(arg.stream, event.tid) for event, arg in zip(events, args, strict=True)],
            "correlation": [arg.correlation for arg in args],
            "external": [_external(arg) for arg in args],
            "size_bytes": [arg.size_bytes for arg in args],
            "collective": [self._collective(arg) for arg in args],
            "counted": [self._count(arg) for arg in args],
            "captured": [-1] * len(events),
        }

    def _memory_columns(self, events: Sequence[Event]) -> dict[str, list[int]]:
        args = [event.args or NO_ARGS for event in events]
        return {
            "thread": [self._threads[event.pid, event.tid] for event in events],
            "device_type": [_small(arg.device_type) for arg in args],
            "device": [_small(arg.device_id) for arg in args],
            "changed_bytes": [arg.changed_bytes for arg in args],
            "allocated_bytes": [arg.allocated_bytes for arg in args],
            "reserved_bytes": [arg.reserved_bytes for arg in args],
        }

    def _number(self, given: int, otherwise: int | str) -> int:
        """A device or stream: as the arguments say, else as the event's lane says."""
        if given >= 0:
            return _small(given)
        return _small(otherwise) if isinstance(otherwise, int) else self._streams[otherwise]

    def _shape(self, event: Event, args: Args) -> int:
        if not memoryview(args.dims):
            return -1
        concrete = bytes(args.concrete) if event.name in self._values_of else b""
        return self._shapes[bytes(args.dims), bytes(args.types), bytes(args.strides), concrete]

    def _collective(self, args: Args) -> int:
        if not args.collective:
            return -1
        return self._collectives[
            Collective(
                name=args.collective,
                group=str(args.group),
                description=args.description,
                group_size=args.group_size,
                dtype=args.dtype,
                elements=args.elements,
                out_elements=args.out_elements,
            )
        ]

    def _count(self, args: Args) -> int:
        if not args.counted_bytes and not args.counted_flop:
            return -1
        return self._counted[Counted(flop=args.counted_flop, moved_bytes=args.counted_bytes, dtype=args.counted_dtype)]

    def trace(self, path: str, metadata: Mapping[str, Any], broken: Break | None) -> Trace:
        """What was collected, in order."""
        starts = [events.view("start_ns") for events in (self._host, self._device)]
        origin_ns = int(min((column.min() for column in starts if len(column)), default=0))
        del starts
        return Trace(
            path=path,
            metadata=metadata,
            broken=broken,
            events=self.events,
            skipped=self.skipped,
            origin_ns=origin_ns,
            host=self._host_events(origin_ns),
            device=DeviceEvents(**self._device.taken(_by(self._device.view("start_ns")), origin_ns)),
            memory=MemoryEvents(**self._memory.taken(_by(self._memory.view("time_ns")), origin_ns)),
            names=tuple(self._names),
            threads=tuple(self._threads),
            shapes=tuple(
                Shapes(dims=dims, types=types, strides=strides, concrete=concrete)
                for dims, types, strides, concrete in self._shapes
            ),
            collectives=tuple(self._collectives),
            counted=tuple(self._counted),
        )

    def _host_events(self, origin_ns: int) -> HostEvents:
        columns = self._host.taken(self._by_thread(), origin_ns)
        return HostEvents(**columns | {"in_backward": columns["in_backward"].view(np.bool_)})

    def _by_thread(self) -> NDArray[np.intp]:
        host = self._host
        return np.lexsort((-host.view("end_ns"), host.view("start_ns"), host.view("thread")))


def _by(times_ns: Ints) -> NDArray[np.intp]:
    return np.argsort(times_ns, kind="stable")


LONG_FRAME_US = 100
"""Frames of Python that are shorter explain no gap worth a word; most of a trace with stacks are such."""


def _is_kept(event: Event) -> bool:
    """Python frames are left out, but for long ones, garbage collection and the calls of modules."""
    if event.cat != "python_function" or event.dur >= LONG_FRAME_US:
        return True
    return event.name.startswith(TORCH_MODULE) or COLLECTS.match(event.name) is not None


def _kind(event: Event) -> HostKind:
    if event.cat == "python_function" and not event.name.startswith(TORCH_MODULE):
        return HostKind.FRAME
    return HOST_CATEGORIES[event.cat]


def _times(events: Sequence[Event]) -> dict[str, Ints]:
    """Both are rounded before they are added: their sum has too few digits for nanoseconds."""
    start_ns = _nanoseconds([event.ts for event in events])
    return {"start_ns": start_ns, "end_ns": start_ns + _nanoseconds([event.dur for event in events])}


def _nanoseconds(times_us: Sequence[float]) -> Ints:
    """Whole microseconds apart from their fractions: since 1970 their product has more digits than a float."""
    given = np.array(times_us, dtype=np.float64)
    whole = np.floor(given)
    return whole.astype(np.int64) * 1000 + np.rint((given - whole) * 1e3).astype(np.int64)


def _external(args: Args) -> int:
    """As a number, which some releases write as text, and the first ones under another name."""
    found = args.external
    if isinstance(found, str):
        return int(found) if found.isdecimal() else -1
    return found if found >= 0 else args.external_old


_SMALLEST, _LARGEST = -(2**31), 2**31 - 1


def _small(number: int) -> int:
    return number if _SMALLEST <= number <= _LARGEST else -1
