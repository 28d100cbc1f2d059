"""When did ranks talk to each other, about how much, and along which axis? Read from a trace, of NCCL or gloo.

On a GPU a collective is a kernel, which carries its name, its sizes and its group, or else has them from the call that
it was launched in. On a CPU it is a span of one of gloo's own threads (for messages: of the thread that sent it),
enqueued by a ``c10d`` operator that knows the sizes. Its phase is that in which the program asked for it: a device runs
it later, when the program may be in another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hwprof.measure.attribute.places import HostPlaces
from hwprof.measure.attribute.window import PHASES, Window
from hwprof.spans.arguments import collective_bytes, recorded, tensor_bytes
from hwprof.spans.collectives import ISSUES, collective_named
from hwprof.spans.columns import NS_PER_S, HostKind, Trace
from hwprof.spans.intervals import Intervals
from hwprof.spans.nesting import Mask, at, named, nearest
from hwprof.spans.pieces import Kind, Pieces
from hwprof.specs.record.collective import CollectiveName
from hwprof.specs.record.ranks import Axis, CollectiveCall

_FUNCTIONAL = "_c10d_functional::"
"""Collectives of DTensor, which tensor parallelism is made of."""
_SENDS = re.compile(r"(^|:)i?send\b")
"""A message that is sent, in the words of NCCL's annotation or of the operator."""
_MESH = "mesh_"
"""How torch describes the groups of a device mesh: this, and the name of the axis."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One collective: ``group`` as its kernel describes it, ``functional`` where DTensor asked for it.

    ``asked`` is the event that asked for it; -1 if the trace has none.
    """

    name: CollectiveName
    asked: int
    start_ns: int
    end_ns: int
    size_bytes: float
    group: str = ""
    functional: bool = False


def calls_of(
    window: Window, places: HostPlaces, kernels: Pieces, *, compute: Intervals, whole_axis: Axis
) -> tuple[CollectiveCall, ...]:
    """The collectives of the profiled window.

    Args:
        window: of the trace.
        places: where the events of the host belong.
        kernels: that a GPU ran in the window.
        compute: when the device computed.
        whole_axis: the axis on which all ranks lie, or "data" where they lie on several.
    """
    trace = window.trace
    calls = [
        call
        for call in (*_of_kernels(trace, places, kernels), *_of_gloo(window, places))
        if call.end_ns > call.start_ns
    ]
    starts_ns = np.array([call.start_ns for call in calls], dtype=np.int64)
    ends_ns = np.array([call.end_ns for call in calls], dtype=np.int64)
    exposed_s = (ends_ns - starts_ns - compute.within(starts_ns, ends_ns)) / NS_PER_S
    asked = np.array([call.asked for call in calls], dtype=np.int32)
    of_moment = np.where(asked < 0, window.phases_at(starts_ns), at(places.phase, asked))
    phases = ["" if phase < 0 else PHASES[phase] for phase in of_moment]
    return tuple(
        CollectiveCall(
            collective=call.name,
            axis=_axis(call, phase, whole_axis),
            size_bytes=call.size_bytes,
            start_s=(trace.origin_ns + call.start_ns) / NS_PER_S,
            end_s=(trace.origin_ns + call.end_ns) / NS_PER_S,
            exposed_s=exposed,
            phase=phase,
        )
        for call, phase, exposed in zip(calls, phases, exposed_s.tolist(), strict=True)
    )


