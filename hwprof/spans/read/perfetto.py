"""How is a Perfetto trace of rocprofv3 read? A ``.pftrace``: packets of begins and ends on tracks, by category.

The messages are those of Perfetto's ``trace_packet.proto``; categories and names of arguments are rocprofiler-sdk's.
Names are interned by sequence; times may be differences to the packet before (ClockSnapshot, ``is_incremental``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwprof.errors import InputError
from hwprof.spans.read.events import Args, Event
from hwprof.spans.read.messages import Field, decoder
from hwprof.spans.read.rocprof import copy_name
from hwprof.spans.read.source import Source, batched, span

_INTERNED: tuple[Field, ...] = (("iid", 1, "uint64"), ("name", 2, "string"))
_MESSAGES: Mapping[str, tuple[Field, ...]] = {
    "Name": _INTERNED,
    "InternedData": (("categories", 1, "*Name"), ("names", 2, "*Name"), ("arguments", 3, "*Name")),
    "Argument": (
        ("name_iid", 1, "uint64"), ("bool_value", 2, "bool"), ("uint_value", 3, "uint64"), ("int_value", 4, "int64"),
        ("double_value", 5, "double"), ("string_value", 6, "string"), ("name", 10, "string"),
    ),
    "TrackEvent": (
        ("categories_iid", 3, "*uint64"), ("arguments", 4, "*Argument"), ("type", 9, "int32"),
        ("name_iid", 10, "uint64"), ("track", 11, "uint64"), ("categories", 22, "*string"), ("name", 23, "string"),
    ),
    "EventDefaults": (("track", 11, "uint64"),),
    "Defaults": (("event", 11, "EventDefaults"), ("clock", 58, "uint32")),
    "Clock": (("id", 1, "uint32"), ("timestamp", 2, "uint64"), ("incremental", 3, "bool"), ("unit_ns", 4, "uint64")),
    "Snapshot": (("clocks", 1, "*Clock"),),
    "Packet": (
        ("snapshot", 6, "Snapshot"), ("timestamp", 8, "uint64"), ("sequence", 10, "uint32"),
        ("event", 11, "TrackEvent"), ("interned", 12, "InternedData"), ("flags", 13, "uint32"), ("clock", 58, "uint32"),
        ("defaults", 59, "Defaults"),
    ),
    "Trace": (("packets", 1, "*Packet"),),
}  # fmt: skip
_BEGIN, _END = 1, 2
"""TrackEvent.Type."""
_CLEARED = 1
"""SequenceFlags: what was interned before is forgotten."""
_Said = tuple[str, str, dict[str, Any]]
"""Category, name and arguments."""
_HOST = {"hip_api": "cuda_runtime", "marker_api": "user_annotation"}


@dataclass(slots=True)
class _Sequence:
    """What packets of one writer refer to. Mutable: it grows as they are read."""

    names: dict[tuple[str, int], str] = field(default_factory=dict)
    track: int = 0
    clock: int = 0
    last: dict[int, int] = field(default_factory=dict)
    unit_ns: dict[int, int] = field(default_factory=dict)

    def learn(self, packet: Any) -> None:
        """Take in what a packet says of those that follow."""
        if packet.flags & _CLEARED:
            self.names.clear()
        if packet.HasField("defaults"):
            self.clock, self.track = packet.defaults.clock, packet.defaults.event.track
        for clock in packet.snapshot.clocks:
            self.unit_ns[clock.id] = clock.unit_ns or 1
            if clock.incremental:
                self.last[clock.id] = clock.timestamp
        for kind in ("categories", "names", "arguments"):
            self.names |= {(kind, one.iid): one.name for one in getattr(packet.interned, kind)}

    def time_ns(self, packet: Any) -> int:
        """When a packet was, by the clock that it or its sequence names."""
        clock = packet.clock or self.clock
        if clock not in self.last:
            return int(packet.timestamp * self.unit_ns.get(clock, 1))
        self.last[clock] += packet.timestamp
        return int(self.last[clock] * self.unit_ns[clock])

    def said(self, event: Any) -> _Said:
        """Category, name and arguments of an event."""
        named = [*event.categories, *(self.names.get(("categories", iid), "") for iid in event.categories_iid)]
        arguments = {}
        for one in event.arguments:
            kind = one.WhichOneof("value")
            arguments[one.name or self.names.get(("arguments", one.name_iid), "")] = (
                getattr(one, kind) if kind else None
            )
        return next(iter(named), ""), event.name or self.names.get(("names", event.name_iid), ""), arguments


def read(path: Path) -> Source:
    """The events of a trace.

    Raises:
        InputError: it has no kernels, is no such file, or protobuf is not installed.
    """
    trace = decoder(_MESSAGES, "Trace", path, "expected a .pftrace that `rocprofv3 --output-format pftrace` wrote")
    events = list(_events(trace.packets))
    if not any(event.cat == "kernel" for event in events):
        raise InputError(
            f"{path} has no kernels",
            expectation="expected a .pftrace of rocprofv3, with kernel_dispatch events",
            remedy="record it with `rocprofv3 --kernel-trace --hip-trace --memory-copy-trace --output-format pftrace`",
        )
    return Source(batched(iter(events)), {})


def _events(packets: Any) -> Iterator[Event]:
    sequences: dict[int, _Sequence] = defaultdict(_Sequence)
    open_: dict[int, list[tuple[int, _Said]]] = defaultdict(list)
    agents: dict[Any, int] = {}
    for packet in packets:
        sequence = sequences[packet.sequence]
        sequence.learn(packet)
        if not packet.HasField("event"):
            continue
        now, track = sequence.time_ns(packet), packet.event.track or sequence.track
        if packet.event.type == _BEGIN:
            open_[track].append((now, sequence.said(packet.event)))
        elif packet.event.type == _END and open_[track]:
            began, said = open_[track].pop()
            found = _event(said, began, now, agents=agents, track=track)
            if found:
                yield found


def _event(said: _Said, start_ns: int, end_ns: int, *, agents: dict[Any, int], track: int) -> Event | None:
    """An event in Kineto's words; None for what the analysis does not read. Agents are numbered as they come."""
    category, name, words = said
    correlation = int(words.get("corr_id", -1))
    if category in _HOST:
        args = Args(correlation=correlation) if category == "hip_api" else None
        return span(_HOST[category], name, start_ns, end_ns, thread=int(words.get("tid", track % 2**31)), args=args)
    if category not in {"kernel_dispatch", "memory_copy"}:
        return None
    copies = category == "memory_copy"
    agent = (
        words.get("dst_agent" if "HOST_TO_DEVICE" in name.upper() else "src_agent") if copies else words.get("agent")
    )
    device = agents.setdefault(str(agent), len(agents)) if not copies else agents.get(str(agent), 0)
    args = Args(
        device=device, stream=int(words.get("queue", 0) or 0), correlation=correlation,
        size_bytes=int(words.get("copy_bytes", 0) or 0),
    )  # fmt: skip
    return span("gpu_memcpy" if copies else "kernel", copy_name(name) if copies else name, start_ns, end_ns, args=args)
