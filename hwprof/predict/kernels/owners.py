"""Whose are the points of a table? Each device is read once for a table."""

from __future__ import annotations

import functools

from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.hardware.spec import DeviceSpec


@functools.lru_cache(maxsize=16)
def owners(table: KernelTable) -> tuple[tuple[DeviceSpec, KernelPoints], ...]:
    """The measured devices with their points."""
    found = ((load_device(name), table.of(name)) for name in table.devices())
    return tuple((device, points) for device, points in found if points is not None)
