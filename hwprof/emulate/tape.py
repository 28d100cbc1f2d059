"""What did the script ask of its device, in which order? Kinds of calls and collectives, events of the last step."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from hwprof.emulate.fusion import Flow, Fused, Place, fused
from hwprof.specs.record.captured import AtenCall
from hwprof.specs.record.saved_calls import Layout

CollectiveName = Literal[
    "all_gather",
    "reduce_scatter",
    "all_reduce",
    "all_to_all",
    "send",
    "recv",
    "broadcast",
    "reduce",
    "gather",
    "scatter",
]
Phase = Literal["forward", "backward", "optimizer"]

KERNEL, COLLECTIVE, WAIT, RECORD, BEHIND, HOST_WAITS, PHASE = range(7)
"""Kinds of events; the numbers behind each:
``KERNEL`` call, stream; ``COLLECTIVE`` collective, stream, number of the work, 1 if it runs beside the stream;
``WAIT`` number of the work, stream that waits; ``RECORD`` event, stream; ``BEHIND`` event, stream that waits;
``HOST_WAITS`` stream that the host waits for, or -1 for all; ``PHASE`` which of the phases begins."""

EVENT_NUMBERS = (2, 4, 2, 2, 2, 1, 1)
"""How many numbers stand behind each kind of event."""

PHASES: tuple[Phase, ...] = ("forward", "backward", "optimizer")
Event: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One kind of call: an operator on shapes.

    Attributes:
        name: of the operator.
        flop: matrix-multiply FLOP as torch's ``FlopCounterMode`` counts them.
        device: type of the device that computes ("cuda"); empty for a call that computes nothing (a view).
        call: with shapes, for its bytes; None for a view.
        line: of the script, where it was called first.
        spared_bytes: traffic that compiled code does without.
        joined: whether compiled code makes it a part of the kernel before it.
    """

    name: str
    flop: int
    device: str
    call: AtenCall | None
    line: str
    spared_bytes: int = 0
    joined: bool = False

    @property
    def touched_bytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(each.size_bytes for each in (*self.call.inputs, *self.call.results)) if self.call else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """One kind of collective: over some ranks, of a size.

    Attributes:
        op: what.
        ranks: who take part, in the order of the group.
        size_bytes: the whole vector, as nccl-tests has it.
        peer: the other rank of a message; -1 elsewhere.
        group: number of the group, whose collectives follow each other.
        place: the module whose weights or results travel, where that is known.
    """

    op: CollectiveName
    ranks: tuple[int, ...]
    size_bytes: int
    peer: int
    group: int
    place: str = ""


def _no_time() -> float:
    return 0.0


@dataclass(slots=True)
class Step:
    """What one optimizer step asked for. Mutable: it is written while the script runs.

    Attributes:
        events: in order.
        calls: how many of them are calls.
        flows: what calls of compiled code read and write.
        take_s: seconds of the script's own code since it was asked before.
        host_s: of each event, seconds of the script's own code before it.
        layouts: of each event that is a call on a processor, where its tensors lie; empty of others.
    """

    events: list[Event] = field(default_factory=list)
    calls: int = 0
    flows: list[Flow] = field(default_factory=list)
    take_s: Callable[[], float] = _no_time
    host_s: list[float] = field(default_factory=list)
    layouts: list[tuple[Layout, ...]] = field(default_factory=list)

    def add(self, *event: int, layouts: tuple[Layout, ...] = ()) -> None:
        """Append an event."""
        self.events.append(event)
        self.layouts.append(layouts)
        self.host_s.append(self.take_s())

    def split(self, events: int, calls: int) -> tuple[Step, Step]:
        """What was asked for until then, and what came after."""
        inside = bisect_left(self.flows, events, key=lambda flow: flow.event)
        flows = [replace(flow, event=flow.event - events) for flow in self.flows[inside:]]
        first = (self.events[:events], calls, self.flows[:inside], self.take_s)
        rest = (self.events[events:], self.calls - calls, flows, self.take_s)
        return (
            Step(*first, self.host_s[:events], self.layouts[:events]),
            Step(*rest, self.host_s[events:], self.layouts[events:]),
        )


