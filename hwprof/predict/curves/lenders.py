"""Whose measured kernels speak for a device that has none? The one that is built most like it."""

from __future__ import annotations

from collections.abc import Callable
from math import log

from hwprof.predict.machine import architecture_of
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.hardware.spec import DeviceSpec, MatmulDtype


def lender(
    table: KernelTable, device: DeviceSpec, dtype: MatmulDtype, useful: Callable[[KernelPoints], bool]
) -> DeviceSpec | None:
    """The other device of the same vendor whose points serve best; None where there is none.

    The same chip goes before the same architecture, and both before others; among equals the nearest ratio of peak to
    memory bandwidth, then the nearest peak.

    Args:
        table: who was measured.
        device: that is asked for.
        dtype: whose peaks are compared.
        useful: whether a device's points can serve.
    """
    others = (load_device(name) for name in table.devices() if name != device.id)
    alike = (other for other in others if other.vendor == device.vendor and other.matmul_flop_per_s(dtype))
    able = (other for other in alike if (points := table.of(other.id)) is not None and useful(points))
    return min(able, key=lambda other: _unlike(device, other, dtype), default=None)


def kinship(device: DeviceSpec, other: DeviceSpec) -> int:
    """How alike two devices are built: 0 the same chip, 1 the same architecture, 2 neither."""
    if device.architecture == other.architecture:
        return 0
    return 1 if architecture_of(device) == architecture_of(other) else 2


def _unlike(device: DeviceSpec, other: DeviceSpec, dtype: MatmulDtype) -> tuple[int, float, float, str]:
    own, theirs = device.matmul_flop_per_s(dtype), other.matmul_flop_per_s(dtype)
    peaks = log(own / theirs) if own and theirs else 0.0
    memory = log(device.memory.bandwidth_byte_per_s / other.memory.bandwidth_byte_per_s)
    return (kinship(device, other), round(abs(peaks - memory), 6), round(abs(peaks), 6), other.id)
