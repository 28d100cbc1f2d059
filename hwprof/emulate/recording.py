"""What is left of an emulated rank? Plain data without torch, which is priced on any machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from hwprof.emulate.tape import Call, Collective, Event, Tape
from hwprof.specs.record.saved_calls import Layout


@dataclass(frozen=True, slots=True)
class Refusal:
    """The first allocation that did not fit: how much was asked for, what was held then, by which line."""

    asked_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the allocator did, and what it holds at the end.

    Attributes:
        events: action in torch's words, address (of ``oom``: bytes left), bytes, stream, line of the script.
        blocks: segment, address, bytes, stream, whether of small blocks, what it is for; empty: free.
    """

    events: tuple[tuple[str, int, int, int, str], ...]
    blocks: tuple[tuple[int, int, int, int, bool, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a rank's tensors took.

    Attributes:
        peak_bytes: of tensors of the device that trains, at most.
        reserved_bytes: what torch's allocator held for them, at most.
        kinds: bytes by what they are for, at the peak.
        places: bytes by the module that made them, at the peak.
        refusal: the first allocation that did not fit.
        capacity_bytes: of the device that the script believed in.
    """

    peak_bytes: int
    reserved_bytes: int
    kinds: Mapping[str, int]
    refusal: Refusal | None
    places: Mapping[str, int] = field(default_factory=dict)
    capacity_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One rank of a script, as it was emulated.

    Attributes:
        rank, devices: which, of how many.
        calls, collectives: each kind once.
        events: the last whole step, in the order of the script.
        call_count: calls of that step.
        steps: how many whole steps there were.
        memory: on the device that trains.
        device: type of that device.
        software: what trains: the program or library that the script imports, by the name of its stack.
        tf32: whether the script lets products of 32 bits take the tensor cores.
        host_s: seconds of the script's own code before each event, on the machine that emulated; empty: not known.
        layouts: of each event that is a call on a processor, where its tensors lie; empty of others, and elsewhere.
        dispatch_s: what that machine takes for a call of one number, as ``latency.dispatch``; 0: not known.
        host: name of its processor.
        history: of the device's allocator, where it was asked for; it is kept as a file of its own.
        made_up: rule -> how often it answered for a tensor without values.
        notes: what was done otherwise than the script asked.
        awaits: rank for whose objects it waits, where that is what ended it; -1 elsewhere.
        failure, line: what ended the script before its time, and where; empty where nothing did.
    """

    rank: int
    devices: int
    calls: tuple[Call, ...]
    collectives: tuple[Collective, ...]
    events: tuple[Event, ...]
    call_count: int
    steps: int
    memory: Memory
    device: str
    software: str
    tf32: bool
    made_up: Mapping[str, int]
    notes: tuple[str, ...]
    failure: str
    line: str
    awaits: int = -1
    host_s: tuple[float, ...] = ()
    layouts: tuple[tuple[Layout, ...], ...] = ()
    dispatch_s: float = 0.0
    host: str = ""
    history: History | None = None

    @property
    def flop(self) -> int:
        """Matrix-multiply FLOP of the last step."""
        return sum(self.calls[place].flop * times for place, times in self.count(0).items())

    @property
    def peers(self) -> tuple[int, ...]:
        """Ranks to which the last step sends messages, or from which it gets some."""
        found = {self.collectives[place].peer for place in self.count(1)}
        return tuple(sorted(found - {-1}))

    def count(self, kind: int) -> Counter[int]:
        """How often the last step has each kind of call or collective."""
        return Counter(event[1] for event in self.events if event[0] == kind)


def training_device(tape: Tape) -> str:
    """The type of device that does most of the last step's products, else most of its calls."""
    flop: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in tape.last.events:
        if event[0] == 0:
            call = tape.calls[event[1]]
            if call.device:
                flop[call.device] += call.flop
                calls[call.device] += 1
    chosen = flop if sum(flop.values()) else calls
    return max(chosen, key=lambda name: chosen[name], default="cuda")