@dataclass(slots=True)
class Tape:
    """The recording of one rank. Mutable: it is written while the script runs.

    Attributes:
        calls, collectives: each kind once.
        last: the last whole step.
        steps: how many steps there were.
        unstored: calls in compiled regions, and their kinds, whose results the last step did not need in memory.
        passing: those whose results nothing read after the forward pass of their region.
    """

    calls: list[Call] = field(default_factory=list)
    collectives: list[Collective] = field(default_factory=list)
    last: Step = field(default_factory=Step)
    steps: int = 0
    unstored: set[tuple[Place, int]] = field(default_factory=set)
    passing: set[tuple[Place, int]] = field(default_factory=set)
    _current: Step = field(default_factory=Step)
    _variants: dict[tuple[int, Fused], int] = field(default_factory=dict)
    _places: dict[Collective, int] = field(default_factory=dict)
    _works: int = 0
    _mark: tuple[int, int] | None = None

    @property
    def current(self) -> Step:
        """The step that is being written."""
        return self._current

    def call(self, place: int, stream: int, layouts: tuple[Layout, ...] = ()) -> None:
        """A call of a known kind."""
        self._current.calls += 1
        self._current.add(KERNEL, place, stream, layouts=layouts)

    def collective(self, kind: Collective, stream: int, *, beside: bool) -> int:
        """A collective; the number of its work, to wait for."""
        place = self._places.get(kind)
        if place is None:
            place = self._places[kind] = len(self.collectives)
            self.collectives.append(kind)
        self._works += 1
        self._current.add(COLLECTIVE, place, stream, self._works, int(beside))
        return self._works

    def phase(self, phase: Phase) -> None:
        """From here on the script is in another phase."""
        self._current.add(PHASE, PHASES.index(phase))

    def timed(self, take_s: Callable[[], float]) -> None:
        """Say how long the script's own code takes."""
        self._current.take_s = take_s

    def begin(self) -> None:
        """What came before is no part of a step."""
        self._current = Step(take_s=self._current.take_s)
        self._current.take_s()

    def mark(self) -> None:
        """An optimizer has updated: if no other follows before the next forward pass, the step ends here."""
        self._mark = (len(self._current.events), self._current.calls)

    def end_step(self) -> bool:
        """A step is over, at the last mark; whether it asked for the same work as the one before."""
        events, calls = self._mark or (len(self._current.events), self._current.calls)
        before, self._mark = self.last, None
        self.last, self._current = self._current.split(events, calls)
        self._fuse(self.last)
        if len(before.events) == len(self.last.events):  # the one that the machine disturbed less
            self.last.host_s = min(before.host_s, self.last.host_s, key=sum)
        self.steps += 1
        return self.steps > 1 and self.totals(before) == self.totals(self.last)

    def _fuse(self, step: Step) -> None:
        """Calls in compiled code become the parts of kernels that they are."""
        for flow, left in zip(step.flows, fused(step.flows), strict=True):
            if flow.call < 0:
                continue
            if flow.region is not None and not left.stored:
                self.unstored.add((flow.region, flow.call))
            elif flow.region is not None and left.passing:
                self.passing.add((flow.region, flow.call))
            if left.spared_bytes or left.joined:
                kind, _, stream = step.events[flow.event]
                step.events[flow.event] = (kind, self._variant(flow.call, left), stream)

    def _variant(self, call: int, left: Fused) -> int:
        place = self._variants.get((call, left))
        if place is None:
            place = self._variants[call, left] = len(self.calls)
            self.calls.append(replace(self.calls[call], spared_bytes=left.spared_bytes, joined=left.joined))
        return place

    def totals(self, step: Step) -> tuple[int, Counter[Collective]]:
        """FLOP and collectives of a step, by which steps are compared."""
        flop = sum(self.calls[event[1]].flop for event in step.events if event[0] == KERNEL)
        seen = Counter(self.collectives[event[1]] for event in step.events if event[0] == COLLECTIVE)
        return flop, seen
