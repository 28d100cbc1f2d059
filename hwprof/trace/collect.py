"""How do events become columns? Batch by batch: names, threads and shapes are numbered, what no analysis reads goes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hwprof.count.aten_recorded import NEEDS_VALUES
from hwprof.trace.columns import (
    MODULE_MARK,
    Collective,
    DeviceEvents,
    DeviceKind,
    HostEvents,
    HostKind,
    Ints,
    MemoryEvents,
    Shapes,
    Trace,
)
from hwprof.trace.events import NO_ARGS, Args, Event
from hwprof.trace.scan import Break

Key = TypeVar("Key", bound=Hashable)
_Events = TypeVar("_Events", HostEvents, DeviceEvents, MemoryEvents)

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


_Column = tuple[str, type[np.generic]]
_HOST: tuple[_Column, ...] = (
    ("start_ns", np.int64),
    ("end_ns", np.int64),
    ("kind", np.int8),
    ("name", np.int32),
    ("thread", np.int32),
    ("sequence", np.int64),
    ("in_backward", np.bool_),
    ("correlation", np.int64),
    ("shape", np.int32),
    ("collective", np.int32),
)
_DEVICE: tuple[_Column, ...] = (
    ("start_ns", np.int64),
    ("end_ns", np.int64),
    ("kind", np.int8),
    ("name", np.int32),
    ("device", np.int32),
    ("stream", np.int64),
    ("correlation", np.int64),
    ("size_bytes", np.int64),
    ("collective", np.int32),
)
_ALLOCATOR: tuple[_Column, ...] = (
    ("time_ns", np.int64),
    ("thread", np.int32),
    ("device_type", np.int32),
    ("device", np.int32),
    ("allocated_bytes", np.int64),
    ("reserved_bytes", np.int64),
)


class Collector:
    """Takes events in batches, keeps columns. Mutable: it is filled while a file is read."""

    def __init__(self) -> None:
        self.events = 0
        self.skipped = 0
        self._names: _Numbers[str] = _Numbers()
        self._threads: _Numbers[tuple[int | str, int | str]] = _Numbers()
        self._streams: _Numbers[str] = _Numbers()
        self._shapes: _Numbers[Shapes] = _Numbers()
        self._collectives: _Numbers[Collective] = _Numbers()
        self._host: list[dict[str, NDArray[Any]]] = []
        self._device: list[dict[str, NDArray[Any]]] = []
        self._memory: list[dict[str, NDArray[Any]]] = []

    def add(self, events: Sequence[Event]) -> None:
        """Keep what the analysis needs of a batch."""
        self.events += len(events)
        spans = [event for event in events if event.ph == "X" and event.cat in _SPANS]
        timed = [event for event in spans if abs(event.ts) < _LARGEST_US and 0 <= event.dur < _LARGEST_US]
        self.skipped += len(spans) - len(timed)
        host = [event for event in timed if event.cat in HOST_CATEGORIES and _is_kept(event)]
        if host:
            self._host.append(self._host_columns(host, [event.args or NO_ARGS for event in host]))
        device = [event for event in timed if event.cat in DEVICE_CATEGORIES]
        if device:
            self._device.append(self._device_columns(device, [event.args or NO_ARGS for event in device]))
        memory = [event for event in events if event.name == _MEMORY and event.args and abs(event.ts) < _LARGEST_US]
        if memory:
            self._memory.append(self._memory_columns(memory))

    def _host_columns(self, events: Sequence[Event], args: Sequence[Args]) -> dict[str, NDArray[Any]]:
        names, threads = self._names, self._threads
        return _arrays(_HOST[2:], {
            "kind": [HOST_CATEGORIES[event.cat] for event in events],
            "name": [names[event.name] for event in events],
            "thread": [threads[event.pid, event.tid] for event in events],
            "sequence": [arg.sequence for arg in args],
            "in_backward": [arg.forward_thread > 0 and arg.sequence >= 0 for arg in args],
            "correlation": [arg.correlation for arg in args],
            "shape": [self._shape(event, arg) for event, arg in zip(events, args, strict=True)],
            "collective": [self._collective(arg) for arg in args],
        }) | _times(events)  # fmt: skip

    def _device_columns(self, events: Sequence[Event], args: Sequence[Args]) -> dict[str, NDArray[Any]]:
        names = self._names
        return _arrays(_DEVICE[2:], {
            "kind": [DEVICE_CATEGORIES[event.cat] for event in events],
            "name": [names[event.name] for event in events],
            "device": [self._number(arg.device, event.pid) for event, arg in zip(events, args, strict=True)],
            "stream": [self._number(arg.stream, event.tid) for event, arg in zip(events, args, strict=True)],
            "correlation": [arg.correlation for arg in args],
            "size_bytes": [arg.size_bytes for arg in args],
            "collective": [self._collective(arg) for arg in args],
        }) | _times(events)  # fmt: skip

    def _memory_columns(self, events: Sequence[Event]) -> dict[str, NDArray[Any]]:
        args = [event.args or NO_ARGS for event in events]
        return _arrays(_ALLOCATOR[1:], {
            "thread": [self._threads[event.pid, event.tid] for event in events],
            "device_type": [_small(arg.device_type) for arg in args],
            "device": [_small(arg.device_id) for arg in args],
            "allocated_bytes": [arg.allocated_bytes for arg in args],
            "reserved_bytes": [arg.reserved_bytes for arg in args],
        }) | {"time_ns": _nanoseconds([event.ts for event in events])}  # fmt: skip

    def _number(self, given: int, otherwise: int | str) -> int:
        """A device or stream: as the arguments say, else as the event's lane says."""
        if given >= 0:
            return _small(given)
        return _small(otherwise) if isinstance(otherwise, int) else self._streams[otherwise]

    def _shape(self, event: Event, args: Args) -> int:
        if not memoryview(args.dims):
            return -1
        concrete = bytes(args.concrete) if event.name in NEEDS_VALUES else b""
        return self._shapes[Shapes(bytes(args.dims), bytes(args.types), bytes(args.strides), concrete)]

    def _collective(self, args: Args) -> int:
        if not args.collective:
            return -1
        return self._collectives[
            Collective(args.collective, str(args.group), args.group_size, args.dtype, args.elements)
        ]

    def trace(self, path: str, metadata: Mapping[str, Any], broken: Break | None) -> Trace:
        """What was collected, in order."""
        host = _joined(_HOST, self._host)
        device = _joined(_DEVICE, self._device)
        memory = _joined(_ALLOCATOR, self._memory)
        starts = [column.min() for column in (host["start_ns"], device["start_ns"]) if len(column)]
        origin_ns = int(min(starts)) if starts else 0
        by_thread = np.lexsort((-host["end_ns"], host["start_ns"], host["thread"]))
        return Trace(
            path=path,
            metadata=metadata,
            broken=broken,
            events=self.events,
            skipped=self.skipped,
            origin_ns=origin_ns,
            host=_ordered(HostEvents, host, by_thread, origin_ns),
            device=_ordered(DeviceEvents, device, np.argsort(device["start_ns"], kind="stable"), origin_ns),
            memory=_ordered(MemoryEvents, memory, np.argsort(memory["time_ns"], kind="stable"), origin_ns),
            names=tuple(self._names),
            threads=tuple(self._threads),
            shapes=tuple(self._shapes),
            collectives=tuple(self._collectives),
        )


