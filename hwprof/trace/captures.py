"""Which operators made the kernels of a replayed graph? Those that its capture launched, or the same work run eagerly.

A replay is one call that names no operators. While a graph was captured, its operators ran on the host and launched as
many kernels, in the same order; before that, most programs run the same work once eagerly. Only what fits is joined:
the number of launches must be that of the graph's kernels (or the kernels' names those of an eager run), captures that
fit must agree, and no operator may be of another sort than its kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwprof.spans.columns import CapturedOp, HostKind, Shapes, Trace
from hwprof.spans.kernels import category_of
from hwprof.spans.marks import GRAPH_LAUNCH
from hwprof.spans.nesting import Places, at, named
from hwprof.spans.pieces import gpu_pieces
from hwprof.trace.calls import Calls

_BEGINS = re.compile(r"(cuda|hip|cu)StreamBeginCapture")
_ENDS = re.compile(r"(cuda|hip|cu)StreamEndCapture")
_NODES = re.compile(r"(cuda|hip|cu)\w*(Launch\w*Kernel|Memcpy\w*Async|Memset\w*Async|Memset\w*|LaunchKernelEx\w*)$")
"""Calls that put a node into a graph that is being captured."""
_DECISIVE = {"product", "attention", "norm", "collective"}
"""Sorts of work that names tell surely."""


@dataclass(frozen=True, slots=True)
class _Made:
    """The operator behind one node or kernel; ``call`` tells its calls apart."""

    name: str
    label: str
    shape: Shapes | None
    call: int


@dataclass(frozen=True, slots=True)
class Record:
    """What one trace shows of captured graphs.

    Attributes:
        captures: the operators behind each capture's nodes, in order.
        kernels, makers: names of the kernels that ran outside graphs, in order, and the operators behind them.
    """

    captures: tuple[tuple[_Made, ...], ...]
    kernels: tuple[str, ...]
    makers: tuple[_Made, ...]


def record(trace: Trace, calls: Calls) -> Record:
    """What a trace shows of captures and of eager runs."""
    pieces = gpu_pieces(trace, calls.parent, trace.device)
    graph = np.append(named(trace, lambda name: GRAPH_LAUNCH in name), [False])[pieces.host]
    eager = pieces.where(~graph & (pieces.host >= 0))
    names = tuple(trace.names[name] for name in eager.name.tolist())
    return Record(tuple(_captures(trace, calls)), names, tuple(_makers(trace, calls, eager.host)))


def _captures(trace: Trace, calls: Calls) -> Iterator[tuple[_Made, ...]]:
    host = trace.host
    nodes = np.flatnonzero((host.kind == HostKind.RUNTIME) & named(trace, _NODES.search)).astype(np.int32)
    ends = np.flatnonzero(named(trace, _ENDS.match))
    for begin in np.flatnonzero(named(trace, _BEGINS.match)).tolist():
        after = ends[(host.thread[ends] == host.thread[begin]) & (host.start_ns[ends] >= host.end_ns[begin])]
        if not len(after):
            continue
        until = int(host.start_ns[after].min())
        inside = nodes[(host.start_ns[nodes] >= host.end_ns[begin]) & (host.start_ns[nodes] < until)]
        inside = inside[np.argsort(host.start_ns[inside], kind="stable")]
        yield tuple(_makers(trace, calls, inside))


def _makers(trace: Trace, calls: Calls, launches: Places) -> Iterator[_Made]:
    owner = at(calls.owner, launches)
    for place, launch in zip(owner.tolist(), launches.tolist(), strict=True):
        if place < 0:
            yield _Made("", "", None, launch)
            continue
        shape = int(trace.host.shape[place])
        label = calls.labels[max(int(calls.label[place]), 0)]
        yield _Made(trace.names[int(trace.host.name[place])], label, trace.shapes[shape] if shape >= 0 else None, place)


def joined(trace: Trace, calls: Calls, others: Sequence[Record]) -> tuple[Trace, Calls, str]:
    """The trace with the operators behind the kernels of its graphs, and what to say of it.

    Args:
        trace: with replays.
        calls: of the trace.
        others: traces of captures; the trace itself is looked at first.
    """
    is_graph = named(trace, lambda name: GRAPH_LAUNCH in name)
    if not is_graph.any() or not len(trace.device):
        return trace, calls, ""
    pieces = gpu_pieces(trace, calls.parent, trace.device)
    records = (record(trace, calls), *others)
    made: dict[tuple[str, ...], tuple[_Made, ...] | None] = {}
    ops: dict[_Made, int] = {}
    captured = np.full(len(pieces), -1, dtype=np.int32)
    launched = np.flatnonzero(np.append(is_graph, [False])[pieces.host])
    for launch in np.unique(pieces.host[launched]).tolist():
        members = launched[pieces.host[launched] == launch]
        kernels = tuple(trace.names[name] for name in pieces.name[members].tolist())
        if kernels not in made:
            made[kernels] = _fitting(kernels, records)
        for member, one in zip(members.tolist(), made[kernels] or (), strict=False):
            if one.name:
                captured[member] = ops.setdefault(one, len(ops))
    if not ops:
        return (
            trace,
            calls,
            f"{len(made)} captured graphs have no operators: give a trace of the capture with --capture",
        )
    return (*_with(trace, calls, tuple(ops), captured), f"{int((captured >= 0).sum())} kernels of graphs were joined")


def _fitting(kernels: tuple[str, ...], records: Sequence[Record]) -> tuple[_Made, ...] | None:
    """The operators behind a graph's kernels; None where nothing fits, or captures that fit say different things."""
    for one in records:
        found = [each for each in one.captures if len(each) == len(kernels) and _agrees(kernels, each)]
        if found and len({_content(each) for each in found}) == 1:
            return found[0]
    for one in records:
        for start in range(len(one.kernels) - len(kernels), -1, -1):
            if one.kernels[start] == kernels[0] and one.kernels[start : start + len(kernels)] == kernels:
                return one.makers[start : start + len(kernels)]
    return None


def _content(made: Sequence[_Made]) -> tuple[object, ...]:
    return tuple((one.name, one.shape) for one in made)


def _agrees(kernels: Sequence[str], made: Sequence[_Made]) -> bool:
    """Whether no operator is of a sort that its kernel's name rules out."""
    for kernel, one in zip(kernels, made, strict=True):
        sorts = {category_of(kernel), category_of(one.name) if one.name else "unknown"}
        if len(sorts) == 2 and "unknown" not in sorts and sorts <= _DECISIVE:
            return False
    return True


def _with(trace: Trace, calls: Calls, ops: Sequence[_Made], captured: Places) -> tuple[Trace, Calls]:
    """The trace with names, shapes and labels of what was joined."""
    names, labels = [*trace.names], [*calls.labels]
    shapes = [*trace.shapes]
    found = []
    for one in ops:
        places = [_place(names, one.name), _place(labels, one.label)]
        shape = -1 if one.shape is None else _place(shapes, one.shape)
        found.append(CapturedOp(name=places[0], label=places[1], shape=shape))
    order = replace(trace.device, captured=captured)
    return (
        replace(trace, names=tuple(names), shapes=tuple(shapes), device=order, captured=tuple(found)),
        replace(calls, labels=tuple(labels)),
    )


def _place(values: list[str] | list[Shapes], value: str | Shapes) -> int:
    """Where a value stands in a list, at its end if it is new."""
    known: list[object] = values  # type: ignore[assignment]
    if value not in known:
        known.append(value)
    return known.index(value)
