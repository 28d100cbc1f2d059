"""Which streams and events does the script order its work with? Objects that write down what waits for what."""
# ruff: noqa: D102 (methods are torch's own)

from __future__ import annotations

import contextlib
import itertools
from typing import Any, Self

import torch

from hwprof.emulate.run.rank import Rank
from hwprof.emulate.tape import BEHIND, HOST_WAITS, RECORD

_rank: Rank
"""Whose streams these are; there is one rank in a process."""

_numbers = itertools.count(1)
_streams: dict[int, Stream] = {}


class Event:
    """A mark in a stream."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.number = next(_numbers)
        self.device = torch.device("cuda", 0)

    def record(self, stream: Stream | None = None) -> None:
        _rank.tape.current.add(RECORD, self.number, _rank.stream if stream is None else stream.number)

    def wait(self, stream: Stream | None = None) -> None:
        _rank.tape.current.add(BEHIND, self.number, _rank.stream if stream is None else stream.number)

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        _rank.tape.current.add(HOST_WAITS, -1)

    def elapsed_time(self, _other: Event) -> float:
        _rank.note("times between CUDA events that the script reads are 1 ms")
        return 1.0


class Stream:
    """A queue of work."""

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        del device
        self.number = self.stream_id = self.cuda_stream = len(_streams)
        self.priority, self.device, self.device_index, self.device_type = priority, torch.device("cuda", 0), 0, 1
        self._left: list[int] = []
        _streams[self.number] = self

    def wait_event(self, event: Event) -> None:
        event.wait(self)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_stream(self, other: Stream) -> None:
        self.wait_event(other.record_event())

    def synchronize(self) -> None:
        _rank.tape.current.add(HOST_WAITS, self.number)

    def query(self) -> bool:
        return True

    @staticmethod
    def priority_range() -> tuple[int, int]:
        return 0, -5

    def is_capturing(self) -> bool:
        return False

    def __enter__(self) -> Self:
        self._left.append(_rank.stream)
        _rank.stream = self.number
        return self

    def __exit__(self, *_: object) -> None:
        _rank.stream = self._left.pop()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.number == self.number

    def __hash__(self) -> int:
        return self.number


def install(rank: Rank) -> dict[str, Any]:
    """The names of ``torch.cuda`` that order work, for a rank."""
    global _rank  # noqa: PLW0603 (a process has one rank)
    _rank = rank
    default = Stream()

    def entered(stream: Stream | None) -> Any:
        return contextlib.nullcontext() if stream is None else stream

    def choose(stream: Stream) -> None:
        rank.stream = stream.number

    return {
        "Event": Event,
        "Stream": Stream,
        "stream": entered,
        "StreamContext": entered,
        "set_stream": choose,
        "current_stream": lambda *_, **__: _streams[rank.stream],
        "default_stream": lambda *_, **__: default,
        "synchronize": lambda *_, **__: rank.tape.current.add(HOST_WAITS, -1),
        "is_current_stream_capturing": lambda: False,
    }
