"""What is memory used for? The need at its peak, part by part, beside what was measured."""

from __future__ import annotations

from hwprof.specs.frozen import Record


class MemoryPart(Record):
    """One part of the memory need at its peak; of a loop that somebody else wrote its size as it was found."""

    name: str
    predicted_bytes: float
    note: str = ""


class MemoryResult(Record):
    """Predicted need, measured peak, and the timeline of the profiled window as (seconds, allocated bytes).

    Of an accelerator ``reserved_bytes`` is the most that torch's allocator had from the driver: it decides whether
    memory runs out, and what of it is not allocated at the peak is fragmented or kept. ``outside_bytes`` is used beside
    it, by the context, by libraries, and by other processes.
    """

    parts: tuple[MemoryPart, ...]
    predicted_peak_bytes: float | None = None
    measured_peak_bytes: float | None = None
    measured_source: str = ""
    reserved_bytes: float | None = None
    outside_bytes: float | None = None
    capacity_bytes: float | None = None
    capacity_source: str = ""
    timeline: tuple[tuple[float, float], ...] = ()
