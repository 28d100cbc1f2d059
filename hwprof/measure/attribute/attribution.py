"""Where did the wall time of profiled steps go, and to which module, phase and direction does each kernel belong?

On a GPU a kernel belongs to the operator that launched it; on a CPU the operators' own time is the work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hwprof.measure.attribute.communication import calls_of
from hwprof.measure.attribute.graph_calls import CompiledGraph, GraphShares, compiled_note, graph_shares
from hwprof.measure.attribute.pieces import Piece, kernel_times, op_times, split_by_module
from hwprof.measure.attribute.places import HostPlaces, places_of
from hwprof.measure.attribute.window import Window, window_of
from hwprof.spans.collectives import LIBRARY, OPERATOR
from hwprof.spans.columns import NS_PER_S, HostKind, Trace
from hwprof.spans.idle import gaps_of
from hwprof.spans.intervals import Intervals, intersect, join, subtract, union
from hwprof.spans.marks import GRAPH_LAUNCH
from hwprof.spans.nesting import by_name, named, nearest
from hwprof.spans.pieces import Kind, Pieces, Split, cpu_pieces, gpu_pieces, split
from hwprof.specs.job.labels import MODEL_LABEL
from hwprof.specs.record.ranks import Axis, CollectiveCall
from hwprof.specs.record.run import Attribution, KernelTime, OpTime
from hwprof.units import format_fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """What a profiled window says, per step."""

    ops: tuple[OpTime, ...]
    kernels: tuple[KernelTime, ...]
    attribution: Attribution
    calls: tuple[CollectiveCall, ...] = ()


def attribute(
    trace: Trace,
    *,
    device: Literal["cpu", "cuda"],
    steps: int,
    whole_axis: Axis = "data",
    graphs: Sequence[CompiledGraph] = (),
) -> TraceSummary | None:
    """Book every piece of the profiled window of ``steps`` steps; times of the result are per step, those of calls not.

    None where a GPU's trace holds no kernel at all: the profiler was blind, and the step is not idle.

    Args:
        trace: of the recorder.
        device: where the step computes.
        steps: how many steps the window has.
        whole_axis: of several ranks, the axis on which all lie, or "data" where they lie on several.
        graphs: what inductor compiled, of a compiled model.
    """
    window = window_of(trace)
    places = places_of(window)
    kernels = gpu_pieces(trace, places.parent, trace.device.where(window.holds(trace.device)))
    compiled = graph_shares(trace, places, kernels, graphs)
    if device == "cpu":
        operators = (trace.host.kind == HostKind.OPERATOR) & ~compiled.only_calls
        ran = cpu_pieces(trace, places.parent, operators)
        pieces = list(_host_pieces(window, ran, places, compiled))
        parts = split(ran, window.whole)
        attribution = _attribution_cpu(window, ran, parts, pieces, steps)
    elif len(kernels):
        kernels = _within_device(trace, kernels)
        pieces = list(_device_pieces(trace, kernels, places, compiled))
        parts = split(kernels, window.whole)
        attribution = _attribution_cuda(window, kernels, parts, pieces, steps)
    else:
        return None
    return TraceSummary(
        ops=op_times([piece for piece in pieces if not piece.communicates], steps),
        kernels=kernel_times(pieces, steps),
        attribution=attribution,
        calls=calls_of(window, places, kernels, compute=parts.compute, whole_axis=whole_axis),
    )


def host_events(trace: Trace) -> int:
    """How many events the profiler wrote down for operators and annotations inside the window."""
    inside = window_of(trace).holds(trace.host)
    return int((inside & np.isin(trace.host.kind, (HostKind.OPERATOR, HostKind.ANNOTATION))).sum())


def _host_pieces(window: Window, ran: Pieces, places: HostPlaces, compiled: GraphShares) -> Iterator[Piece]:
    """Operators of a CPU by their own time; collectives and what runs in their threads are no work of the step."""
    trace = window.trace
    carried = nearest(places.parent, named(trace, LIBRARY.match)) >= 0
    works = window.holds(trace.host) & ~carried & ~named(trace, OPERATOR.match)
    ran = ran.where(works[ran.host])
    busy_ns = np.bincount(ran.host, weights=ran.end_ns - ran.start_ns)
    for event in np.flatnonzero(busy_ns).tolist():
        piece = Piece(
            name=trace.names[trace.host.name[event]], place=places.of(event), busy_s=busy_ns[event] / NS_PER_S,
            in_graph=False, communicates=False,
        )  # fmt: skip
        yield from split_by_module(piece, compiled.of(event))


def _device_pieces(trace: Trace, kernels: Pieces, places: HostPlaces, compiled: GraphShares) -> Iterator[Piece]:
    """Kernels where the call belongs that launched them."""
    number: dict[int, int] = defaultdict(int)
    columns = (kernels.name, kernels.host, kernels.end_ns - kernels.start_ns, kernels.kind)
    for name, launch, busy_ns, kind in zip(*(column.tolist() for column in columns), strict=True):
        shares = compiled.of_kernel.get((launch, number[launch]), compiled.of(launch))
        number[launch] += 1
        piece = Piece(
            name=trace.names[name],
            place=places.of(launch),
            busy_s=busy_ns / NS_PER_S,
            in_graph=launch >= 0 and GRAPH_LAUNCH in trace.names[trace.host.name[launch]],
            communicates=kind == Kind.COMMUNICATION,
        )
        yield from split_by_module(piece, shares)


def _within_device(trace: Trace, kernels: Pieces) -> Pieces:
    """What a device copies or sets within itself is its own work; copies are those between it and others."""
    leaves = by_name(trace, lambda name: name.startswith("Memcpy") and "DtoD" not in name)[kernels.name]
    return replace(kernels, kind=np.where((kernels.kind == Kind.COPY) & ~leaves, Kind.COMPUTE, kernels.kind))


def _attribution_cpu(window: Window, ran: Pieces, parts: Split, pieces: Sequence[Piece], steps: int) -> Attribution:
    """On a CPU the device is the host: operators compute, and what lies between them is the host's own overhead."""
    loading, copying = window.intervals("data"), window.intervals("host_to_device")
    working = subtract(window.in_phases, join(loading, copying))
    compute_ns = intersect(working, parts.compute).length
    exposed_ns = intersect(working, parts.communication).length
    return _balanced(
        [piece for piece in pieces if piece.place is None or piece.place.label != "data"],
        steps,
        step_ns=window.whole.length,
        compute_ns=compute_ns,
        communication_ns=intersect(working, ran.of(Kind.COMMUNICATION)).length,
        exposed_ns=exposed_ns,
        copy_ns=copying.length,
        late_ns=working.length - compute_ns - exposed_ns,
        dependency_ns=0.0,
        launch_ns=0.0,
        unknown_ns=0.0,
        input_ns=loading.length,
        residue_ns=subtract(window.whole, window.in_phases).length,
        note="CPU: time in torch operators is compute, but for hooks in backward; gloo collectives with no operator "
        "beside them are exposed communication; between operators the host program itself runs" + compiled_note(pieces),
    )


