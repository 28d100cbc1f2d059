"""Who called whom on the host, for which module, in which direction?

A backward operator belongs to the module whose forward operator has the same autograd sequence number; gradient
accumulation follows the node before it, as it does in our own runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from hwprof.count.aten.recorded import is_priced
from hwprof.specs.job.labels import ENGINE, label_of
from hwprof.specs.record.trace import TraceDirection
from hwprof.trace.read.columns import MODULE_MARK, HostEvents, HostKind, Numbers, Trace

Places = NDArray[np.int32]
"""Places in columns; -1 for none."""

Number = TypeVar("Number", bound=np.signedinteger[Any])

DIRECTIONS: tuple[TraceDirection, ...] = get_args(TraceDirection)
FORWARD, RECOMPUTE, BACKWARD, UPDATE, OTHER = range(len(DIRECTIONS))

OPTIMIZER = "Optimizer.step#"
OWN_MODULE = "hwprof:module:"
LOADER = re.compile(r"enumerate\(DataLoader\)|hwprof:phase:data$")
_TRANSPARENT = re.compile(
    r"ProfilerStep|hwprof:(window|phase)|(DistributedDataParallel|FullyShardedDataParallel)\.forward|"
    r"FSDP::|PyTorch Profiler|Torch-Compiled Region|(nccl|gloo|mpi|ucc|xccl|hccl):"
)
"""Annotations that say nothing of the place of the operators in them."""
_INSTANCE = re.compile(r"_\d+$")


@dataclass(frozen=True, slots=True)
class Calls:
    """Columns beside the host events of a trace; -1 where there is none.

    Attributes:
        parent: the event around it on the same thread.
        operator: the operator that it is, or the innermost around it.
        owner: the operator that its cost is counted at: the outermost with a cost function, else ``operator``.
        label: place in ``labels`` of the module or annotation that it belongs to.
        direction: place in ``DIRECTIONS``.
        labels: paths of modules, names of annotations; the first is empty.
    """

    parent: Places
    operator: Places
    owner: Places
    label: Places
    direction: NDArray[np.int8]
    labels: tuple[str, ...]


def calls_of(trace: Trace) -> Calls:
    """The calls of a trace's host events."""
    host = trace.host
    parent = _parents(host)
    is_operator = host.kind == HostKind.OPERATOR
    operator = nearest(parent, is_operator)
    label, labels = _scopes(trace, parent)
    direction, nodes = _directions(trace, parent, operator)
    label = _backward_labels(host, label, direction, nodes)
    return Calls(
        parent=parent,
        operator=operator,
        owner=_owners(trace, parent, operator),
        label=label,
        direction=direction,
        labels=labels,
    )


def nearest(parent: Places, marked: NDArray[np.bool_]) -> Places:
    """Each event itself if it is marked, else the innermost marked event around it, else -1.

    Portion by portion: what is around an event stands before it.
    """
    found = np.full(len(parent), -1, dtype=np.int32)
    for low in range(0, len(parent), _AT_A_TIME):
        here, above = found[low : low + _AT_A_TIME], parent[low : low + _AT_A_TIME].copy()
        own = np.flatnonzero(marked[low : low + _AT_A_TIME])
        here[own] = low + own
        open_ = np.flatnonzero((here < 0) & (above >= 0))
        while len(open_):
            around = above[open_]
            here[open_] = found[around]
            above[open_] = np.where(around < low, -1, above[np.maximum(around - low, 0)])
            open_ = open_[(here[open_] < 0) & (above[open_] >= 0)]
    return found


def at(column: NDArray[Number], places: Places) -> NDArray[Number]:
    """What a column of numbers says at these places; -1 where a place is -1."""
    found = np.full(len(places), -1, dtype=column.dtype)
    for low in range(0, len(places), _AT_A_TIME):
        portion = places[low : low + _AT_A_TIME]
        known = np.flatnonzero(portion >= 0)
        found[low + known] = column[portion[known]]
    return found


