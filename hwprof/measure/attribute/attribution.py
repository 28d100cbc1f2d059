"""To which module, phase and direction does each profiled kernel belong, and where did the step's wall time go?

The recorder marks the window, the phases and the modules as annotations. A forward operator belongs to the innermost
module around it; a backward operator to the module whose forward operator has the same autograd sequence number;
gradient accumulation follows the node before it. On a GPU a kernel belongs to the operator that launched it.
"""

from __future__ import annotations

import bisect
import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from hwprof.measure.attribute import communication
from hwprof.measure.attribute.graph_calls import CompiledGraph, GraphShares, compiled_note, graph_shares
from hwprof.measure.attribute.idle import causes
from hwprof.measure.attribute.pieces import Piece, Place, kernel_times, op_times, split
from hwprof.measure.attribute.trace import Span
from hwprof.specs.intervals import Intervals, intersect, join, of_pairs, subtract
from hwprof.specs.job.labels import (
    COMMUNICATION_LABEL,
    ENGINE,
    MODEL_LABEL,
    PHASE_LABELS,
    label_of,
    runs_hooks,
)
from hwprof.specs.record.ranks import Axis, CollectiveCall
from hwprof.specs.record.run import Attribution, Direction, KernelTime, OpTime, PhaseName

WINDOW = "hwprof:window"
PHASE = "hwprof:phase:"
MODULE = "hwprof:module:"
_UPDATE_PHASES = ("clip", "optimizer")
_DEVICE_CATEGORIES = ("kernel", "gpu_memcpy", "gpu_memset")
_LAUNCH_CATEGORIES = ("cuda_runtime", "cuda_driver")
"""Calls into CUDA. They enclose no operator, though one may seem to by the skew between the two clocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """What a profiled window says, per step."""

    ops: tuple[OpTime, ...]
    kernels: tuple[KernelTime, ...]
    attribution: Attribution
    calls: tuple[CollectiveCall, ...] = ()


@dataclass(frozen=True, slots=True)
class _Phases:
    """The phase annotations of the window, disjoint and in order."""

    starts_s: list[float]
    spans: list[Span]

    def at(self, time_s: float) -> PhaseName | None:
        index = bisect.bisect_right(self.starts_s, time_s) - 1
        if index >= 0 and time_s <= self.spans[index].end_s:
            return cast("PhaseName", self.spans[index].name.removeprefix(PHASE))
        return None

    def intervals(self, *names: str) -> Intervals:
        chosen = [span for span in self.spans if not names or span.name.removeprefix(PHASE) in names]
        return of_pairs((span.start_s, span.end_s) for span in chosen)


def attribute(
    spans: Sequence[Span],
    *,
    device: Literal["cpu", "cuda"],
    steps: int,
    whole_axis: Axis = "data",
    graphs: Sequence[CompiledGraph] = (),
) -> TraceSummary | None:
    """Book every piece of the profiled window of ``steps`` steps; times of the result are per step, those of calls not.

    None where a GPU's trace holds no kernel at all: the profiler was blind, and the step is not idle.

    Args:
        spans: of the trace, ordered by start.
        device: where the step computes.
        steps: how many steps the window has.
        whole_axis: of several ranks, the axis on which all lie, or "data" where they lie on several.
        graphs: what inductor compiled, of a compiled model.
    """
    window = next(span for span in spans if span.name == WINDOW and span.category == "user_annotation")
    inside = [span for span in spans if span.start_s >= window.start_s and span.end_s <= window.end_s]
    phases = _phases(inside)
    places, own_s = _host_walk(inside, phases)
    compiled = graph_shares(inside, places, graphs)
    if device == "cpu":
        pieces = _host_pieces(inside, places, own_s, compiled)
        whole = of_pairs([(window.start_s, window.end_s)])
        compute = intersect(_host_compute(spans, compiled), whole)
        talking = intersect(communication.host_intervals(spans), whole)
        attribution = _attribution_cpu(window, phases, pieces, steps, busy=compute, talking=talking)
    else:
        pieces = _device_pieces(spans, inside, places, compiled)
        if not pieces:
            return None
        compute, attribution = _attribution_cuda(window, phases, pieces, steps)
        inside = [span for span in spans if window.start_s <= span.start_s and span.end_s <= window.end_s]
    working = [piece for piece in pieces if not communication.is_collective_kernel(piece.name)]
    return TraceSummary(
        ops=op_times(working, steps),
        kernels=kernel_times(pieces, steps),
        attribution=attribution,
        calls=communication.calls_of(inside, compute, phase_at=phases.at, whole_axis=whole_axis),
    )


def host_events(spans: Sequence[Span]) -> int:
    """How many events the profiler wrote down for operators and annotations inside the window."""
    window = next(span for span in spans if span.name == WINDOW and span.category == "user_annotation")
    inside = (span for span in spans if window.start_s <= span.start_s and span.end_s <= window.end_s)
    return sum(span.category in ("cpu_op", "user_annotation") for span in inside)


def _phases(spans: Iterable[Span]) -> _Phases:
    marked = [span for span in spans if span.name.startswith(PHASE) and span.category == "user_annotation"]
    return _Phases([span.start_s for span in marked], marked)


def _host_walk(spans: Sequence[Span], phases: _Phases) -> tuple[list[Place | None], list[float]]:
    """Place and own time (without enclosed operators) of every host span."""
    places: list[Place | None] = [None] * len(spans)
    own_s = [span.duration_s for span in spans]
    stacks: dict[int | str, list[int]] = defaultdict(list)
    forward_label: dict[int, str] = {}
    last_label: dict[int | str, str] = {}
    for index, span in enumerate(spans):
        if span.category in _DEVICE_CATEGORIES or span.category.startswith("gpu_"):
            continue
        stack = stacks[span.thread]
        while stack and spans[stack[-1]].end_s <= span.start_s:
            stack.pop()
        parent = places[stack[-1]] if stack else None
        place = _place(span, parent, phases, forward_label, last_label)
        places[index] = place
        if span.category == "cpu_op":
            above = next((at for at in reversed(stack) if spans[at].category == "cpu_op"), None)
            if above is not None:
                own_s[above] -= span.duration_s
            # Sequence numbers count up in each thread by itself, and recompute on a GPU runs in the thread of backward:
            # its numbers would stand for other operators here. The nodes that backward runs are those of forward.
            # A collective makes no node, and carries the number of the next one that is made.
            talks = place is not None and place.label == COMMUNICATION_LABEL and span.sequence in forward_label
            if place and place.direction == "forward" and span.sequence is not None and not talks:
                forward_label[span.sequence] = place.label
        if span.category not in _LAUNCH_CATEGORIES and communication.encloses(span):
            stack.append(index)
    return places, own_s


def _place(
    span: Span,
    parent: Place | None,
    phases: _Phases,
    forward_label: dict[int, str],
    last_label: dict[int | str, str],
) -> Place | None:
    phase = phases.at(span.start_s)
    if phase is None:
        return None
    if _communicates(span):
        return Place(COMMUNICATION_LABEL, phase, _direction(phase))
    if span.name.startswith(MODULE):
        label = label_of(span.name.removeprefix(MODULE))
        return Place(label, phase, "recompute" if phase == "backward" else "forward")
    if span.category == "cpu_op" and span.name.startswith(ENGINE):
        if span.in_backward and span.sequence is not None and span.sequence in forward_label:
            last_label[span.thread] = forward_label[span.sequence]
        label = last_label.get(span.thread, MODEL_LABEL)
        return Place(label, phase, "backward")
    if parent is not None and parent.phase == phase:
        return parent
    return Place(PHASE_LABELS[phase], phase, _direction(phase))


def _communicates(span: Span) -> bool:
    packing = span.name.startswith(communication.PACKING)
    return packing or communication.is_operator(span) or communication.is_transfer(span)


def _host_pieces(
    spans: Sequence[Span], places: Sequence[Place | None], own_s: Sequence[float], compiled: GraphShares
) -> list[Piece]:
    """Operators of a CPU by their own time; collectives and what runs in their threads are no work of the step."""
    carriers = _carriers(spans)
    return [
        piece
        for index, (span, place, own) in enumerate(zip(spans, places, own_s, strict=True))
        if own > 0 and _computes(span, carriers) and not compiled.only_calls(span)
        for piece in split(Piece(span.name, place, span.start_s, span.end_s, own), compiled.of_span.get(index))
    ]


def _carriers(spans: Sequence[Span]) -> set[int | str]:
    """The threads of gloo's own."""
    return {span.thread for span in spans if communication.is_transfer(span) and communication.encloses(span)}


