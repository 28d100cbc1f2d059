"""Who waits for whom in a step? Host, streams and groups play the events in the order in which the script made them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwprof.emulate.prices import Prices
from hwprof.emulate.recording import Recording
from hwprof.emulate.tape import BEHIND, COLLECTIVE, HOST_WAITS, KERNEL, PHASE, RECORD, WAIT, Event
from hwprof.errors import WorkError
from hwprof.spans.intervals import Intervals, join, subtract, union


@dataclass(slots=True)
class Spans:
    """What ran from when to when, columns in seconds. Mutable: it is filled while the events are played."""

    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    streams: list[int] = field(default_factory=list)
    phases: list[int] = field(default_factory=list)

    def add(self, start: float, end: float, kind: int, stream: int, phase: int) -> None:
        """Append one."""
        self.phases.append(phase)
        self.starts.append(start)
        self.ends.append(end)
        self.kinds.append(kind)
        self.streams.append(stream)

    def union(self) -> Intervals:
        """The time in which any of them runs."""
        return union(np.array(self.starts), np.array(self.ends))


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A step as it went.

    Attributes:
        step_s: its time where steps follow each other.
        kernels, messages: what ran.
        compute_s, exposed_s, idle_s: time with a kernel, with messages alone, with neither; add up to ``step_s``.
        hidden_s: time with messages beside kernels.
        bare_s: time of each message in which no kernel runs, in the order of ``messages``.
    """

    step_s: float
    kernels: Spans
    messages: Spans
    compute_s: float
    exposed_s: float
    idle_s: float
    hidden_s: float
    bare_s: tuple[float, ...]


@dataclass(slots=True)
class Message:
    """What two ranks pass on once both are there. Mutable: they come one after the other."""

    ready_s: dict[str, float] = field(default_factory=dict)
    end_s: float | None = None


class Post:
    """Messages between ranks that are emulated; those with others take their own time alone."""

    def __init__(self, ranks: Collection[int]) -> None:
        self.ranks = frozenset(ranks)
        self._messages: dict[tuple[int, int, int], Message] = defaultdict(Message)
        self._numbers: Counter[tuple[str, int, int]] = Counter()

    def meet(self, op: str, rank: int, peer: int, ready_s: float, seconds: float) -> Message:
        """One side of the next message between two ranks is there."""
        ends = (rank, peer) if op == "send" else (peer, rank)
        number = self._numbers[op, *ends]
        self._numbers[op, *ends] += 1
        message = self._messages[*ends, number]
        message.ready_s[op] = ready_s
        if len(message.ready_s) == 2 or peer not in self.ranks:
            message.end_s = max(message.ready_s.values()) + seconds
        return message


