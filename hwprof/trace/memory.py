"""How full was the memory? The allocator's counters, by device."""

from __future__ import annotations

import numpy as np

from hwprof.spans.columns import NS, Trace
from hwprof.specs.record.trace import TraceMemory
from hwprof.trace.calls import Calls
from hwprof.trace.idle import enclosing
from hwprof.trace.windows import Windows

_DEVICE_TYPES = {0: "cpu", 1: "cuda", 6: "hip", 12: "xpu", 13: "mps", 20: "privateuse1"}
"""torch's c10::DeviceType."""


def memory(trace: Trace, calls: Calls, steps: Windows | None) -> tuple[TraceMemory, ...]:
    """The peak of each device and where it was; growth from step to step, which a steady loop does not have."""
    events = trace.memory
    known = events.allocated_bytes >= 0
    keys = sorted({*zip(events.device_type[known].tolist(), events.device[known].tolist(), strict=True)})
    return tuple(_device(trace, calls, steps, *key) for key in keys)


def _device(trace: Trace, calls: Calls, steps: Windows | None, device_type: int, device: int) -> TraceMemory:
    events = trace.memory
    mine = np.flatnonzero(
        (events.device_type == device_type) & (events.device == device) & (events.allocated_bytes >= 0)
    )
    allocated, times = events.allocated_bytes[mine], events.time_ns[mine]
    peak = int(np.argmax(allocated))
    reserved = int(events.reserved_bytes[mine].max())
    place = enclosing(trace, calls, events.thread[mine[peak : peak + 1]], times[peak : peak + 1])[0]
    kind = _DEVICE_TYPES.get(device_type, f"device type {device_type}")
    return TraceMemory(
        device=kind if device < 0 else f"{kind}:{device}",
        peak_allocated_bytes=float(allocated[peak]),
        peak_reserved_bytes=float(reserved) if reserved > 0 else None,
        peak_at_s=float(times[peak]) * NS,
        peak_in=_place(trace, calls, int(place)),
        first_allocated_bytes=float(allocated[0]),
        last_allocated_bytes=float(allocated[-1]),
        growth_bytes_per_step=_growth(times, allocated, steps),
    )


def _place(trace: Trace, calls: Calls, place: int) -> str:
    if place < 0:
        return ""
    words = (calls.labels[calls.label[place]], trace.names[trace.host.name[place]])
    return " ".join(dict.fromkeys(word for word in words if word))


def _growth(
    times: np.ndarray[tuple[int], np.dtype[np.int64]], allocated: object, steps: Windows | None
) -> float | None:
    """Mean change between the ends of the steps; None with fewer than two steps."""
    if steps is None or len(steps.ends_ns) < 2:
        return None
    last = np.searchsorted(times, steps.ends_ns, side="right") - 1
    at_ends = np.asarray(allocated)[last[last >= 0]]
    return float(at_ends[-1] - at_ends[0]) / (len(at_ends) - 1) if len(at_ends) > 1 else None
