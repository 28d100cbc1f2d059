"""Which steps does a trace hold, and when did the device work on each?"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from hwprof.errors import InputError
from hwprof.spans.columns import NS, HostKind, Ints, Trace
from hwprof.spans.intervals import Intervals
from hwprof.spans.marks import OPTIMIZER, WINDOW
from hwprof.spans.nesting import Mask, Places, named
from hwprof.spans.pieces import Pieces
from hwprof.units import format_seconds

_PROFILER_STEP = re.compile(r"ProfilerStep\s*#\s*(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which of a trace's steps are analysed.

    Attributes:
        first, last: numbers of steps, both included; None for no limit.
        warmup: how many steps are left out at the beginning.
        annotation: name of the annotations that are the steps, with ``*`` for any text; empty for the usual marks.
    """

    first: int | None = None
    last: int | None = None
    warmup: int = 0
    annotation: str = ""


ALL = Chosen()


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Steps in order; ``basis`` says how they were found.

    Attributes:
        names, numbers: of each step, as the program counts them.
        starts_ns, ends_ns: of each.
        joined: whether a step lasts until the next one begins.
    """

    names: tuple[str, ...]
    numbers: Ints
    starts_ns: Ints
    ends_ns: Ints
    basis: str
    joined: bool = True

    @property
    def spans(self) -> Intervals:
        """The windows as intervals; neighbours may touch."""
        return Intervals(self.starts_ns, self.ends_ns)

    def where(self, kept: Mask) -> Windows:
        """Only some of the steps."""
        names = tuple(name for name, keep in zip(self.names, kept.tolist(), strict=True) if keep)
        return replace(
            self,
            names=names,
            numbers=self.numbers[kept],
            starts_ns=self.starts_ns[kept],
            ends_ns=self.ends_ns[kept],
        )


def host_steps(trace: Trace, wanted: Chosen = ALL) -> Windows | None:
    """The steps as the host ran them; None where nothing in the trace marks one.

    Raises:
        InputError: the trace has no annotation of the wanted name.
    """
    if wanted.annotation:
        return _annotated(trace, wanted.annotation)
    return _profiler_steps(trace) or _optimizer_steps(trace)


def wanted_steps(windows: Windows, wanted: Chosen) -> Mask:
    """Which steps are wanted.

    Raises:
        InputError: none is.
    """
    kept = np.arange(len(windows.names)) >= wanted.warmup
    if wanted.first is not None:
        kept &= windows.numbers >= wanted.first
    if wanted.last is not None:
        kept &= windows.numbers <= wanted.last
    if not kept.any():
        raise InputError(
            f"none of the {len(windows.names)} steps of the trace is wanted",
            expectation=f"it has {windows.names[0]} to {windows.names[-1]}",
            remedy="choose among these with --steps, and leave out fewer with --warmup",
        )
    return kept


def _annotated(trace: Trace, name: str) -> Windows:
    """Each annotation of a name is a step; of nested ones the outermost."""
    host = trace.host
    notes = host.kind == HostKind.ANNOTATION
    places = np.flatnonzero(named(trace, lambda each: fnmatchcase(each, name) or each == name) & notes)
    if not len(places):
        known = dict.fromkeys(trace.names[each] for each in host.name[notes].tolist())
        raise InputError(
            f"{trace.path} has no annotation {name!r}",
            expectation=f"it has {', '.join(list(known)[:8])}" if known else "it has no annotations at all",
            remedy="name one of these (* stands for any text), or mark steps with torch.profiler.record_function",
        )
    places = places[np.argsort(host.start_ns[places], kind="stable")]
    reached = np.maximum.accumulate(np.concatenate([[-1], host.end_ns[places][:-1]]))
    places = places[host.start_ns[places] >= reached]
    numbers = np.arange(1, len(places) + 1)
    texts = [trace.names[each] for each in host.name[places].tolist()]
    return Windows(
        names=tuple(f"{text} ({number})" for text, number in zip(texts, numbers.tolist(), strict=True)),
        numbers=numbers,
        starts_ns=host.start_ns[places],
        ends_ns=host.end_ns[places],
        basis=f"annotations {name}",
        joined=False,
    )


def _profiler_steps(trace: Trace) -> Windows | None:
    host = trace.host
    places = np.flatnonzero(named(trace, _PROFILER_STEP.match) & (host.kind != HostKind.RUNTIME))
    if not len(places):
        return None
    _, first = np.unique(host.name[places], return_index=True)
    places = places[np.sort(first)]
    places = places[np.argsort(host.start_ns[places], kind="stable")]
    names = tuple(trace.names[name] for name in host.name[places])
    return Windows(
        names=names,
        numbers=np.array([int(found[1]) for found in map(_PROFILER_STEP.match, names) if found]),
        starts_ns=host.start_ns[places],
        ends_ns=host.end_ns[places],
        basis="ProfilerStep annotations",
    )


def _optimizer_steps(trace: Trace) -> Windows | None:
    """From the end of one optimizer step to that of the next; the first from the trace's first event."""
    host = trace.host
    is_update = named(trace, lambda name: name.startswith(OPTIMIZER))
    places = np.flatnonzero(is_update & (host.kind == HostKind.ANNOTATION))
    if not len(places):
        return None
    names, counts = np.unique(host.name[places], return_counts=True)
    places = places[host.name[places] == names[np.argmax(counts)]]
    first, last = _bounds(trace)
    ends = np.sort(host.end_ns[places])
    ends = ends[(ends > first) & (ends <= last)]
    if not len(ends):
        return None
    rest = f"; {format_seconds(float(last - ends[-1]) * NS)} after the last are no step" if ends[-1] < last else ""
    numbers = np.arange(1, len(ends) + 1)
    return Windows(
        names=tuple(f"step {number}" for number in numbers.tolist()),
        numbers=numbers,
        starts_ns=np.concatenate([[first], ends[:-1]]),
        ends_ns=ends,
        basis=f"ends of {trace.names[host.name[places[0]]]}{rest}",
    )


