"""Which devices' attention kernels speak for a device, the most like it first?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log
from typing import TypeVar

import numpy as np

from hwprof.predict.curves.lenders import kinship
from hwprof.predict.kernels.device_rates import rates_of
from hwprof.predict.kernels.owners import owners
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.hardware.spec import DeviceSpec

SAME_CHIP, SAME_INSTRUCTIONS = 0, 1
"""The nearest kinships (``lenders.kinship``)."""

FEW = 150
"""Points of each of several devices that speak together, so that all together stay few."""


Found = TypeVar("Found")
"""What else is known of the points that were found."""


def together(
    device: DeviceSpec, found: Sequence[tuple[DeviceSpec, KernelPoints, Found]]
) -> list[tuple[DeviceSpec, KernelPoints, Found]]:
    """Which of the devices found, the most like it first, speak: a twin alone, else a few, thinned.

    Those of its architecture with the same instructions, if there are any; else all of the vendor.
    """
    if not found or kinship(device, found[0][0]) == SAME_CHIP:
        return list(found[:1])
    close = [one for one in found if kinship(device, one[0]) == SAME_INSTRUCTIONS and _one_family(device, one[0])]
    kin = close or [one for one in found if one[0].vendor == found[0][0].vendor]
    return [(other, thinned(points), what) for other, points, what in kin[:POOL]]


def _one_family(device: DeviceSpec, other: DeviceSpec) -> bool:
    return device.architecture_family == other.architecture_family


POOL = 3
"""So many devices speak together for one that none of them is a twin of."""


def thinned(points: KernelPoints) -> KernelPoints:
    """About ``FEW`` of the points, evenly over their table."""
    every = -(-len(points) // FEW)
    return points.where(np.arange(len(points)) % every == 0)


def speakers(table: KernelTable, device: DeviceSpec) -> Iterator[tuple[DeviceSpec, KernelPoints]]:
    """All other measured devices with their points.

    The same vendor goes first, among them the nearest ``kinship``, then the nearest ratio of peak to memory bandwidth.
    """
    others = [one for one in owners(table) if one[0].id != device.id]
    yield from sorted(others, key=lambda one: _unlike(device, one[0]))


def _unlike(device: DeviceSpec, other: DeviceSpec) -> tuple[bool, int, float, float, str]:
    own, theirs = rates_of(device), rates_of(other)
    peaks = log(own.matrix_flop_per_s / theirs.matrix_flop_per_s)
    balance = abs(peaks - log(own.memory_byte_per_s / theirs.memory_byte_per_s))
    return (device.vendor != other.vendor, kinship(device, other), round(balance, 6), round(abs(peaks), 6), other.id)