def _computes(span: Span, carriers: set[int | str]) -> bool:
    """Whether a span is an operator that computes on a CPU by itself, not only through those that it calls."""
    works = span.category == "cpu_op" and span.thread not in carriers
    return works and not communication.is_operator(span) and not runs_hooks(span.name)


def _host_compute(spans: Sequence[Span], compiled: GraphShares) -> Intervals:
    """When a CPU computed: in operators on some thread, but not in those that start collectives or wait for them.

    The autograd engine around an operator is none either: hooks run there, and may wait.
    """
    operators: dict[int | str, list[tuple[float, float]]] = defaultdict(list)
    talks: dict[int | str, list[tuple[float, float]]] = defaultdict(list)
    carriers = _carriers(spans)
    for span in spans:
        if communication.is_operator(span):
            talks[span.thread].append((span.start_s, span.end_s))
        elif _computes(span, carriers) and not compiled.only_calls(span):
            operators[span.thread].append((span.start_s, span.end_s))
    busy = [subtract(of_pairs(operators[thread]), of_pairs(talks[thread])) for thread in operators]
    return functools.reduce(join, busy, of_pairs(()))


def _direction(phase: PhaseName) -> Direction:
    if phase in _UPDATE_PHASES:
        return "update"
    return "backward" if phase == "backward" else "forward"