def _attribution_cuda(
    window: Window, kernels: Pieces, parts: Split, pieces: Sequence[Piece], steps: int
) -> Attribution:
    """Idle time has the causes of its gaps; until the host called, it is the phase's that the host was in."""
    gaps = gaps_of(window.trace, kernels, parts.idle)
    waited = _by_phase(window, union(gaps.starts_ns, gaps.until_ns))
    uncalled = gaps.unknown_ns > 0
    unknown = _by_phase(window, union(gaps.starts_ns[uncalled], (gaps.starts_ns + gaps.unknown_ns)[uncalled]))
    return _balanced(
        pieces,
        steps,
        step_ns=window.whole.length,
        compute_ns=parts.compute.length,
        communication_ns=intersect(window.whole, kernels.of(Kind.COMMUNICATION)).length,
        exposed_ns=parts.communication.length,
        copy_ns=parts.copies.length,
        late_ns=waited.hosted_ns,
        dependency_ns=float(gaps.queued_ns.sum()),
        launch_ns=float(gaps.launch_ns.sum() + gaps.call_ns.sum()),
        unknown_ns=unknown.hosted_ns,
        input_ns=waited.loading_ns + unknown.loading_ns,
        residue_ns=waited.outside_ns + unknown.outside_ns,
        note="GPU: union of kernels first, then what of collectives and copies they do not hide, then idle"
        + _uncalled(kernels)
        + _graphs(pieces)
        + compiled_note(pieces),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _ByPhase:
    """How long the host was in the input pipeline, in another phase, and in none."""

    loading_ns: float
    hosted_ns: float
    outside_ns: float


def _by_phase(window: Window, time: Intervals) -> _ByPhase:
    loading = intersect(time, window.intervals("data")).length
    inside = intersect(time, window.in_phases).length
    return _ByPhase(loading_ns=loading, hosted_ns=inside - loading, outside_ns=time.length - inside)


def _uncalled(kernels: Pieces) -> str:
    """How much of the kernels' time has no call in the trace; nothing where each has one."""
    busy_ns = kernels.end_ns - kernels.start_ns
    share = float(busy_ns[kernels.host < 0].sum() / max(busy_ns.sum(), 1))
    if not share:
        return ""
    return (
        f"; for {format_fraction(share)} of the kernels' time the trace has no call (it came before the profiler "
        "began, or was lost), so that it belongs to no operation and counts as unexplained"
    )


def _graphs(pieces: Sequence[Piece]) -> str:
    """What can't be said of kernels that a CUDA graph launched all at once; nothing where there are none."""
    in_graphs_s = sum(piece.busy_s for piece in pieces if piece.in_graph and piece.compiled != "mapped")
    if not in_graphs_s:
        return ""
    share = in_graphs_s / sum(piece.busy_s for piece in pieces)
    return (
        f"; {format_fraction(share)} of the kernels' time is that of CUDA graphs, whose kernels are launched by one "
        "call and belong to where it stands, not to modules"
    )


def _balanced(
    pieces: Iterable[Piece],
    steps: int,
    *,
    step_ns: float,
    compute_ns: float,
    communication_ns: float,
    exposed_ns: float,
    copy_ns: float,
    late_ns: float,
    dependency_ns: float,
    launch_ns: float,
    unknown_ns: float,
    input_ns: float,
    residue_ns: float,
    note: str,
) -> Attribution:
    """The attribution of one of some steps, after checking that the parts add up to them.

    What of the pieces is in no phase, or in the model but in no module of it, is not explained, nor is idle time that
    ends with a piece for which the trace has no call.
    """
    host_ns = late_ns + dependency_ns + launch_ns + unknown_ns
    total_ns = compute_ns + exposed_ns + copy_ns + host_ns + input_ns + residue_ns
    assert total_ns == step_ns, f"parts of {total_ns} ns do not add up to the {step_ns} ns of the window"
    per_step = NS_PER_S * steps
    unplaced = [piece.busy_s for piece in pieces if piece.place is None or piece.place.label == MODEL_LABEL]
    unplaced_s, compute_s, step_s = sum(unplaced) / steps, compute_ns / per_step, step_ns / per_step
    unplaced_s = min(unplaced_s, compute_s)
    return Attribution(
        step_s=step_s,
        compute_s=compute_s,
        communication_s=communication_ns / per_step,
        exposed_communication_s=exposed_ns / per_step,
        exposed_copy_s=copy_ns / per_step,
        idle_host_s=host_ns / per_step,
        idle_input_s=input_ns / per_step,
        late_host_s=late_ns / per_step,
        dependency_s=dependency_ns / per_step,
        other_s=(launch_ns + unknown_ns) / per_step,
        residue_s=residue_ns / per_step,
        explained_fraction=1.0 - ((residue_ns + unknown_ns) / per_step + unplaced_s) / step_s,
        attributed_op_fraction=1.0 - unplaced_s / compute_s if compute_s else 0.0,
        note=note,
    )
