"""Which clock tells how long work takes on a device? A narrow seam: all above it is tested with a scripted one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch


@dataclass(frozen=True, slots=True)
class Mark:
    """A point on a device's timeline.

    Attributes:
        host_s: the host's clock when the mark was made, seconds since an arbitrary start.
        events: what marks the point on each stream of a device that works while the host goes on; none where the host
            itself works.
        worked_s: what the thread has computed until then, where a timer reads that.
    """

    host_s: float
    events: tuple[Any, ...] = ()
    worked_s: float = 0.0


class Timer(Protocol):
    """A clock on a device's timeline."""

    def mark(self) -> Mark:
        """The point that the device reaches after all work given to it so far; does not wait for it."""
        ...

    def reached(self, mark: Mark) -> bool:
        """Whether the device is there already."""
        ...

    def elapsed_s(self, start: Mark, stop: Mark) -> float:
        """Seconds on the device from ``start`` to ``stop``; waits until the device has reached ``stop``."""
        ...


class WallTimer:
    """The host's monotonic clock: for work that the host itself does or waits for."""

    def mark(self) -> Mark:
        """Now."""
        return Mark(time.perf_counter())

    def reached(self, mark: Mark) -> bool:  # noqa: ARG002 (time that was is reached)
        """Always."""
        return True

    def elapsed_s(self, start: Mark, stop: Mark) -> float:
        """Seconds between two marks."""
        return stop.host_s - start.host_s


class ThreadTimer(WallTimer):
    """The processor's time of the thread that marks: for work that it does alone, whatever else the machine does."""

    def mark(self) -> Mark:
        """Now, and what the thread has computed until now."""
        return Mark(time.perf_counter(), worked_s=time.thread_time())

    def elapsed_s(self, start: Mark, stop: Mark) -> float:
        """Seconds that the thread computed between two of its marks."""
        return stop.worked_s - start.worked_s


class EventTimer:
    """Events on the streams of one device, whichever device is the current one: for work beside which the host goes on.

    A mark stands on the device's current stream and on those that were current at earlier marks, so that work which a
    program gives to a stream of its own is seen, too. While the program captures a graph nothing runs, and an event
    would become a part of it or end it: a mark is then the one before.

    Args:
        device: an accelerator with streams and events.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._torch: Any = torch.get_device_module(device)
        self._streams: list[tuple[Any, ...]] = []
        self._capturing: Callable[[], bool] = getattr(self._torch, "is_current_stream_capturing", bool)
        self._last = Mark(time.perf_counter())

    def mark(self) -> Mark:
        """An event behind all work on each of the streams."""
        if self._capturing():
            return self._last
        if (current := self._current()) not in self._streams:
            self._streams.append(current)
        events = tuple(self._torch.Event(enable_timing=True) for _ in self._streams)
        for event, stream in zip(events, self._streams, strict=True):
            event.record(*stream)
        self._last = Mark(time.perf_counter(), events)
        return self._last

    def _current(self) -> tuple[Any, ...]:
        """The stream that work goes to now; nothing on a device that has only one (mps)."""
        current = getattr(self._torch, "current_stream", None)
        return () if current is None else (current(self._device),)

    def reached(self, mark: Mark) -> bool:
        """Whether the device is there."""
        return all(event.query() for event in mark.events)

    def elapsed_s(self, start: Mark, stop: Mark) -> float:
        """Seconds on the device's timeline between two marks (resolution about 0.5 µs, CUDA runtime documentation).

        From the last of the streams to reach the one to the last to reach the other.
        """
        if not start.events or not stop.events:  # made while a graph was captured, before any other
            return stop.host_s - start.host_s
        for event in stop.events:
            event.synchronize()
        first = start.events[0]
        begun_ms = max(float(first.elapsed_time(event)) for event in start.events) if len(start.events) > 1 else 0.0
        ended_ms = max(float(first.elapsed_time(event)) for event in stop.events)
        return (ended_ms - begun_ms) / 1e3


def timer_for(device: torch.device) -> Timer:
    """The timer that sees a device's work: events of an accelerator, the wall clock for the CPU."""
    return WallTimer() if device.type == "cpu" else EventTimer(device)
