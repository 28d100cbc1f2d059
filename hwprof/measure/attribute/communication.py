"""When did ranks talk to each other, about how much, and along which axis? Read from a trace, of NCCL or gloo.

On a GPU a collective is a kernel, which carries its name, its sizes and its group. On a CPU it is a span of one of
gloo's own threads (for messages: of the thread that sent it), enqueued by a ``c10d`` operator that knows the sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hwprof.measure.attribute.trace import Span
from hwprof.specs.intervals import Intervals, of_pairs
from hwprof.specs.record.collective import CollectiveName
from hwprof.specs.record.ranks import Axis, CollectiveCall

_KERNEL_MARKS = ("nccl", "rccl")
_OPERATORS = ("c10d::", "_c10d_functional::")
_FUNCTIONAL = "_c10d_functional::"
"""Collectives of DTensor, which tensor parallelism is made of."""
_GLOO = "gloo:"
_MESSAGES = ("gloo:send", "gloo:recv")
PACKING = "FSDP::"
"""Annotations of FSDP2 around what it does before and after its collectives."""
_MESH = "mesh_"
"""How torch describes the groups of a device mesh: this, and the name of the axis."""

_NAMES: dict[str, CollectiveName] = {
    "allreduce": "all_reduce",
    "all_reduce": "all_reduce",
    "allgather_base": "all_gather",
    "allgather": "all_gather",
    "all_gather": "all_gather",
    "allgather_into_tensor_coalesced": "all_gather",
    "reduce_scatter_base": "reduce_scatter",
    "reduce_scatter": "reduce_scatter",
    "reduce_scatter_tensor_coalesced": "reduce_scatter",
    "alltoall_base": "all_to_all",
    "alltoall": "all_to_all",
    "all_to_all": "all_to_all",
    "broadcast": "broadcast",
    "recv": "send_recv",
}
"""Names of collectives in traces, without the underscores around them. A message counts where it is received."""

_CARRIERS: dict[CollectiveName, tuple[str, ...]] = {
    "all_reduce": ("gloo:all_reduce",),
    "all_gather": ("gloo:all_gather",),
    "reduce_scatter": ("gloo:reduce_scatter", "gloo:all_reduce"),
    "all_to_all": ("gloo:all_to_all",),
    "broadcast": ("gloo:broadcast",),
    "send_recv": ("gloo:recv",),
}
"""What gloo runs for each; some releases reduce all and keep a part."""

_WHOLE_OPERAND: dict[CollectiveName, int] = {"reduce_scatter": 1}
"""Which operand of a ``c10d`` operator is the whole vector; else the first."""


def is_collective_kernel(name: str) -> bool:
    """Whether a kernel of a GPU is a collective."""
    return any(mark in name.lower() for mark in _KERNEL_MARKS)


def is_operator(span: Span) -> bool:
    """Whether an operator of the host is a collective, or waits for one."""
    return span.category == "cpu_op" and span.name.startswith(_OPERATORS)


def is_transfer(span: Span) -> bool:
    """Whether a span is a collective of gloo under way."""
    return span.name.startswith(_GLOO)


def encloses(span: Span) -> bool:
    """Whether what a thread does during the span belongs to it; messages go on while their thread does other things."""
    return not span.name.startswith(_MESSAGES)


def host_intervals(spans: Iterable[Span]) -> Intervals:
    """When a rank on a CPU was in a collective, or waited for one."""
    return of_pairs((span.start_s, span.end_s) for span in spans if is_operator(span) or is_transfer(span))


def calls_of(
    spans: Sequence[Span], compute: Intervals, *, phase_at: Callable[[float], str | None], whole_axis: Axis
) -> tuple[CollectiveCall, ...]:
    """The collectives among spans that are ordered by start.

    Args:
        spans: of the profiled window, kernels of a GPU included.
        compute: when the device computed.
        phase_at: the phase of the step at a time.
        whole_axis: the axis on which all ranks lie, or "data" where they lie on several.
    """
    kernels = [span for span in spans if span.category == "kernel" and is_collective_kernel(span.name)]
    found: list[_Found] = [(name, span, size, None) for span in kernels for name, size in _of_kernel(span)]
    found += _of_gloo(spans)
    return tuple(
        CollectiveCall(
            collective=name,
            axis=_axis(name, span, enqueued, phase_at(span.start_s), whole_axis),
            size_bytes=size,
            start_s=span.start_s,
            end_s=span.end_s,
            exposed_s=span.duration_s - float(compute.within(span.start_s, span.end_s)),
            phase=phase_at(span.start_s) or "",
        )
        for name, span, size, enqueued in found
        if span.end_s > span.start_s
    )


def _of_kernel(span: Span) -> Iterable[tuple[CollectiveName, float]]:
    """Name and size of a collective kernel; a trace without them has the name of the kernel."""
    text = span.collective or span.name.rpartition("_")[0].rpartition("_")[2]
    name = _NAMES.get(text.lower().strip("_"))
    if name is None:
        return
    sizes = span.operand_bytes
    yield name, (sizes[-1] if name == "all_gather" else sizes[0]) if sizes else 0.0


_Found = tuple[CollectiveName, Span, float, Span | None]


def _of_gloo(spans: Sequence[Span]) -> list[_Found]:
    """Each operator that enqueues a collective with the span in which gloo ran it: the first of its size after it."""
    waiting = [span for span in spans if is_transfer(span)]
    taken: set[int] = set()
    found: list[_Found] = []
    functional: dict[int | str, Span] = {}
    for span in spans:
        if not is_operator(span):
            continue
        if span.name.startswith(_FUNCTIONAL):
            functional[span.thread] = span
            continue
        name = _NAMES.get(span.name.removeprefix("c10d::").strip("_"))
        if name is None:
            continue
        size = _size_bytes(name, span)
        carrier = next((one for one in waiting if id(one) not in taken and _carries(one, name, span, size)), None)
        if carrier is not None:
            taken.add(id(carrier))
            around = functional.get(span.thread)
            found.append((name, carrier, size, around if around is not None and around.end_s >= span.end_s else None))
    return found


def _size_bytes(name: CollectiveName, span: Span) -> float:
    place = _WHOLE_OPERAND.get(name, 0)
    return span.operand_bytes[place] if len(span.operand_bytes) > place else 0.0


def _carries(transfer: Span, name: CollectiveName, enqueued: Span, size_bytes: float) -> bool:
    if transfer.name not in _CARRIERS[name] or transfer.start_s < enqueued.start_s:
        return False
    same_size = not transfer.operand_bytes or transfer.operand_bytes[0] == size_bytes
    return same_size or name == "all_gather"  # whose span names the share of one rank


def _axis(name: CollectiveName, span: Span, functional: Span | None, phase: str | None, whole_axis: Axis) -> Axis:
    if phase == "clip":
        return "all"
    described = span.group.removeprefix(_MESH)
    if span.group.startswith(_MESH) and described in {"data", "tensor", "pipeline"}:
        return described  # type: ignore[return-value]  # one of these three
    if functional is not None:
        return "tensor"
    return "pipeline" if name == "send_recv" or phase == "pipeline" else whole_axis
