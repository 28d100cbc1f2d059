"""Who called whom on the host, for which module, in which direction?

A backward operator belongs to the module whose forward operator has the same autograd sequence number; gradient
accumulation follows the node before it, as it does in our own runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from hwprof.count.aten.recorded import is_priced
from hwprof.spans.collectives import LIBRARY
from hwprof.spans.columns import HostKind, Trace
from hwprof.spans.marks import MODULE, OPTIMIZER, TORCH_MODULE
from hwprof.spans.nesting import Places, at, backward_nodes, named, nearest, node_labels, parents
from hwprof.specs.job.labels import label_of
from hwprof.specs.record.trace_rows import TraceDirection

DIRECTIONS: tuple[TraceDirection, ...] = get_args(TraceDirection)
FORWARD, RECOMPUTE, BACKWARD, UPDATE, OTHER = range(len(DIRECTIONS))

_TRANSPARENT = re.compile(
    r"ProfilerStep|hwprof:(window|phase)|(DistributedDataParallel|FullyShardedDataParallel)\.forward|"
    rf"FSDP::|PyTorch Profiler|Torch-Compiled Region|{LIBRARY.pattern}"
)
"""Annotations that say nothing of the place of the operators in them."""
_INSTANCE = re.compile(r"_\d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Columns beside the host events of a trace; -1 where there is none.

    Attributes:
        parent: the event around it on the same thread.
        owner: the operator that its cost is counted at: the outermost with a cost function, else the innermost.
        label: place in ``labels`` of the module or annotation that it belongs to.
        direction: place in ``DIRECTIONS``.
        labels: paths of modules, names of annotations; the first is empty.
    """

    parent: Places
    owner: Places
    label: Places
    direction: NDArray[np.int8]
    labels: tuple[str, ...]


def calls_of(trace: Trace) -> Calls:
    """The calls of a trace's host events."""
    host = trace.host
    parent = parents(trace)
    operator = nearest(parent, host.kind == HostKind.OPERATOR)
    label, labels = _scopes(trace, parent)
    direction, nodes = _directions(trace, parent, operator)
    label = _backward_labels(trace, label, direction, nodes)
    return Calls(
        parent=parent,
        owner=_owners(trace, parent, operator),
        label=label,
        direction=direction,
        labels=labels,
    )


def _scopes(trace: Trace, parent: Places) -> tuple[Places, tuple[str, ...]]:
    """The label of the module or annotation around each event."""
    host = trace.host
    speaks = named(trace, lambda name: not _TRANSPARENT.match(name))
    is_scope = (host.kind == HostKind.MODULE) | ((host.kind == HostKind.ANNOTATION) & speaks)
    scope = nearest(parent, is_scope)
    places = np.flatnonzero(is_scope)
    above, names = at(scope, parent[places]).tolist(), host.name[places].tolist()
    numbers, labels = {"": 0}, [""]
    known: dict[tuple[int, int], int] = {}
    by_event = np.zeros(len(host) + 1, dtype=np.int32)  # the last stands for no scope at all
    for place, around, name in zip(places.tolist(), above, names, strict=True):
        inside = int(by_event[around])
        if (inside, name) not in known:
            label = _label(labels[inside], trace.names[name])
            known[inside, name] = numbers.setdefault(label, len(numbers))
            if len(numbers) > len(labels):
                labels.append(label)
        by_event[place] = known[inside, name]
    return by_event[scope], tuple(labels)


def _label(outer: str, name: str) -> str:
    if name.startswith(MODULE):
        return label_of(name.removeprefix(MODULE))
    if name.startswith(TORCH_MODULE):
        inner = _INSTANCE.sub("", name.removeprefix(TORCH_MODULE))
        return f"{outer}.{inner}" if outer else inner
    return f"{outer}.{name}" if outer and not name.startswith(OPTIMIZER) else name


def _directions(trace: Trace, parent: Places, operator: Places) -> tuple[NDArray[np.int8], Places]:
    """The direction of each event, and the backward node that it is in."""
    host = trace.host
    is_module = (host.kind == HostKind.MODULE) | named(trace, lambda name: name.startswith(MODULE))
    is_update = named(trace, lambda name: name.startswith(OPTIMIZER))
    is_node = backward_nodes(trace)
    means = np.full(len(host), -1, dtype=np.int8)
    for marked, meaning in ((is_module, FORWARD), (is_node, BACKWARD), (is_update, UPDATE)):
        means[marked] = meaning
    node = nearest(parent, is_node)
    direction = at(means, nearest(parent, means >= 0))
    recorded = nearest(parent, (host.sequence >= 0) & (operator >= 0)) >= 0
    unmarked = direction < 0
    direction[(direction == FORWARD) & (node >= 0)] = RECOMPUTE
    direction[unmarked] = OTHER
    direction[unmarked & recorded] = FORWARD
    return direction, node


def _backward_labels(trace: Trace, label: Places, direction: NDArray[np.int8], nodes: Places) -> Places:
    """Labels where those of backward events come from forward."""
    host = trace.host
    forward = np.flatnonzero((direction == FORWARD) & (host.sequence >= 0) & (host.kind == HostKind.OPERATOR))
    if not len(forward):
        return label
    forward = forward[np.argsort(host.start_ns[forward], kind="stable")]
    places = np.flatnonzero(backward_nodes(trace))
    by_node = np.zeros(len(host), dtype=np.int32)
    by_node[places] = node_labels(host, label, forward, places)
    inside = np.flatnonzero((direction == BACKWARD) & (nodes >= 0))
    label[inside] = by_node[nodes[inside]]
    return label


def _owners(trace: Trace, parent: Places, operator: Places) -> Places:
    priced = named(trace, is_priced) & (trace.host.kind == HostKind.OPERATOR)
    inner = at(nearest(parent, priced), parent) >= 0
    outermost = nearest(parent, priced & ~inner)
    return np.where(outermost >= 0, outermost, operator)
