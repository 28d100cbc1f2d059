"""Which kernels, operators and modules take the time?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from hwprof.count.aten.recorded import is_causal, recorded_cost, recorded_dtype
from hwprof.count.ops.cost import Cost
from hwprof.spans.arguments import Recorded, recorded
from hwprof.spans.columns import NS, Ints, Numbers, Trace
from hwprof.spans.kernels import category_of, library_of
from hwprof.spans.nesting import Places, at
from hwprof.spans.pieces import Kind, Pieces
from hwprof.specs.distinct import distinct
from hwprof.specs.record.trace_rows import Category, KernelKind, TraceKernel, TraceModule, TraceOp
from hwprof.trace.calls import DIRECTIONS, OTHER, Calls

CATEGORIES: tuple[Category, ...] = get_args(Category)
_UNKNOWN = CATEGORIES.index("unknown")
_KINDS: tuple[KernelKind, ...] = ("compute", "communication", "copy")


def kernel_table(trace: Trace, calls: Calls, pieces: Pieces, *, by_call: bool) -> tuple[TraceKernel, ...]:
    """All runs of each kernel, most time first.

    Args:
        trace: where the names are from.
        calls: which operators are around.
        pieces: what ran.
        by_call: whether pieces of one call are one run (a CPU's operator is interrupted by those it calls).
    """
    name, kind, time_ns = pieces.name, pieces.kind, pieces.end_ns - pieces.start_ns
    sorts = piece_categories(trace, calls, pieces)
    if by_call:
        _, first, call = np.unique(pieces.host, return_index=True, return_inverse=True)
        name, kind, sorts = name[first], kind[first], sorts[first]
        time_ns = np.bincount(call, weights=time_ns).astype(np.int64)
    total_ns = float(time_ns.sum())
    rows = [
        _kernel(trace.names[name[first]], int(kind[first]), time_ns[members], total_ns, CATEGORIES[sorts[first]])
        for first, members in _members(name, kind)
    ]
    return tuple(sorted(rows, key=lambda row: (-row.time_s, row.name)))


def _members(*columns: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """The first row, and all rows, of each group of equal ones."""
    first, group = distinct(*columns)
    order = np.argsort(group, kind="stable")
    cuts = np.cumsum(np.bincount(group, minlength=len(first)))[:-1]
    yield from zip(first.tolist(), np.split(order, cuts), strict=True)


def _kernel(name: str, kind: int, time_ns: Ints, total_ns: float, category: Category) -> TraceKernel:
    total = int(time_ns.sum())
    return TraceKernel(
        name=name,
        kind=_KINDS[kind],
        category=category,
        library=library_of(name),
        calls=len(time_ns),
        time_s=total * NS,
        share=total / total_ns if total_ns else 0.0,
        mean_s=float(time_ns.mean()) * NS,
        min_s=int(time_ns.min()) * NS,
        max_s=int(time_ns.max()) * NS,
        deviation_s=float(time_ns.std(ddof=1)) * NS if len(time_ns) > 1 else 0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    """For each piece: the operator that it is counted at (-1 for none), and the columns that rows are made by.

    What no operator launched (a Triton kernel called from Python, a collective's own thread) goes by its own name.
    """

    owner: Places
    name: Numbers
    label: Numbers
    direction: Numbers
    shape: Numbers


def _placed(trace: Trace, calls: Calls, pieces: Pieces) -> _Places:
    owner = at(calls.owner, pieces.host)
    speaks = np.where(owner >= 0, owner, pieces.host)
    direction = at(calls.direction, speaks)
    direction[speaks < 0] = OTHER
    where = _Places(
        owner=owner,
        name=np.where(owner >= 0, at(trace.host.name, owner), pieces.name),
        label=np.maximum(at(calls.label, speaks), 0),
        direction=direction,
        shape=at(trace.host.shape, owner),
    )
    return _with_captured(trace, pieces, where)


def _with_captured(trace: Trace, pieces: Pieces, where: _Places) -> _Places:
    """Kernels of graphs at the operators that they were captured from; each replay is a call of these."""
    known = pieces.captured >= 0
    if not known.any():
        return where
    _, call = distinct(pieces.host, pieces.captured)
    columns = {
        name: np.where(known, at(np.array([getattr(op, name) for op in trace.captured]), pieces.captured), column)
        for name, column in (("name", where.name), ("label", where.label), ("shape", where.shape))
    }
    return replace(where, owner=np.where(known, len(trace.host) + call, where.owner), **columns)


def piece_categories(trace: Trace, calls: Calls, pieces: Pieces) -> NDArray[np.int8]:
    """Place in ``CATEGORIES`` of each piece: as its operator says, else as the kernel's own name does."""
    sort = _by_name(trace, _placed(trace, calls, pieces).name)
    unknown = sort == _UNKNOWN
    sort[unknown] = _by_name(trace, pieces.name[unknown])
    sort[pieces.kind == Kind.COMMUNICATION] = CATEGORIES.index("collective")
    sort[pieces.kind == Kind.COPY] = CATEGORIES.index("copy")
    return sort


def _by_name(trace: Trace, names: Numbers) -> NDArray[np.int8]:
    """Each name is asked once."""
    different, place = np.unique(names, return_inverse=True)
    found = np.array([CATEGORIES.index(category_of(trace.names[name])) for name in different.tolist()], dtype=np.int8)
    return found[place.reshape(-1)] if len(found) else np.zeros(0, dtype=np.int8)


def op_table(trace: Trace, calls: Calls, pieces: Pieces) -> tuple[TraceOp, ...]:
    """Time, work and traffic by module, operator, direction and shapes, most time first."""
    where = _placed(trace, calls, pieces)
    sort = piece_categories(trace, calls, pieces)
    time_ns = pieces.end_ns - pieces.start_ns
    total_ns = float(time_ns.sum())
    shapes = _ShapeTexts(trace)
    rows = [
        _op(
            trace,
            calls,
            where,
            members,
            time_s=float(time_ns[members].sum()) * NS,
            total_s=total_ns * NS,
            shapes=shapes,
            counted=pieces.counted[members],
            category=CATEGORIES[int(np.argmax(np.bincount(sort[members], weights=time_ns[members])))],
        )
        for _, members in _members(where.label, where.name, where.direction, where.shape)
    ]
    return tuple(sorted(rows, key=lambda row: (-row.time_s, row.module, row.op)))


class _ShapeTexts:
    """What the numbered shapes of a trace say; each is read once. Mutable: it remembers."""

    def __init__(self, trace: Trace) -> None:
        self._shapes = trace.shapes
        self._read: dict[int, Recorded | None] = {-1: None}

    def __getitem__(self, place: int) -> Recorded | None:
        if place not in self._read:
            self._read[place] = recorded(self._shapes[place])
        return self._read[place]


def _op(
    trace: Trace, calls: Calls, where: _Places, group: NDArray[np.intp], *, time_s: float, total_s: float,
    shapes: _ShapeTexts, category: Category, counted: Numbers,
) -> TraceOp:  # fmt: skip
    first = int(group[0])
    said = [trace.counted[place] for place in counted.tolist() if place >= 0]
    name = trace.names[where.name[first]]
    own = shapes[int(where.shape[first])]
    count = len(np.unique(where.owner[group])) if where.owner[first] >= 0 else len(group)
    cost = recorded_cost(name, own) if own else None
    work = {} if cost is None else _work(cost * count, time_s)
    if said:  # by a compiler, which tells products from other work by its sort alone
        flop, moved_bytes = sum(each.flop for each in said), sum(each.moved_bytes for each in said)
        kind = "matmul_flop" if category in {"product", "attention"} else "vector_flop"
        work = _work(Cost(read_bytes=moved_bytes, **{kind: flop}), time_s)
    if own and cost is not None and is_causal(name, own):
        work["causal_flop"] = float(cost.matmul_flop * count) / 2
    return TraceOp(
        module=calls.labels[where.label[first]],
        op=name,
        direction=DIRECTIONS[where.direction[first]],
        shapes=_sizes(own),
        dtype=recorded_dtype(own) if own else said[0].dtype if said else "",
        calls=count,
        kernels=len(group),
        category=category,
        time_s=time_s,
        share=time_s / total_s if total_s else 0.0,
        **work,
    )


def _work(cost: Cost, time_s: float) -> dict[str, float | None]:
    return {
        "matmul_flop": float(cost.matmul_flop),
        "vector_flop": float(cost.vector_flop),
        "moved_bytes": float(cost.moved_bytes),
        "flop_per_s": cost.flop / time_s if time_s else None,
        "byte_per_s": cost.moved_bytes / time_s if time_s else None,
    }


_MOST_SHOWN = 4


def _sizes(own: Recorded | None) -> str:
    """``64x128, 128``: the tensors' sizes; of a list how many there are."""
    if own is None:
        return ""
    words = [_size(dims) for dims in own.dims if isinstance(dims, list) and dims]
    return ", ".join(words[:_MOST_SHOWN]) + (", …" if len(words) > _MOST_SHOWN else "")


def _size(dims: Sequence[object]) -> str:
    if any(isinstance(each, list) for each in dims):
        return f"{len(dims)} tensors"
    return "x".join(map(str, dims))


def module_table(ops: Sequence[TraceOp]) -> tuple[TraceModule, ...]:
    """Operators of each module together, most time first."""
    groups: Mapping[tuple[str, str], list[TraceOp]] = defaultdict(list)
    for op in ops:
        groups[op.module, op.direction].append(op)
    rows = [
        TraceModule(
            module=module,
            direction=group[0].direction,
            time_s=sum(op.time_s for op in group),
            share=sum(op.share for op in group),
            matmul_flop=sum(op.matmul_flop or 0.0 for op in group),
            moved_bytes=sum(op.moved_bytes or 0.0 for op in group),
        )
        for (module, _), group in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.time_s, row.module)))
