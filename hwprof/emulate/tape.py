"""What did the script ask of its device, in which order? Kinds of calls and collectives, events of the last step."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from hwprof.emulate.fusion import Flow, Fused, Place, fused
from hwprof.specs.record.captured import AtenCall

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """One kind of collective: over some ranks, of a size.

    Attributes:
        op: what.
        ranks: who take part, in the order of the group.
        size_bytes: the whole vector, as nccl-tests has it.
        peer: the other rank of a message; -1 elsewhere.
        group: number of the group, whose collectives follow each other.
    """

    op: CollectiveName
    ranks: tuple[int, ...]
    size_bytes: int
    peer: int
    group: int


@dataclass(slots=True)
class Step:
    """What one optimizer step asked for. Mutable: it is written while the script runs."""

    events: list[Event] = field(default_factory=list)
    calls: int = 0
    flows: list[Flow] = field(default_factory=list)

    def add(self, *event: int) -> None:
        """Append an event."""
        self.events.append(event)


@dataclass(slots=True)
class Tape:
    """The recording of one rank. Mutable: it is written while the script runs.

    Attributes:
        calls, collectives: each kind once.
        last: the last whole step.
        steps: how many steps there were.
        unstored: calls in compiled regions, and their kinds, whose results the last step did not need in memory.
    """

    calls: list[Call] = field(default_factory=list)
    collectives: list[Collective] = field(default_factory=list)
    last: Step = field(default_factory=Step)
    steps: int = 0
    unstored: set[tuple[Place, int]] = field(default_factory=set)
    _current: Step = field(default_factory=Step)
    _variants: dict[tuple[int, Fused], int] = field(default_factory=dict)
    _places: dict[Collective, int] = field(default_factory=dict)
    _works: int = 0
    _mark: tuple[int, int] | None = None

    @property
    def current(self) -> Step:
        """The step that is being written."""
        return self._current

    def call(self, place: int, stream: int) -> None:
        """A call of a known kind."""
        self._current.calls += 1
        self._current.events.append((KERNEL, place, stream))

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

    def begin(self) -> None:
        """What came before is no part of a step."""
        self._current = Step()

    def mark(self) -> None:
        """An optimizer has updated: if no other follows before the next forward pass, the step ends here."""
        self._mark = (len(self._current.events), self._current.calls)

    def end_step(self) -> bool:
        """A step is over, at the last mark; whether it asked for the same work as the one before."""
        events, calls = self._mark or (len(self._current.events), self._current.calls)
        whole, self._mark = self._current, None
        inside = bisect_left(whole.flows, events, key=lambda flow: flow.event)
        flows = [replace(flow, event=flow.event - events) for flow in whole.flows[inside:]]
        before, self.last = self.last, Step(whole.events[:events], calls, whole.flows[:inside])
        self._current = Step(whole.events[events:], whole.calls - calls, flows)
        self._fuse(self.last)
        self.steps += 1
        return self.steps > 1 and self.totals(before) == self.totals(self.last)

    def _fuse(self, step: Step) -> None:
        """Calls in compiled code become the parts of kernels that they are."""
        for flow, left in zip(step.flows, fused(step.flows), strict=True):
            if flow.call < 0:
                continue
            if flow.region is not None and not left.stored:
                self.unstored.add((flow.region, flow.call))
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