def _of_kernels(trace: Trace, places: HostPlaces, kernels: Pieces) -> Iterator[_Call]:
    """Those of a GPU, by their own words; without them by their names, and by what stands around their launch."""
    chosen = kernels.where(kernels.kind == Kind.COMMUNICATION)
    around = at(nearest(places.parent, named(trace, ISSUES.search)), chosen.host)
    operator = at(nearest(places.parent, named(trace, collective_named)), chosen.host)
    functional = at(nearest(places.parent, _functional(trace)), chosen.host) >= 0
    columns = (
        chosen.name,
        chosen.collective,
        chosen.host,
        around,
        operator,
        functional,
        chosen.start_ns,
        chosen.end_ns,
    )
    for kernel, place, launch, issue, asked, of_tensor, start_ns, end_ns in zip(
        *(one.tolist() for one in columns), strict=True
    ):
        said = trace.collectives[place] if place >= 0 else None
        texts = (said.name if said else "", trace.names[kernel], *_names_at(trace, issue, asked))
        if said and said.name.lower() == "send":
            continue  # it counts where it is received
        spoken = (name for text in texts if (name := collective_named(text)))
        name = next(spoken, _unspoken(trace.names[kernel], texts))
        if name is not None:
            sizes = collective_bytes(said) if said else (0.0, 0.0)
            size = sizes[1] if name == "all_gather" else sizes[0]
            group = said.description if said else ""
            yield _Call(
                name=name,
                asked=launch,
                start_ns=start_ns,
                end_ns=end_ns,
                size_bytes=size,
                group=group,
                functional=of_tensor,
            )


def _names_at(trace: Trace, *events: int) -> tuple[str, ...]:
    return tuple(trace.names[trace.host.name[event]] for event in events if event >= 0)


def _unspoken(kernel: str, texts: Sequence[str]) -> CollectiveName | None:
    """Messages, of which nothing says that they are sent only: NCCL's kernel of them, or one of several at once."""
    sends = any(_SENDS.search(text) for text in texts)
    messages = "sendrecv" in kernel.lower() or any("coalesced" in text.lower() for text in texts)
    return "send_recv" if messages and not sends else None


def _of_gloo(window: Window, places: HostPlaces) -> Iterator[_Call]:
    """Each operator that enqueues a collective with the span in which gloo ran it: the first of its size after it."""
    trace, host = window.trace, window.trace.host
    inside = window.holds(host)
    functional = nearest(places.parent, _functional(trace))
    waiting = _in_time(trace, inside & named(trace, lambda name: name.startswith("gloo:")))
    operators = inside & (host.kind == HostKind.OPERATOR) & named(trace, lambda name: name.startswith("c10d::"))
    for event in _in_time(trace, operators):
        name = collective_named(trace.names[host.name[event]])
        if name is None:
            continue
        sizes = _operand_bytes(trace, event)
        whole = _WHOLE_OPERAND.get(name, 0)
        size = sizes[whole] if len(sizes) > whole else 0.0
        carrier = next((one for one in waiting if _carries(trace, one, name, event, size)), None)
        if carrier is not None:
            waiting.remove(carrier)
            yield _Call(
                name=name,
                asked=event,
                start_ns=int(host.start_ns[carrier]),
                end_ns=int(host.end_ns[carrier]),
                size_bytes=size,
                functional=bool(functional[event] >= 0),
            )


def _functional(trace: Trace) -> Mask:
    return named(trace, lambda name: name.startswith(_FUNCTIONAL))


def _in_time(trace: Trace, chosen: Mask) -> list[int]:
    """Places of host events, in order of their starts."""
    places = np.flatnonzero(chosen)
    return list(places[np.argsort(trace.host.start_ns[places], kind="stable")].tolist())


def _operand_bytes(trace: Trace, event: int) -> tuple[float, ...]:
    shape = int(trace.host.shape[event])
    arguments = recorded(trace.shapes[shape]) if shape >= 0 else None
    return tensor_bytes(arguments) if arguments else ()


def _carries(trace: Trace, transfer: int, name: CollectiveName, enqueued: int, size_bytes: float) -> bool:
    host = trace.host
    if trace.names[host.name[transfer]] not in _CARRIERS[name] or host.start_ns[transfer] < host.start_ns[enqueued]:
        return False
    sizes = _operand_bytes(trace, transfer)
    return not sizes or sizes[0] == size_bytes or name == "all_gather"  # whose span names the share of one rank


def _axis(call: _Call, phase: str, whole_axis: Axis) -> Axis:
    described = call.group.removeprefix(_MESH)
    if call.group.startswith(_MESH) and described in {"data", "tensor", "pipeline"}:
        return described  # type: ignore[return-value]  # one of these three
    if call.functional:
        return "tensor"
    if phase == "clip":
        return "all"
    return "pipeline" if call.name == "send_recv" or phase == "pipeline" else whole_axis
