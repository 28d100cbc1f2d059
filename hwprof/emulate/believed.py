"""Which device does a script believe in?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """The device that the script believes in.

    Attributes:
        kind: "cuda", or "cpu" where the script is to find no accelerator.
        name: as its driver prints it.
        capability: as CUDA numbers it, or (0, 0).
        capacity_bytes: its memory.
        units: its compute units.
        devices: how many devices there are in all.
        node: how many share a host.
        expert_skew: tokens of the busiest expert over the mean, where a router chooses.
    """

    name: str
    capability: tuple[int, int]
    capacity_bytes: int
    units: int
    devices: int
    node: int
    kind: str = "cuda"
    expert_skew: float = 1.0