def _device_pieces(
    spans: Sequence[Span], inside: Sequence[Span], places: Sequence[Place | None], compiled: GraphShares
) -> list[Piece]:
    launches = {span.correlation: index for index, span in enumerate(inside) if span.category in _LAUNCH_CATEGORIES}
    calls = {span.correlation: span for span in spans if span.category in _LAUNCH_CATEGORIES}
    kernels_of: dict[int | None, int] = defaultdict(int)
    pieces: list[Piece] = []
    for span in inside:
        if span.category not in _DEVICE_CATEGORIES:
            continue
        launch, call = launches.get(span.correlation), calls.get(span.correlation)
        at = kernels_of[span.correlation]
        kernels_of[span.correlation] += 1
        piece = Piece(
            span.name,
            None if launch is None else places[launch],
            span.start_s,
            span.end_s,
            span.duration_s,
            None if call is None else call.start_s,
            call is not None and "GraphLaunch" in call.name,
        )
        shares = None if launch is None else compiled.of_span.get(launch)
        pieces += split(piece, compiled.of_kernel.get((span.correlation, at), shares))
    return pieces


def _is_host_copy(name: str) -> bool:
    return name.startswith("Memcpy") and "DtoD" not in name


def _unplaced_s(pieces: Iterable[Piece]) -> float:
    """Time of pieces that belong to no phase, or to the model but to no module of it."""
    return sum(piece.busy_s for piece in pieces if piece.place is None or piece.place.label == MODEL_LABEL)


def _attribution_cpu(
    window: Span, phases: _Phases, pieces: Sequence[Piece], steps: int, *, busy: Intervals, talking: Intervals
) -> Attribution:
    """On a CPU the device is the host: operators compute, and what lies between them is the host's own overhead."""
    input_wait = phases.intervals("data")
    copy = phases.intervals("host_to_device")
    working = subtract(phases.intervals(), join(input_wait, copy))
    compute_s = intersect(working, busy).length
    exposed_s = intersect(working, subtract(talking, busy)).length
    talking_s = intersect(working, talking).length
    outside = subtract(of_pairs([(window.start_s, window.end_s)]), phases.intervals())
    model_pieces = [piece for piece in pieces if piece.place is None or piece.place.label != "data"]
    return _balanced(
        step_s=window.duration_s / steps,
        compute_s=compute_s / steps,
        communication_s=talking_s / steps,
        exposed_s=exposed_s / steps,
        copy_s=copy.length / steps,
        host_s=(working.length - compute_s - exposed_s) / steps,
        input_s=input_wait.length / steps,
        residue_s=outside.length / steps,
        unplaced_s=_unplaced_s(model_pieces) / steps,
        note="CPU: time in torch operators is compute, but for hooks in backward; gloo collectives with no operator "
        "beside them are exposed communication; between operators the host program itself runs" + compiled_note(pieces),
    )


