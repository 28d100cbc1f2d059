"""What memory does a published run need? The figure that its source gives, its interval, and what is doubtful."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.count.memory.job import job_memory
from hwprof.errors import HwprofError
from hwprof.simulate.memory_interval import READINGS, memory_interval_bytes
from hwprof.simulate.published.case import Case
from hwprof.specs.catalogue.simulator import ErrorModel
from hwprof.specs.record.run import Interval

GIB = 2.0**30


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedMemory:
    """Memory of the fullest device.

    Attributes:
        gib: of the allocator's tensors, of what it reserved, or of the device, as the software's figures are.
        interval_gib: 90 % of comparable figures lie inside.
        note: what is doubtful of it.
    """

    gib: float | None = None
    interval_gib: Interval | None = None
    note: str = ""


def published_memory(case: Case, model: ErrorModel) -> PublishedMemory:
    """Of one run. It ran, so it needs no more than its device has: where a count says more, something is not told."""
    reading, room = case.stack.reading, case.machine.capacity_bytes
    try:
        memory = job_memory(case.job)
    except HwprofError:
        return PublishedMemory()
    need, least = READINGS[reading](memory), memory.least_bytes
    low, high = memory_interval_bytes(case.job, case.stack, model, reading=reading, names=case.memory_unsure)
    told = f"memory as told is {least / GIB:.0f} GiB of {room / GIB:.0f}: it ran, so something is not told"
    return PublishedMemory(
        gib=min(need, room) / GIB,
        interval_gib=(min(low, room) / GIB, min(high, room) / GIB),
        note=told if least > room else "",
    )
