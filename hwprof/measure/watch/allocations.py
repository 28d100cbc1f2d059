"""How much was allocated when? The allocator's events of a profile, of one device, at so many points as are shown."""

from __future__ import annotations

from hwprof.spans.columns import NS_PER_S, MemoryEvents

_DEVICE_TYPES = {"cpu": 0, "cuda": 1, "xpu": 12, "mps": 13, "npu": 20}
"""As torch numbers them (c10::DeviceType); AMD's GPUs are ``cuda``, too."""


def allocated_over_time(memory: MemoryEvents, kind: str) -> list[tuple[float, float]]:
    """Seconds on the trace's clock and bytes, of the devices of one kind.

    On a CPU torch adds what earlier profiles saw allocated and none saw freed; that is taken off.
    """
    mine = memory.device_type == _DEVICE_TYPES[kind]
    allocated = memory.allocated_bytes[mine]
    if kind == "cpu" and len(allocated):
        allocated = allocated - (allocated[0] - memory.changed_bytes[mine][0])
    return list(zip((memory.time_ns[mine] / NS_PER_S).tolist(), allocated.tolist(), strict=True))


def thinned(timeline: tuple[tuple[float, float], ...], most: int = 600) -> tuple[tuple[float, float], ...]:
    """At most about ``most`` points, always with the peak of each stretch."""
    if len(timeline) <= most:
        return timeline
    stride = -(-len(timeline) // most)
    stretches = (timeline[start : start + stride] for start in range(0, len(timeline), stride))
    return tuple(max(stretch, key=lambda point: point[1]) for stretch in stretches)