def _is_kept(event: Event) -> bool:
    """Python frames are left out, but for the calls of modules."""
    return event.cat != "python_function" or event.name.startswith(MODULE_MARK)


def _times(events: Sequence[Event]) -> dict[str, NDArray[Any]]:
    """Both are rounded before they are added: their sum has too few digits for nanoseconds."""
    start_ns = _nanoseconds([event.ts for event in events])
    return {"start_ns": start_ns, "end_ns": start_ns + _nanoseconds([event.dur for event in events])}


def _nanoseconds(times_us: Sequence[float]) -> Ints:
    return np.rint(np.array(times_us) * 1e3).astype(np.int64)


_SMALLEST, _LARGEST = -(2**31), 2**31 - 1


def _small(number: int) -> int:
    return number if _SMALLEST <= number <= _LARGEST else -1


def _arrays(columns: Iterable[_Column], values: Mapping[str, Sequence[Any]]) -> dict[str, NDArray[Any]]:
    return {name: np.array(values[name], dtype=dtype) for name, dtype in columns}


def _joined(columns: Iterable[_Column], batches: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """One array a column; each batch's is let go as soon as it is copied."""
    return {
        name: np.concatenate([np.empty(0, dtype), *(batch.pop(name) for batch in batches)]) for name, dtype in columns
    }


def _ordered(
    sort: Callable[..., _Events], columns: dict[str, NDArray[Any]], order: NDArray[np.intp], origin_ns: int
) -> _Events:
    """The columns in order, times from the origin; each unordered one is let go as soon as it is copied."""
    ordered = {}
    for name in list(columns):
        ordered[name] = columns.pop(name)[order]
        if name.endswith("_ns"):
            ordered[name] -= origin_ns
    return sort(**ordered)