def _bounds(trace: Trace) -> tuple[int, int]:
    """The window of hwprof's own recorder where there is one, else all host events."""
    place = np.flatnonzero(named(trace, WINDOW.__eq__))[:1]
    chosen = place if len(place) else slice(None)
    return int(trace.host.start_ns[chosen].min()), int(trace.host.end_ns[chosen].max())


def device_windows(trace: Trace, pieces: Pieces, steps: Windows | None, wanted: Chosen = ALL) -> tuple[Windows, Pieces]:
    """The steps on a GPU, and the pieces that were launched in them.

    A step runs from the start of the first kernel that it launched to that of the next step's; the last one, and one
    that is no neighbour of the next, to the end of its own kernels.
    """
    if steps is None:
        return _whole(pieces), pieces
    step = _step_of(trace, pieces, steps)
    if (step < 0).all():
        return _whole(pieces), pieces
    kept, step = pieces.where(step >= 0), step[step >= 0]
    present, first = np.unique(step, return_index=True)  # pieces are ordered by start: the first is the earliest
    starts = np.maximum.accumulate(kept.start_ns[first])
    ends = np.zeros(len(steps.names), dtype=np.int64)
    np.maximum.at(ends, step, kept.end_ns)
    ends = ends[present]
    ends = np.append(starts[1:] if steps.joined else np.minimum(ends[:-1], starts[1:]), kept.end_ns.max())
    whole = replace(
        steps,
        names=tuple(steps.names[number] for number in present),
        numbers=steps.numbers[present],
        starts_ns=starts,
        ends_ns=ends,
    )
    chosen = wanted_steps(whole, wanted)
    return whole.where(chosen), kept.where(chosen[np.searchsorted(present, step)])


def _step_of(trace: Trace, pieces: Pieces, steps: Windows) -> Places:
    """The step that launched each piece; -1 for none.

    A piece without a launch belongs to the step during whose pieces it starts; what starts before the first of these
    was launched before the trace began. Where no piece has a launch, steps are those of the host's clock.
    """
    known = pieces.host >= 0
    moment = np.where(known, trace.host.start_ns[np.maximum(pieces.host, 0)] if known.any() else 0, pieces.start_ns)
    place = np.searchsorted(steps.starts_ns, moment, side="right") - 1
    until = steps.ends_ns[-1] if steps.joined else steps.ends_ns[np.maximum(place, 0)]
    step: Places = np.where(moment <= until, place, -1).astype(np.int32)
    launched = known & (step >= 0)
    if not launched.any():
        return step
    present, first = np.unique(step[launched], return_index=True)
    begun = np.maximum.accumulate(pieces.start_ns[launched][first])
    own = np.searchsorted(begun, pieces.start_ns, side="right") - 1
    own[pieces.start_ns > pieces.end_ns[launched].max()] = -1
    found: Places = np.where(known, step, np.where(own >= 0, present[np.maximum(own, 0)], -1)).astype(np.int32)
    return found


def cpu_windows(pieces: Pieces, steps: Windows | None, wanted: Chosen = ALL) -> tuple[Windows, Pieces]:
    """The steps on a CPU, and the pieces that run in them."""
    if steps is None:
        return _whole(pieces), pieces
    steps = steps.where(wanted_steps(steps, wanted))
    place = np.searchsorted(steps.ends_ns, pieces.start_ns, side="right")
    following = np.append(steps.starts_ns, np.iinfo(np.int64).max)[place]
    inside = pieces.end_ns > following
    return (steps, pieces.where(inside)) if inside.any() else (_whole(pieces), pieces)


def _whole(pieces: Pieces) -> Windows:
    return Windows(
        names=("whole trace",),
        numbers=np.array([1]),
        starts_ns=np.array([pieces.start_ns.min()]),
        ends_ns=np.array([pieces.end_ns.max()]),
        basis="no marks: the whole trace",
    )
