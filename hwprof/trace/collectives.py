"""Which collectives did a device take part in, how large, in which group, how fast, and what of them was hidden?

All kernels of one call are one collective, whatever messages it is made of: an all-to-all that a library writes as
grouped sends is one. What the kernel or the call says of itself goes before names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwprof.spans.arguments import collective_bytes, recorded, tensor_bytes
from hwprof.spans.collectives import ISSUES, LIBRARY, OPERATOR, operation_named
from hwprof.spans.columns import NS, Collective, Trace
from hwprof.spans.intervals import Intervals
from hwprof.spans.nesting import at, named, nearest
from hwprof.spans.pieces import Kind, Pieces
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.record.collective import CollectiveCurve, collective_factor
from hwprof.specs.record.trace_rows import TraceCollective
from hwprof.trace.calls import Calls

MESSAGES = frozenset({"send", "recv", "send_recv"})
"""Operations between two ranks, at which nobody else waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """One collective as one device saw it.

    Attributes:
        op: what it does; the kernel's name where nothing says it.
        group: what the program calls its group; empty if unknown.
        members: its ranks; empty if unknown.
        ranks: how many they are; 0 if unknown.
        size_bytes: of the whole vector, as nccl-tests has it; 0 if unknown.
        dtype: of the elements, as the trace spells it.
        asked_ns: when the host called for it; -1 if unknown.
        start_ns, end_ns: when the device was in it.
    """

    op: str
    group: str
    members: tuple[int, ...]
    ranks: int
    size_bytes: float
    dtype: str
    asked_ns: int
    start_ns: int
    end_ns: int


def collectives_of(trace: Trace, calls: Calls, pieces: Pieces) -> tuple[Called, ...]:
    """The collectives among the pieces of a device, by start."""
    chosen = pieces.where(pieces.kind == Kind.COMMUNICATION)
    if not len(trace.device):
        is_library = np.array([bool(LIBRARY.match(name)) for name in trace.names], dtype=np.bool_)
        chosen = chosen.where(is_library[chosen.name] if len(chosen) else np.zeros(0, dtype=np.bool_))
    around = at(nearest(calls.parent, named(trace, ISSUES.search)), chosen.host)
    groups = _Groups(trace)
    parts: dict[Any, list[int]] = defaultdict(list)
    for place, call in enumerate(around.tolist()):
        parts[call if call >= 0 and len(trace.device) else ("piece", place)].append(place)
    found = [
        _called(trace, calls, chosen, members, around=int(around[members[0]]), groups=groups)
        for members in parts.values()
    ]
    return tuple(sorted(found, key=lambda one: one.start_ns))


class _Groups:
    """The groups of ranks that a trace describes, by name. Mutable: it is read once."""

    def __init__(self, trace: Trace) -> None:
        facts = trace.metadata.get("distributedInfo")
        facts = facts if isinstance(facts, dict) else {}
        world = facts.get("world_size")
        self.world_size = world if isinstance(world, int) and world > 1 else 0
        listed = facts.get("pg_config")
        self._known: dict[str, tuple[str, tuple[int, ...]]] = {}
        for each in listed if isinstance(listed, list) else []:
            if isinstance(each, dict):
                ranks = each.get("ranks")
                members = tuple(one for one in ranks if isinstance(one, int)) if isinstance(ranks, list) else ()
                self._known[str(each.get("pg_name"))] = (str(each.get("pg_desc") or ""), members)

    def of(self, said: Collective | None) -> tuple[str, tuple[int, ...], int]:
        """Name, members and size of the group of a collective; of one that says nothing, that of all ranks."""
        if said is None or not said.group:
            only = list(self._known.values()) if len(self._known) == 1 else []
            name, members = only[0] if only else ("", ())
            return name, members, len(members) or self.world_size
        description, members = self._known.get(said.group, ("", ()))
        name = next((text for text in (said.description, description) if text not in {"", "undefined"}), said.group)
        return name, members, said.group_size or len(members)


def _called(
    trace: Trace, calls: Calls, pieces: Pieces, members: Sequence[int], *, around: int, groups: _Groups
) -> Called:
    """One collective of the pieces of one call, which lies in or is the event ``around``."""
    first = members[0]
    place, host = int(pieces.collective[first]), int(pieces.host[first])
    said = trace.collectives[place] if place >= 0 else None
    names = [trace.names[event] for event in trace.host.name[list(_enclosing(trace, calls, around))].tolist()]
    kernel = trace.names[int(pieces.name[first])]
    op = next(filter(None, map(operation_named, [said.name if said else "", *names, kernel])), kernel)
    group, ranks_of, ranks = groups.of(said)
    size_bytes, dtype = max(collective_bytes(said)) if said else 0.0, said.dtype if said else ""
    if not size_bytes:
        size_bytes, dtype = _size(trace, calls, around, gathered=ranks if op == "all_gather" else 0)
    return Called(
        op=op,
        group=group,
        members=ranks_of,
        ranks=ranks,
        size_bytes=size_bytes,
        dtype=dtype,
        asked_ns=int(trace.host.start_ns[host]) if host >= 0 and len(trace.device) else -1,
        start_ns=int(min(pieces.start_ns[place] for place in members)),
        end_ns=int(max(pieces.end_ns[place] for place in members)),
    )


