"""Which clock tells how long work takes on a device? A narrow seam: all above it is tested with a scripted one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class Mark:
    """A point on a device's timeline.

    Attributes:
        host_s: the host's clock when the mark was made, seconds since an arbitrary start.
        event: what marks the point on a device that works while the host goes on; None where the host itself works.
    """

    host_s: float
    event: torch.cuda.Event | None = None


class Timer(Protocol):
    """A clock on a device's timeline."""

    def mark(self) -> Mark:
        """The point that the device reaches after all work given to it so far; does not wait for it."""
        ...

    def elapsed_s(self, start: Mark, stop: Mark) -> float:
        """Seconds on the device from ``start`` to ``stop``; waits until the device has reached ``stop``."""
        ...


class WallTimer:
    """The host's monotonic clock: for work that the host itself does or waits for."""

    def mark(self) -> Mark:
        """Now."""
        return Mark(time.perf_counter())

    def elapsed_s(self, start: Mark, stop: Mark) -> float:
        """Seconds between two marks."""
        return stop.host_s - start.host_s


class CudaTimer:
    """CUDA events on the current stream: for work that the device does while the host goes on."""

    def mark(self) -> Mark:
        """An event enqueued behind all work on the current stream."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        event.record()
        return Mark(time.perf_counter(), event)

    def elapsed_s(self, start: Mark, stop: Mark) -> float:
        """Seconds on the device's timeline between two marks (resolution about 0.5 µs, CUDA runtime documentation)."""
        assert start.event is not None
        assert stop.event is not None
        stop.event.synchronize()
        return float(start.event.elapsed_time(stop.event)) / 1e3


def timer_for(device: torch.device) -> Timer:
    """The timer that sees a device's work: CUDA events for CUDA, the wall clock for the CPU."""
    return CudaTimer() if device.type == "cuda" else WallTimer()
