"""Whose measured kernels speak for a device that has none? Those that are built most like it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import hypot, log

from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.hardware.spec import DeviceSpec, MatmulDtype


def lenders(
    table: KernelTable,
    device: DeviceSpec,
    dtype: MatmulDtype,
    useful: Callable[[KernelPoints], bool],
    *,
    by_instructions: bool = True,
) -> list[DeviceSpec]:
    """The other devices of the same vendor whose points serve best: one with the same chip, else two that are alike.

    The nearest by ``kinship``, which is no matter in single and double precision, where there are no such instructions;
    among equals by the ratios of peak to memory bandwidth and of power to peak.

    Args:
        table: who was measured.
        device: that is asked for.
        dtype: whose peaks are compared.
        useful: whether a device's points can serve.
        by_instructions: whether those go first that have the same instructions for products.
    """
    others = (load_device(name) for name in table.devices() if name != device.id)
    alike = (other for other in others if other.vendor == device.vendor and other.matmul_flop_per_s(dtype))
    able = [other for other in alike if (points := table.of(other.id)) is not None and useful(points)]
    furthest = 2 if by_instructions else 1
    near = {other.id: min(_kin(device, other, dtype), furthest) for other in able}
    able.sort(key=lambda other: (near[other.id], _unlike(device, other, dtype), other.id))
    nearest = [other for other in able if near[other.id] == near[able[0].id]]
    return nearest[:1] if nearest and near[nearest[0].id] == 0 else nearest[:2]


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
    return hypot(by_kinship[kinship(device, other)], POWER_WIDTH * max(0.0, _less_power(device, other)))


POWER_WIDTH = 0.5
"""Half width for each e-fold less of power for a FLOP: half of what would be lost if power alone bounded the clock."""


def _less_power(device: DeviceSpec, other: DeviceSpec) -> float:
    """Natural logarithm of the other's power for a FLOP (single precision) over the device's; 0 where not known."""
    flop_per_joule = [
        (one.matmul_flop_per_s("fp32") or 0.0) / one.compute.tdp_watt for one in (device, other) if one.compute.tdp_watt
    ]
    return log(flop_per_joule[0] / flop_per_joule[1]) if len(flop_per_joule) == 2 and all(flop_per_joule) else 0.0


def _products_by(device: DeviceSpec) -> str:
    """Which instructions a device has for products of tiles.

    NVIDIA: of a warp (``mma.sync``, from compute capability 7.0 on, also 12.x), of a warp group (``wgmma``, 9.0), of
    tensor memory (``tcgen05``, 10.x); PTX ISA 8.8, section 9.7.14 on. Others: those of the architecture.
    """
    major = device.compute.target.partition(".")[0]
    if device.vendor == "NVIDIA" and major in {"7", "8", "12"}:
        return "mma"
    return major if device.vendor == "NVIDIA" else device.architecture_family


def _kin(device: DeviceSpec, other: DeviceSpec, dtype: MatmulDtype) -> int:
    kin = kinship(device, other)
    return min(kin, 1) if dtype in {"fp32", "fp64"} else kin


def _unlike(device: DeviceSpec, other: DeviceSpec, dtype: MatmulDtype) -> float:
    own, theirs = device.matmul_flop_per_s(dtype), other.matmul_flop_per_s(dtype)
    peaks = log(own / theirs) if own and theirs else 0.0
    memory = log(device.memory.bandwidth_byte_per_s / other.memory.bandwidth_byte_per_s)
    return round(abs(peaks - memory) + abs(_less_power(device, other)), 6)
