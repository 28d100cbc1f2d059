"""Which devices' attention kernels speak for a device, the most like it first?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log
from typing import TypeVar

import numpy as np

from hwprof.predict.curves.lenders import kinship
from hwprof.predict.kernels.device_rates import has_newer_instructions, rates_of
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.hardware.spec import DeviceSpec

SAME_CHIP = 0
"""The nearest kinship (``lenders.kinship``)."""

FEW = 150
"""Points of each of several devices that speak together, so that all together stay few."""


Found = TypeVar("Found")
"""What else is known of the points that were found."""


def together(
    device: DeviceSpec, found: Sequence[tuple[DeviceSpec, KernelPoints, Found]]
) -> list[tuple[DeviceSpec, KernelPoints, Found]]:
    """Which of the devices found, the most like it first, speak: a twin alone, else a few of one vendor, thinned."""
    if not found or kinship(device, found[0][0]) == SAME_CHIP:
        return list(found[:1])
    kin = [one for one in found if one[0].vendor == found[0][0].vendor]
    return [(other, thinned(points), what) for other, points, what in kin[:POOL]]


POOL = 3
"""So many devices speak together for one that none of them is a twin of."""


def thinned(points: KernelPoints) -> KernelPoints:
    """About ``FEW`` of the points, evenly over their table."""
    every = -(-len(points) // FEW)
    return points.where(np.arange(len(points)) % every == 0)


def speakers(table: KernelTable, device: DeviceSpec) -> Iterator[tuple[DeviceSpec, KernelPoints]]:
    """All other measured devices with their points.

    Those of another vendor come last. The same chip comes first, then the same generation of matrix instructions, which
    decides how kernels are written: those of Hopper and of Blackwell's server chips run beside other work, those of
    Ampere, Ada and of Blackwell's desktop chips do not. Then the same architecture, and the nearest peak over bandwidth.
    """
    others = [load_device(name) for name in table.devices() if name != device.id]
    for other in sorted(others, key=lambda other: _unlike(device, other)):
        points = table.of(other.id)
        if points is not None:
            yield other, points


def _unlike(device: DeviceSpec, other: DeviceSpec) -> tuple[bool, bool, bool, int, float, float, str]:
    kin = kinship(device, other)
    own, theirs = rates_of(device), rates_of(other)
    peaks = log(own.matrix_flop_per_s / theirs.matrix_flop_per_s)
    balance = abs(peaks - log(own.memory_byte_per_s / theirs.memory_byte_per_s))
    instructions = has_newer_instructions(device) != has_newer_instructions(other)
    return (device.vendor != other.vendor, kin != SAME_CHIP, instructions, kin, round(balance, 6), abs(peaks), other.id)
