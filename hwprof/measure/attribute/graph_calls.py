"""Which modules does a call inside a compiled graph come from? The order of its kernels, met with that of the trace.

Inductor says, in order, what each graph calls: kernels that it made, which may join operations of several modules, and
operators that it left as they are. A trace has the same calls by name, in the same order, inside the graph's span; so
the first ``mm`` of the one is the first ``mm`` of the other. A CUDA graph is one call on the host: there, the kernels
that it launches are met with the list, and what lies between two known names is told apart where the numbers agree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hwprof.measure.attribute.pieces import Piece, Share
from hwprof.measure.attribute.places import HostPlaces, Place
from hwprof.spans.columns import HostKind, Trace
from hwprof.spans.marks import GRAPH_LAUNCH, made_kernel
from hwprof.spans.nesting import Mask, Places, at, named, nearest
from hwprof.spans.pieces import Pieces
from hwprof.specs.job.labels import MODEL_LABEL, label_of
from hwprof.units import format_fraction

GRAPH = "## Call CompiledFxGraph"
"""How a trace calls the run of one compiled graph."""

_WRAPPERS = ("CompiledFunction", "Torch-Compiled Region", "TorchDynamo Cache Lookup", "AOTDispatcher", "Pregraph")
"""What torch runs around a compiled graph: Python, no computation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCall:
    """One call of a compiled graph.

    Attributes:
        name: of the kernel that inductor made, or of the operator, without namespace and overload.
        shares: path of each module whose operations it computes -> the share of its work; empty where no operation
            in it belongs to a module.
    """

    name: str
    shares: Mapping[str, float]

    @property
    def made(self) -> bool:
        """Whether inductor made this kernel."""
        return bool(made_kernel(self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledGraph:
    """What one graph calls, in order."""

    calls: tuple[GraphCall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphShares:
    """What was found out about the events of a trace.

    Attributes:
        of_event: for each host event the shares that its time belongs to, a place in ``shares``; -1 for one that is in
            no compiled graph.
        shares: by label; none where it can't be told.
        of_kernel: (launch, place among its kernels) of a CUDA graph -> shares.
        only_calls: the Python around the kernels of graphs whose calls are known.
    """

    of_event: Places
    shares: Sequence[tuple[Share, ...]]
    of_kernel: Mapping[tuple[int, int], tuple[Share, ...]]
    only_calls: Mask

    def of(self, event: int) -> tuple[Share, ...] | None:
        """The shares of a host event; None where it is in no compiled graph, or is none (-1)."""
        return None if event < 0 or self.of_event[event] < 0 else self.shares[self.of_event[event]]


def graph_shares(trace: Trace, places: HostPlaces, kernels: Pieces, graphs: Sequence[CompiledGraph]) -> GraphShares:
    """Book what runs inside compiled graphs to modules.

    Args:
        trace: what was recorded.
        places: where each host event belongs as a whole.
        kernels: of the window.
        graphs: all that was compiled.
    """
    none = np.full(len(trace.host), -1, dtype=np.int32)
    calls, inside = _calls_by_run(trace, places) if graphs else ({}, none)
    launched = _kernels_by_launch(trace, kernels)
    shares: list[tuple[Share, ...]] = []
    of_call = none.copy()
    of_kernel: dict[tuple[int, int], tuple[Share, ...]] = {}
    known = np.zeros(len(trace.host), dtype=np.bool_)
    for run, run_calls in calls.items():
        place = places.of(run)
        launches = [call for call in run_calls if GRAPH_LAUNCH in trace.names[trace.host.name[call]]]
        if launches:
            met = _best(launched[launches[-1]], graphs, _meet_kernels)
            of_kernel |= {(launches[-1], number): _labelled(call, place) for number, call in enumerate(met)}
            continue
        met = _best([_called(trace, call, launched) for call in run_calls], graphs, _meet)
        known[run] = any(met)
        of_call[run_calls] = np.arange(len(shares), len(shares) + len(met))
        shares += [_labelled(call, place) for call in met]
    wraps = named(trace, lambda name: name.startswith(_WRAPPERS)) & known.any()
    return GraphShares(of_event=at(of_call, inside), shares=shares, of_kernel=of_kernel, only_calls=known | wraps)


def _calls_by_run(trace: Trace, places: HostPlaces) -> tuple[Mapping[int, list[int]], Places]:
    """The direct calls of each run of a compiled graph, in order, and for each event the direct call that it is in."""
    kind = trace.host.kind
    runs = named(trace, lambda name: name.startswith(GRAPH)) & (places.phase >= 0)
    calls = ((kind == HostKind.OPERATOR) | (kind == HostKind.RUNTIME)) & ~runs
    above = at(nearest(places.parent, runs | calls), places.parent)
    direct = calls & (above >= 0) & runs[above]
    by_run: dict[int, list[int]] = defaultdict(list)
    for call in np.flatnonzero(direct).tolist():
        by_run[int(above[call])].append(call)
    return by_run, nearest(places.parent, direct)


def _kernels_by_launch(trace: Trace, kernels: Pieces) -> Mapping[int, list[str]]:
    """Names of the kernels of each launch, in order of their start."""
    names: dict[int, list[str]] = defaultdict(list)
    for launch, name in zip(kernels.host.tolist(), kernels.name.tolist(), strict=True):
        names[launch].append(trace.names[name])
    return names


def _called(trace: Trace, call: int, launched: Mapping[int, list[str]]) -> str:
    """What a direct call of a graph is called in inductor's list."""
    name = trace.names[trace.host.name[call]]
    if trace.host.kind[call] == HostKind.RUNTIME:
        name = next(iter(launched.get(call, ())), "")
    return made_kernel(name) or name.rpartition("::")[2]


Met = tuple[GraphCall | None, ...]


def _best(
    names: Sequence[str], graphs: Sequence[CompiledGraph], meet: Callable[[Sequence[str], Sequence[GraphCall]], Met]
) -> Met:
    """The calls of the graph that agrees best with the names; of two that agree equally, only what they say alike."""
    found: dict[tuple[int, int], list[Met]] = defaultdict(list)
    for graph in graphs:
        met = meet(names, graph.calls)
        seen = {id(call) for call in met if call is not None}
        found[len(seen), -len(graph.calls)].append(met)
    if not found:
        return (None,) * len(names)
    equal = found[max(found)]
    return tuple(
        each[0] if all(_labels(each[0]) == _labels(other) for other in each) else None
        for each in zip(*equal, strict=True)
    )


def _labels(call: GraphCall | None) -> Mapping[str, float]:
    return {} if call is None else _by_label(call.shares)


def _by_label(shares: Mapping[str, float]) -> dict[str, float]:
    labels: dict[str, float] = defaultdict(float)
    for path, share in shares.items():
        labels[label_of(path) if path else MODEL_LABEL] += share
    return dict(labels)


def _meet(names: Sequence[str], calls: Sequence[GraphCall]) -> Met:
    """The call that each name is, in order; None for what the graph does not list."""
    met: list[GraphCall | None] = []
    at = 0
    for name in names:
        place = next((index for index in range(at, len(calls)) if calls[index].name == name), None)
        met.append(None if place is None else calls[place])
        at = at if place is None else place + 1
    return tuple(met)


def _meet_kernels(names: Sequence[str], calls: Sequence[GraphCall]) -> Met:
    """The same for kernels of a CUDA graph: made ones by name, those between them by number."""
    anchored = _meet([name if made_kernel(name) else "" for name in names], [call for call in calls if call.made])
    met = list(anchored)
    place_of = {id(call): index for index, call in enumerate(calls)}
    known = [(-1, -1)] + [(at, place_of[id(call)]) for at, call in enumerate(anchored) if call is not None]
    for (first, before), (last, after) in zip(known, [*known[1:], (len(names), len(calls))], strict=True):
        between = calls[before + 1 : after]
        kernels = range(first + 1, last)
        if any(call.made for call in between):
            continue
        if len(between) == 1 or len(between) == len(kernels):
            for at, kernel in enumerate(kernels):
                met[kernel] = between[min(at, len(between) - 1)]
    return tuple(met)


def _labelled(call: GraphCall | None, place: Place | None) -> tuple[Share, ...]:
    """The labels of a call; those of a compiled part that is annotated itself stay inside it."""
    if call is None or place is None:
        return ()
    labels = _by_label(call.shares)
    around = place.label
    if around != MODEL_LABEL and not all(label == around or label.startswith(around + ".") for label in labels):
        return ()
    return tuple(Share(label, share) for label, share in sorted(labels.items(), key=lambda item: -item[1]))


def compiled_note(pieces: Iterable[Piece]) -> str:
    """How much of the time of compiled graphs' kernels is booked to modules; nothing where there are none."""
    total_s = mapped_s = fused_s = 0.0
    for piece in pieces:
        if piece.compiled:
            total_s += piece.busy_s
            mapped_s += piece.busy_s if piece.compiled == "mapped" else 0.0
            fused_s += piece.busy_s if piece.fused else 0.0
    if not total_s:
        return ""
    mapped, fused = format_fraction(mapped_s / total_s), format_fraction(fused_s / total_s)
    return (
        f"; compiled: {mapped} of the time of compiled graphs' kernels is booked to modules, by inductor's own list of "
        f"what each computes; {fused} is that of kernels that span several modules, split by the elements that the "
        "operations of each compute; the rest is in no module's forward, or not on the list"
    )