def _parents(host: HostEvents) -> Places:
    """The innermost event around each; a call into the runtime encloses nothing, though clocks may differ."""
    parent = np.full(len(host), -1, dtype=np.int32)
    stack: list[tuple[int, int]] = []
    last_thread = -1
    for low in range(0, len(host), _AT_A_TIME):
        piece = slice(low, low + _AT_A_TIME)
        columns = (host.start_ns[piece], host.end_ns[piece], host.thread[piece], host.kind[piece] != HostKind.RUNTIME)
        found = []
        for place, (start, end, thread, encloses) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True), low
        ):
            if thread != last_thread:
                stack.clear()
                last_thread = thread
            while stack and stack[-1][1] <= start:
                stack.pop()
            found.append(stack[-1][0] if stack else -1)
            if encloses:
                stack.append((place, end))
        parent[piece] = found
    return parent


_AT_A_TIME = 1 << 16
"""Rows that are looked up at once: as Python's numbers they take five times the memory, as indices twice."""


def _named(trace: Trace, chosen: list[bool]) -> NDArray[np.bool_]:
    """Which host events have one of the chosen names."""
    if not chosen:
        return np.zeros(len(trace.host), dtype=np.bool_)
    found: NDArray[np.bool_] = np.array(chosen)[trace.host.name]
    return found


def _scopes(trace: Trace, parent: Places) -> tuple[Places, tuple[str, ...]]:
    """The label of the module or annotation around each event."""
    host = trace.host
    speaks = _named(trace, [not _TRANSPARENT.match(name) for name in trace.names])
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
    if name.startswith(OWN_MODULE):
        return label_of(name.removeprefix(OWN_MODULE))
    if name.startswith(MODULE_MARK):
        inner = _INSTANCE.sub("", name.removeprefix(MODULE_MARK))
        return f"{outer}.{inner}" if outer else inner
    return f"{outer}.{name}" if outer and not name.startswith(OPTIMIZER) else name


def _directions(trace: Trace, parent: Places, operator: Places) -> tuple[NDArray[np.int8], Places]:
    """The direction of each event, and the backward node that it is in."""
    host = trace.host
    is_module = (host.kind == HostKind.MODULE) | _named(trace, [name.startswith(OWN_MODULE) for name in trace.names])
    is_update = _named(trace, [name.startswith(OPTIMIZER) for name in trace.names])
    is_node = host.in_backward | _named(trace, [name.startswith(ENGINE) for name in trace.names])
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


def _backward_labels(host: HostEvents, label: Places, direction: NDArray[np.int8], nodes: Places) -> Places:
    """Labels where those of backward events come from forward."""
    forward = np.flatnonzero((direction == FORWARD) & (host.sequence >= 0) & (host.kind == HostKind.OPERATOR))
    if not len(forward):
        return label
    forward = forward[np.argsort(host.start_ns[forward], kind="stable")]
    known, inverse = np.unique(host.sequence[forward], return_inverse=True)
    last = np.zeros(len(known), dtype=np.int32)
    last[inverse] = label[forward]
    is_node = np.zeros(len(host), dtype=np.bool_)
    is_node[nodes[nodes >= 0]] = True
    places = np.flatnonzero(is_node)
    found = np.searchsorted(known, host.sequence[places])
    hit = (found < len(known)) & (known[np.minimum(found, len(known) - 1)] == host.sequence[places])
    node_label = np.where(hit, last[np.minimum(found, len(known) - 1)], -1)
    node_label = _carried(node_label, host.thread[places])
    by_node = np.zeros(len(host), dtype=np.int32)
    by_node[places] = node_label
    inside = np.flatnonzero((direction == BACKWARD) & (nodes >= 0))
    label[inside] = by_node[nodes[inside]]
    return label


def _carried(labels: Places, threads: Numbers) -> Places:
    """Each unknown label replaced by the last known one of its thread; the empty label where there is none."""
    known = np.where(labels >= 0, np.arange(len(labels)), -1)
    last = np.maximum.accumulate(known) if len(known) else known
    same = (last >= 0) & (threads[np.maximum(last, 0)] == threads)
    return np.where(same, labels[np.maximum(last, 0)], 0)


def _owners(trace: Trace, parent: Places, operator: Places) -> Places:
    priced = _named(trace, [is_priced(name) for name in trace.names]) & (trace.host.kind == HostKind.OPERATOR)
    inner = at(nearest(parent, priced), parent) >= 0
    outermost = nearest(parent, priced & ~inner)
    return np.where(outermost >= 0, outermost, operator)
