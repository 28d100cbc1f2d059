"""What stands around each event of a host thread, and which forward operator does a node of backward belong to?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hwprof.spans.collectives import MESSAGE
from hwprof.spans.columns import HostEvents, HostKind, Numbers, Trace
from hwprof.spans.marks import ENGINE

Places = NDArray[np.int32]
"""Places in columns; -1 for none."""
Mask = NDArray[np.bool_]

Number = TypeVar("Number", bound=np.signedinteger[Any])

_AT_A_TIME = 1 << 16
"""Rows that are looked up at once: as Python's numbers they take five times the memory, as indices twice."""


def named(trace: Trace, chosen: Callable[[str], object]) -> Mask:
    """Which host events have a name that is chosen; each name is asked once."""
    if not trace.names:
        return np.zeros(len(trace.host), dtype=np.bool_)
    found: Mask = by_name(trace, chosen)[trace.host.name]
    return found


def by_name(trace: Trace, chosen: Callable[[str], object]) -> Mask:
    """Which names of a trace are chosen."""
    return np.array([bool(chosen(name)) for name in trace.names], dtype=np.bool_)


def parents(trace: Trace) -> Places:
    """The innermost event around each on its thread; -1 for none.

    A call into the runtime encloses nothing, though clocks may differ; nor does a message under way.
    """
    host = trace.host
    encloses = (host.kind != HostKind.RUNTIME) & ~named(trace, MESSAGE.match)
    parent = np.full(len(host), -1, dtype=np.int32)
    stack: list[tuple[int, int]] = []
    last_thread = -1
    for low in range(0, len(host), _AT_A_TIME):
        piece = slice(low, low + _AT_A_TIME)
        columns = (host.start_ns[piece], host.end_ns[piece], host.thread[piece], encloses[piece])
        found = []
        for place, (start, end, thread, holds) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True), low
        ):
            if thread != last_thread:
                stack.clear()
                last_thread = thread
            while stack and stack[-1][1] <= start:
                stack.pop()
            found.append(stack[-1][0] if stack else -1)
            if holds:
                stack.append((place, end))
        parent[piece] = found
    return parent


def nearest(parent: Places, marked: Mask) -> Places:
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


def backward_nodes(trace: Trace) -> Mask:
    """Which events are nodes of backward, or the autograd engine's run of one."""
    return trace.host.in_backward | named(trace, lambda name: name.startswith(ENGINE))


def node_labels(host: HostEvents, label: Places, forward: Numbers, nodes: Numbers) -> Places:
    """The label of each backward node: that of the forward operator with the same autograd sequence number.

    A node without one (gradient accumulation) follows the node before it on its thread; 0 where there is none.

    Args:
        host: the events.
        label: of each event, a number.
        forward: places of forward operators that have a sequence number; of equal numbers the last one counts.
        nodes: places of the backward nodes, ascending.
    """
    known, inverse = np.unique(host.sequence[forward], return_inverse=True)
    last = np.full(len(known) + 1, -1, dtype=np.int32)  # the last stands for a number that is not known
    last[inverse] = label[forward]
    found = np.searchsorted(known, host.sequence[nodes])
    own = np.where(np.append(known, -1)[found] == host.sequence[nodes], last[found], -1)
    threads = host.thread[nodes]
    before = np.maximum.accumulate(np.where(own >= 0, np.arange(len(own)), -1))
    same = (before >= 0) & (threads[np.maximum(before, 0)] == threads)
    return np.where(same, own[np.maximum(before, 0)], 0)
