"""Whose measured kernels speak for a device that has none? The one that is built most like it."""

from __future__ import annotations

from collections.abc import Callable
from math import log

from hwprof.predict.machine import architecture_of
from hwprof.specs.catalogue.kernel_points import KernelPoints, Kind, kernel_points, measured_devices
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.hardware.spec import DeviceSpec, MatmulDtype


def lender(
    kind: Kind, device: DeviceSpec, dtype: MatmulDtype, useful: Callable[[KernelPoints], bool]
) -> DeviceSpec | None:
    """The other device with useful points of a kind that is most like this one; None where there is none.

    The same architecture goes before the same vendor, and both before all others; among equals the nearest ratio of
    peak to memory bandwidth, then the nearest peak.

    Args:
        kind: of kernel.
        device: that is asked for.
        dtype: whose peaks are compared.
        useful: whether a device's points can serve.
    """
    others = [name for name in measured_devices(kind) if name != device.id]
    able = [load_device(name) for name in others if (points := kernel_points(kind, name)) and useful(points)]
    return min(able, key=lambda other: _unlike(device, other, dtype), default=None)


def _unlike(device: DeviceSpec, other: DeviceSpec, dtype: MatmulDtype) -> tuple[bool, bool, float, float, str]:
    own, theirs = device.matmul_flop_per_s(dtype), other.matmul_flop_per_s(dtype)
    peaks = abs(log(own / theirs)) if own and theirs else UNKNOWN
    memory = log(device.memory.bandwidth_byte_per_s / other.memory.bandwidth_byte_per_s)
    balance = abs(log(own / theirs) - memory) if own and theirs else UNKNOWN
    family = architecture_of(device) == architecture_of(other)
    return (not family, device.vendor != other.vendor, round(balance, 6), round(peaks, 6), other.id)


UNKNOWN = 100.0
"""Stands for a distance that can't be taken, behind all others."""