def _enclosing(trace: Trace, calls: Calls, place: int) -> Iterator[int]:
    """An event and those around it, as long as they are a collective's."""
    while place >= 0:
        name = trace.names[int(trace.host.name[place])]
        if not (LIBRARY.match(name) or OPERATOR.match(name)):
            return
        yield place
        place = int(calls.parent[place])


def _size(trace: Trace, calls: Calls, around: int, *, gathered: int) -> tuple[float, str]:
    """The largest tensor of a call and of those around it, which is the whole vector, and its type.

    A library's own words have what one rank gives, which is gathered from so many (0: it is no gathering).
    """
    largest, dtype, from_library = 0.0, "", True
    for place in _enclosing(trace, calls, around):
        shape = int(trace.host.shape[place])
        call = recorded(trace.shapes[shape]) if shape >= 0 else None
        size = max(tensor_bytes(call), default=0.0) if call else 0.0
        if call and size > largest:
            largest, from_library = size, not trace.names[int(trace.host.name[place])].startswith("c10d")
            dtype = next((kind for kind in call.types if kind), "")
    return largest * gathered if gathered and from_library else largest, dtype


def line_rate(device: DeviceSpec | None, one: Called, *, world_size: int) -> float | None:
    """What the links between the ranks of a collective carry one way for each of them; None if unknown.

    Neighbouring ranks are taken to share a node or a scale-up domain, as launchers place them.
    """
    if device is None or not one.ranks:
        return None
    domain = max(device.node.scale_up_domain, 1)
    if (one.members and len({rank // domain for rank in one.members}) == 1) or max(world_size, one.ranks) <= domain:
        return device.link.per_device_byte_per_s if device.link else None
    if one.members or one.ranks > domain:
        return device.node.inter_node_byte_per_s
    return None


def collective_table(
    called: Sequence[Called],
    compute: Intervals,
    device: DeviceSpec | None = None,
    *,
    world_size: int = 1,
    probed: Sequence[CollectiveCurve] = (),
) -> tuple[TraceCollective, ...]:
    """One row for each operation, group and size, most time first.

    Args:
        called: the collectives of one device.
        compute: when the device computed.
        device: its entry of the catalogue; None leaves the links unknown.
        world_size: how many ranks the program has.
        probed: what a probe measured of the same operations between as many ranks.
    """
    rows: dict[tuple[str, str, int, float, str], list[Called]] = defaultdict(list)
    for one in called:
        rows[one.op, one.group, one.ranks, one.size_bytes, one.dtype].append(one)
    found = [
        _row(each, compute, line_rate(device, each[0], world_size=world_size), _probe_rate(each[0], probed))
        for each in rows.values()
    ]
    return tuple(sorted(found, key=lambda row: (-row.duration_s, row.op, row.bytes)))


def _probe_rate(one: Called, probed: Sequence[CollectiveCurve]) -> float | None:
    """Bus bandwidth at the size of a collective, by the quickest probe of the same between as many ranks."""
    times_s = [each.time_s(one.size_bytes) for each in probed if (each.collective, each.ranks) == (one.op, one.ranks)]
    factor = collective_factor(one.op, one.ranks) if one.ranks else None
    return one.size_bytes * factor / min(times_s) if times_s and factor and one.size_bytes else None


def _row(
    calls: Sequence[Called], compute: Intervals, link_byte_per_s: float | None, probe_byte_per_s: float | None
) -> TraceCollective:
    first = calls[0]
    starts, ends = (np.array([getattr(one, name) for one in calls]) for name in ("start_ns", "end_ns"))
    duration_s = float((ends - starts).sum()) * NS
    hidden_s = float(compute.within(starts, ends).sum()) * NS
    rate = first.size_bytes * len(calls) / duration_s if first.size_bytes and duration_s else None
    factor = collective_factor(first.op, first.ranks) if first.ranks else None
    bus = rate * factor if rate is not None and factor is not None else None
    quickest_s = float((ends - starts).min()) * NS
    best = first.size_bytes * factor / quickest_s if bus is not None and factor is not None and quickest_s else None
    return TraceCollective(
        op=first.op,
        group=first.group,
        ranks=first.ranks or None,
        bytes=first.size_bytes or None,
        dtype=first.dtype,
        count=len(calls),
        duration_s=duration_s,
        algbw_byte_per_s=rate,
        busbw_byte_per_s=bus,
        best_busbw_byte_per_s=best,
        link_byte_per_s=link_byte_per_s,
        link_fraction=best / link_byte_per_s if best is not None and link_byte_per_s else None,
        probe_busbw_byte_per_s=probe_byte_per_s,
        probe_fraction=best / probe_byte_per_s if best is not None and probe_byte_per_s else None,
        exposed_s=duration_s - hidden_s,
        hidden_s=hidden_s,
    )