class Clock:
    """When host, streams and groups of a rank are free. Mutable: it runs."""

    def __init__(self, recording: Recording, prices: Prices, post: Post, *, synchronous: bool) -> None:
        self.host = 0.0
        self._recording, self._post, self._synchronous = recording, post, synchronous
        self._device_s, self._host_s = prices.device_s.tolist(), prices.host_s.tolist()
        self._collective_s = prices.collective_s.tolist()
        self.streams: dict[int, float] = defaultdict(float)
        self._groups: dict[int, float] = defaultdict(float)
        self._works: dict[int, float | Message] = {}
        self._marks: dict[int, float] = {}
        self._launch_s = prices.launch_s
        share = prices.script_share
        self._script_s = [share * each for each in recording.host_s] if share else [0.0] * len(recording.events)
        self.kernels, self.messages, self._phase = Spans(), Spans(), 0

    @property
    def end(self) -> float:
        """When all is done."""
        return max(self.host, *self.streams.values(), *self._groups.values(), 0.0, 0.0)

    def play(self) -> Iterator[None]:
        """Let the events of a step happen; yields where another rank has to go on first."""
        streams, marks = self.streams, self._marks
        self.kernels, self.messages = Spans(), Spans()
        for event, script_s in zip(self._recording.events, self._script_s, strict=True):
            kind = event[0]
            self.host += script_s
            if kind == KERNEL:
                self._kernel(event)
            elif kind == COLLECTIVE:
                yield from self._collective(event)
            elif kind == WAIT:
                end_s = yield from self._ended(event[1])
                streams[event[2]] = max(streams[event[2]], end_s)
            elif kind == RECORD:
                marks[event[1]] = streams[event[2]]
            elif kind == BEHIND:
                streams[event[2]] = max(streams[event[2]], marks.get(event[1], 0.0))
            elif kind == HOST_WAITS:
                self.host = max(self.host, self.end if event[1] < 0 else streams[event[1]])
            else:
                assert kind == PHASE, kind
                self._phase = event[1]

    def _kernel(self, event: Event) -> None:
        _, call, stream = event
        self.host += self._host_s[call]
        seconds = self._device_s[call]
        if not seconds:
            return
        start = max(self.host, self.streams[stream])
        self.streams[stream] = start + seconds
        self.kernels.add(start, start + seconds, call, stream, self._phase)
        if self._synchronous:
            self.host = start + seconds

    def _collective(self, event: Event) -> Iterator[None]:
        """A group's collectives follow each other; a message begins when both of its ranks are there."""
        _, place, stream, work, beside = event
        one, seconds = self._recording.collectives[place], self._collective_s[place]
        self.host += self._launch_s
        ready = max(self.host, self.streams[stream])
        if one.peer >= 0:
            self._works[work] = self._post.meet(one.op, self._recording.rank, one.peer, ready, seconds)
            self.messages.add(ready, ready + seconds, place, stream, self._phase)
            if not beside:
                self.streams[stream] = yield from self._ended(work)
            return
        start = max(ready, self._groups[one.group])
        self._groups[one.group] = self._works[work] = start + seconds
        if not beside:
            self.streams[stream] = start + seconds
        self.messages.add(start, start + seconds, place, stream, self._phase)

    def _ended(self, work: int) -> Generator[None, None, float]:
        """When a collective or a message is over."""
        found = self._works.get(work, 0.0)
        if not isinstance(found, Message):
            return found
        while found.end_s is None:
            yield
        return found.end_s


def play(recordings: Sequence[Recording], prices: Sequence[Prices], *, synchronous: bool) -> list[Played]:
    """Play a step of all ranks twice; the second time is that of a step among others.

    Raises:
        WorkError: ranks wait for each other for ever.
    """
    post = Post([each.rank for each in recordings])
    clocks = [Clock(one, price, post, synchronous=synchronous) for one, price in zip(recordings, prices, strict=True)]
    _together(clocks)
    begins = [clock.end for clock in clocks]
    _together(clocks)
    return [_played(clock, begin) for clock, begin in zip(clocks, begins, strict=True)]


def _together(clocks: Sequence[Clock]) -> None:
    """Each goes on until it has to wait for another, in turn."""
    going = {place: clock.play() for place, clock in enumerate(clocks)}
    turns = 0
    while going:
        for place, steps in list(going.items()):
            try:
                next(steps)
            except StopIteration:
                del going[place]
        turns += 1
        if turns > MOST_TURNS:
            raise WorkError(
                "the emulated ranks wait for each other for ever",
                expectation="each message that is sent is received",
                remedy="see whether all stages run the same schedule",
            )


MOST_TURNS = 1_000_000


def _played(clock: Clock, begin: float) -> Played:
    step_s = clock.end - begin
    busy, sent = clock.kernels.union(), clock.messages.union()
    starts, ends = np.array(clock.messages.starts), np.array(clock.messages.ends)
    start, stop = np.array([begin]), np.array([clock.end])
    exposed = subtract(sent, busy)
    working = float(join(busy, sent).within(start, stop)[0])
    return Played(
        step_s=step_s,
        kernels=clock.kernels,
        messages=clock.messages,
        compute_s=float(busy.within(start, stop)[0]),
        exposed_s=float(exposed.within(start, stop)[0]),
        idle_s=step_s - working,
        hidden_s=sent.length - exposed.length,
        bare_s=tuple((ends - starts - busy.within(starts, ends)).tolist()),
    )
