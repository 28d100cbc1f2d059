"""Which gathers of sharded parameters did the device wait for, and which of them had nobody asked for beforehand?

FSDP2 writes around each all-gather whose parameters it is, and around what asks for it: the module that needs it next
(``FSDP::pre_forward``, ``FSDP::pre_backward``), or an earlier one (``FSDP::backward_prefetch for ...``).
"""

from __future__ import annotations

import re
from collections import defaultdict

import numpy as np

from hwprof.spans.columns import NS, Trace
from hwprof.spans.nesting import at, named, nearest
from hwprof.spans.pieces import Kind, Pieces
from hwprof.specs.record.trace_rows import TraceDirection, TraceGather
from hwprof.trace.calls import Calls

_GATHER = re.compile(r"FSDP::all_gather(?: \((?P<module>.*)\))?$")
_PREFETCH = re.compile(r"FSDP::(forward|backward)_prefetch for ")
_BACKWARD = re.compile(r"FSDP::(pre_backward|backward_prefetch)")


def gather_table(trace: Trace, calls: Calls, pieces: Pieces) -> tuple[TraceGather, ...]:
    """Gathers of each module and direction, the most exposed first; none where the trace does not say whose."""
    gathers = named(trace, _GATHER.match)
    if not gathers.any():
        return ()
    collective = pieces.where(pieces.kind == Kind.COMMUNICATION)
    mine = at(nearest(calls.parent, gathers), collective.host)
    collective, mine = collective.where(mine >= 0), mine[mine >= 0]
    ahead = at(nearest(calls.parent, named(trace, _PREFETCH.match)), mine) >= 0
    back = at(nearest(calls.parent, named(trace, _BACKWARD.match)), mine) >= 0
    time_ns = collective.end_ns - collective.start_ns
    exposed_ns = time_ns - pieces.of(Kind.COMPUTE).within(collective.start_ns, collective.end_ns)
    rows: dict[tuple[str, TraceDirection], list[int]] = defaultdict(list)
    for place, event in enumerate(trace.host.name[mine].tolist()):
        found = _GATHER.match(trace.names[event])
        module = (found["module"] or "") if found else ""
        rows[module, "backward" if back[place] else "forward"].append(place)
    table = [
        TraceGather(
            module=module,
            direction=direction,
            count=len(np.unique(mine[places])),
            prefetched=len(np.unique(mine[places][ahead[places]])),
            time_s=float(time_ns[places].sum()) * NS,
            exposed_s=float(exposed_ns[places].sum()) * NS,
        )
        for (module, direction), places in rows.items()
    ]
    return tuple(sorted(table, key=lambda row: (-row.exposed_s, row.module)))