def _attribution_cuda(
    window: Span, phases: _Phases, pieces: Sequence[Piece], steps: int
) -> tuple[Intervals, Attribution]:
    """When the device computed, and the attribution."""
    whole = of_pairs([(window.start_s, window.end_s)])
    collective = [piece for piece in pieces if communication.is_collective_kernel(piece.name)]
    copies = [piece for piece in pieces if _is_host_copy(piece.name)]
    special = {id(piece) for piece in (*collective, *copies)}
    compute = intersect(whole, of_pairs((p.start_s, p.end_s) for p in pieces if id(p) not in special))
    talking = intersect(whole, of_pairs((p.start_s, p.end_s) for p in collective))
    exposed = subtract(talking, compute)
    busy = join(compute, exposed)
    copying = subtract(intersect(whole, of_pairs((p.start_s, p.end_s) for p in copies)), busy)
    idle = subtract(whole, join(busy, copying))
    waiting = intersect(idle, phases.intervals("data"))
    hosted = subtract(intersect(idle, phases.intervals()), waiting)
    why = causes(hosted, sorted(((piece.start_s, piece.called_s) for piece in pieces), key=lambda start: start[0]))
    late_s, dependency_s, other_s = (part.length / steps for part in (why.host, why.dependency, why.other))
    parts_s = [part.length / steps for part in (compute, exposed, copying, hosted, waiting)]
    idle_s = idle.length / steps
    return compute, _balanced(
        step_s=window.duration_s / steps,
        compute_s=parts_s[0],
        communication_s=talking.length / steps,
        exposed_s=parts_s[1],
        copy_s=parts_s[2],
        host_s=parts_s[3],
        input_s=parts_s[4],
        residue_s=idle_s - parts_s[3] - parts_s[4],
        unplaced_s=_unplaced_s(pieces) / steps,
        split_s=(late_s, dependency_s, other_s),
        note="GPU: union of kernels first, then what of collectives and copies they do not hide, then idle"
        + _graphs(pieces)
        + compiled_note(pieces),
    )


def _graphs(pieces: Sequence[Piece]) -> str:
    """What can't be said of kernels that a CUDA graph launched all at once; nothing where there are none."""
    in_graphs_s = sum(piece.busy_s for piece in pieces if piece.in_graph and piece.compiled != "mapped")
    if not in_graphs_s:
        return ""
    share = in_graphs_s / sum(piece.busy_s for piece in pieces)
    return (
        f"; {share:.0%} of the kernels' time is that of CUDA graphs, whose kernels are launched by one call and belong "
        "to where it stands, not to modules"
    )


def _balanced(
    *,
    step_s: float,
    compute_s: float,
    communication_s: float,
    exposed_s: float,
    copy_s: float,
    host_s: float,
    input_s: float,
    residue_s: float,
    unplaced_s: float,
    note: str,
    split_s: tuple[float, float, float] | None = None,
) -> Attribution:
    """The attribution, after checking that its parts add up to the step, and the causes of idle time to that.

    ``split_s`` is idle time by cause (host, dependency, other); None where all of it is the host's.
    """
    late_s, dependency_s, other_s = (host_s, 0.0, 0.0) if split_s is None else split_s
    causes_s = late_s + dependency_s + other_s
    assert abs(causes_s - host_s) <= 1e-6 * step_s + 1e-9, f"causes {causes_s} s do not add up to idle {host_s} s"
    total_s = compute_s + exposed_s + copy_s + host_s + input_s + residue_s
    assert abs(total_s - step_s) <= 1e-6 * step_s + 1e-9, f"parts {total_s} s do not add up to the step {step_s} s"
    unplaced_s = min(unplaced_s, compute_s)
    return Attribution(
        step_s=step_s,
        compute_s=compute_s,
        communication_s=communication_s,
        exposed_communication_s=exposed_s,
        exposed_copy_s=copy_s,
        idle_host_s=host_s,
        idle_input_s=input_s,
        late_host_s=late_s,
        dependency_s=dependency_s,
        other_s=other_s,
        residue_s=residue_s,
        explained_fraction=1.0 - (residue_s + unplaced_s) / step_s,
        attributed_op_fraction=1.0 - unplaced_s / compute_s if compute_s else 0.0,
        note=note,
    )
