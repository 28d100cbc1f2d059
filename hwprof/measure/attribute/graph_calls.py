"""Which modules does a call inside a compiled graph come from? The order of its kernels, met with that of the trace.

Inductor says, in order, what each graph calls: kernels that it made, which may join operations of several modules, and
operators that it left as they are. A trace has the same calls by name, in the same order, inside the graph's span; so
the first ``mm`` of the one is the first ``mm`` of the other. A CUDA graph is one call on the host: there, the kernels
that it launches are met with the list, and what lies between two known names is told apart where the numbers agree.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hwprof.measure.attribute.pieces import Piece, Place, Share
from hwprof.measure.attribute.trace import Span
from hwprof.specs.job.labels import MODEL_LABEL, label_of

GRAPH = "## Call CompiledFxGraph"
"""How a trace calls the run of one compiled graph."""

_WRAPPERS = ("CompiledFunction", "Torch-Compiled Region", "TorchDynamo Cache Lookup", "AOTDispatcher", "Pregraph")
"""What torch runs around a compiled graph: Python, no computation."""

_MADE = re.compile(r"^(?:graph_\d+_)?((?:cpp|triton)_\w+)$")
_LAUNCHES = ("cuda_runtime", "cuda_driver")


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
        return bool(_MADE.match(self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledGraph:
    """What one graph calls, in order."""

    calls: tuple[GraphCall, ...]


@dataclass(slots=True)
class _Run:
    """One run of a compiled graph in a trace: its direct calls, and which spans lie inside each."""

    index: int
    children: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphShares:
    """What was found out about the spans of a trace.

    Attributes:
        of_span: index of a span -> the labels that its time belongs to; none where it can't be told.
        of_kernel: (correlation, place among its kernels) of a CUDA graph -> the same.
        runs: (thread, start) of the runs of graphs whose calls are known; by themselves they only run Python.
    """

    of_span: Mapping[int, tuple[Share, ...]]
    of_kernel: Mapping[tuple[int | None, int], tuple[Share, ...]]
    runs: frozenset[tuple[int | str, float]]

    def only_calls(self, span: Span) -> bool:
        """Whether a span is the Python around the kernels of a compiled graph."""
        return bool(self.runs) and (span.name.startswith(_WRAPPERS) or (span.thread, span.start_s) in self.runs)


NOTHING_COMPILED = GraphShares(of_span={}, of_kernel={}, runs=frozenset())


def graph_shares(spans: Sequence[Span], places: Sequence[Place | None], graphs: Sequence[CompiledGraph]) -> GraphShares:
    """Book what runs inside compiled graphs to modules.

    Args:
        spans: of the trace, ordered by start.
        places: where each of them belongs as a whole.
        graphs: all that was compiled.
    """
    if not graphs:
        return NOTHING_COMPILED
    runs, inside = _runs(spans)
    kernels = _kernels_by_call(spans)
    of_span: dict[int, tuple[Share, ...]] = {}
    of_kernel: dict[tuple[int | None, int], tuple[Share, ...]] = {}
    known: set[tuple[int | str, float]] = set()
    for run in runs:
        place = places[run.index]
        names = [_called(spans[child], kernels) for child in run.children]
        launched = [child for child in run.children if "GraphLaunch" in spans[child].name]
        if launched:
            correlation = spans[launched[-1]].correlation
            met = _best(kernels[correlation], graphs, _meet_kernels)
            of_kernel |= {(correlation, at): _labelled(call, place) for at, call in enumerate(met)}
            continue
        met = _best(names, graphs, _meet)
        if any(met):
            known.add((spans[run.index].thread, spans[run.index].start_s))
        for child, call in zip(run.children, met, strict=True):
            of_span[child] = _labelled(call, place)
            of_span |= dict.fromkeys(inside[child], of_span[child])
    return GraphShares(of_span=of_span, of_kernel=of_kernel, runs=frozenset(known))


def _runs(spans: Sequence[Span]) -> tuple[list[_Run], Mapping[int, list[int]]]:
    """Runs of compiled graphs, and the spans inside each of their direct calls."""
    runs: list[_Run] = []
    inside: dict[int, list[int]] = defaultdict(list)
    open_runs: dict[int | str, _Run] = {}
    for index, span in enumerate(spans):
        begins = span.name.startswith(GRAPH) and span.category in ("cpu_op", "user_annotation")  # torch writes either
        if not begins and span.category != "cpu_op" and span.category not in _LAUNCHES:
            continue
        run = open_runs.get(span.thread)
        if run is not None and span.start_s >= spans[run.index].end_s:
            run = open_runs.pop(span.thread) and None
        if begins:
            runs.append(_Run(index))
            open_runs[span.thread] = runs[-1]
        elif run is not None and run.children and span.start_s < spans[run.children[-1]].end_s:
            inside[run.children[-1]].append(index)
        elif run is not None:
            run.children.append(index)
    return runs, inside


def _kernels_by_call(spans: Iterable[Span]) -> Mapping[int | None, list[str]]:
    """Names of the kernels of each launch, in order of their start."""
    names: dict[int | None, list[str]] = defaultdict(list)
    for span in spans:
        if span.category == "kernel" or span.category in ("gpu_memcpy", "gpu_memset"):
            names[span.correlation].append(span.name)
    return names


def _called(span: Span, kernels: Mapping[int | None, list[str]]) -> str:
    """What a direct call of a graph is called in inductor's list."""
    name = span.name
    if span.category in _LAUNCHES:
        name = next(iter(kernels.get(span.correlation, ())), "")
    made = _MADE.match(name)
    return made[1] if made else name.rpartition("::")[2]


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
        each[0] if all(_alike(each[0], other) for other in each) else None for each in zip(*equal, strict=True)
    )


def _alike(one: GraphCall | None, other: GraphCall | None) -> bool:
    """Whether two calls belong to the same labels."""
    return _labels(one) == _labels(other)


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
    anchored = _meet([name if _MADE.match(name) else "" for name in names], [call for call in calls if call.made])
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
    return (
        f"; compiled: {mapped_s / total_s:.1%} of the time of compiled graphs' kernels is booked to modules, by "
        f"inductor's own list of what each computes; {fused_s / total_s:.1%} is that of kernels that span several "
        "modules, split by the elements that the operations of each compute; the rest is in no module's forward, or "
        "not on the list"
    )
