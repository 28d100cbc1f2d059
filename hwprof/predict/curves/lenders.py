"""Whose measured kernels speak for a device that has none? Those that are built most like it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import hypot, log

from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.hardware.spec import DeviceSpec, MatmulDtype


def lenders(
    table: KernelTable, device: DeviceSpec, dtype: MatmulDtype, useful: Callable[[KernelPoints], bool]
) -> list[DeviceSpec]:
    """The other devices of the same vendor whose points serve best: one with the same chip, else two that are alike.

    The nearest by ``kinship``; among equals by the ratio of peak to memory bandwidth.

    Args:
        table: who was measured.
        device: that is asked for.
        dtype: whose peaks are compared.
        useful: whether a device's points can serve.
    """
    others = (load_device(name) for name in table.devices() if name != device.id)
    alike = (other for other in others if other.vendor == device.vendor and other.matmul_flop_per_s(dtype))
    able = [other for other in alike if (points := table.of(other.id)) is not None and useful(points)]
    able.sort(key=lambda other: _unlike(device, other, dtype))
    nearest = [other for other in able if kinship(device, other) == kinship(device, able[0])]
    return nearest[:1] if nearest and kinship(device, nearest[0]) == 0 else nearest[:2]


def kinship(device: DeviceSpec, other: DeviceSpec) -> int:
    """How alike two devices are built: 0 the same chip, 1 the same instructions for products, 2 neither."""
    if device.architecture == other.architecture:
        return 0
    return 1 if _products_by(device) == _products_by(other) else 2


def lent_width(device: DeviceSpec, other: DeviceSpec, by_kinship: Sequence[float]) -> float:
    """Half width, in natural logarithms, to add where another device's points serve.

    Wider where the device has less power for each FLOP than the lender: an L4 (72 W) runs single-precision products at
    30 % of its peak where a V100 (250 W) reaches 90 %.
    """
    short = 0.0
    if device.compute.tdp_watt and other.compute.tdp_watt:
        own, theirs = (_fp32_flop_per_joule(one, one.compute.tdp_watt or 0.0) for one in (device, other))
        short = max(0.0, log(own / theirs)) if own and theirs else 0.0
    return hypot(by_kinship[kinship(device, other)], POWER_WIDTH * short)


POWER_WIDTH = 0.5
"""Half width for each e-fold less of power for a FLOP: half of what would be lost if power alone bounded the clock."""


def _fp32_flop_per_joule(device: DeviceSpec, tdp_watt: float) -> float:
    return (device.matmul_flop_per_s("fp32") or 0.0) / tdp_watt


def _products_by(device: DeviceSpec) -> str:
    """Which instructions a device has for products of tiles.

    NVIDIA: of a warp (``mma.sync``, from compute capability 7.0 on, also 12.x), of a warp group (``wgmma``, 9.0), of
    tensor memory (``tcgen05``, 10.x); PTX ISA 8.8, section 9.7.14 on. Others: those of the architecture.
    """
    major = device.compute.target.partition(".")[0]
    if device.vendor == "NVIDIA" and major in {"7", "8", "12"}:
        return "mma"
    return major if device.vendor == "NVIDIA" else device.architecture_family


def _unlike(device: DeviceSpec, other: DeviceSpec, dtype: MatmulDtype) -> tuple[int, float, float, str]:
    own, theirs = device.matmul_flop_per_s(dtype), other.matmul_flop_per_s(dtype)
    peaks = log(own / theirs) if own and theirs else 0.0
    memory = log(device.memory.bandwidth_byte_per_s / other.memory.bandwidth_byte_per_s)
    return (kinship(device, other), round(abs(peaks - memory), 6), round(abs(peaks), 6), other.id)
