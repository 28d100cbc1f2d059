"""What can one device do, as far as the base times of its kernels ask?"""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.specs.hardware.spec import DeviceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRates:
    """Datasheet rates of one device.

    Attributes:
        matrix_flop_per_s: dense products of 16-bit numbers; where there is no such path, of 32-bit ones.
        old_matrix_flop_per_s: the same with the instructions of 2020 alone, on devices that have newer and faster ones.
        vector_flop_per_s: plain 32-bit arithmetic.
        memory_byte_per_s: memory bandwidth.
        units: compute units that blocks of work are handed to.
        clock_hertz: boost clock; 0 where it is not known.
    """

    matrix_flop_per_s: float
    old_matrix_flop_per_s: float
    vector_flop_per_s: float
    memory_byte_per_s: float
    units: int
    clock_hertz: float


def rates_of(device: DeviceSpec) -> DeviceRates:
    """The rates of a device; of those that its file lacks, usual ones."""
    dense = device.peaks.dense
    formats = (dense.bf16_flop_per_s, dense.fp16_flop_per_s, dense.matmul_flop_per_s("fp32"))
    matrix_flop_per_s = max((rate for rate in formats if rate), default=USUAL_FLOP_PER_BYTE * _bandwidth(device))
    vector_flop_per_s = dense.fp32_flop_per_s or matrix_flop_per_s / USUAL_VECTOR
    old_flop_per_s = OLD_MATRIX * vector_flop_per_s if has_newer_instructions(device) else matrix_flop_per_s
    return DeviceRates(
        matrix_flop_per_s=matrix_flop_per_s,
        old_matrix_flop_per_s=min(matrix_flop_per_s, old_flop_per_s),
        vector_flop_per_s=vector_flop_per_s,
        memory_byte_per_s=_bandwidth(device),
        units=device.compute.units or USUAL_UNITS,
        clock_hertz=device.compute.boost_clock_hertz or 0.0,
    )


def has_newer_instructions(device: DeviceSpec) -> bool:
    """Whether matrix units run beside other work: wgmma of Hopper, tcgen05 of Blackwell's server chips (PTX ISA)."""
    return device.compute.target.startswith(("9.", "10."))


def _bandwidth(device: DeviceSpec) -> float:
    return device.memory.bandwidth_byte_per_s


OLD_MATRIX = 8.0
"""NVIDIA's matrix instructions of 2020 over plain arithmetic on Hopper and later: 2048 and 256 FLOP a clock and unit.
Kernels written for them, like flash-2, reach 70 to 75 % of this rate on H100, B200 and GB300."""

USUAL_UNITS = 128
"""Stands where a file does not say how many units there are: A100 has 108, H100 132, B200 148."""

USUAL_VECTOR = 16.0
"""Matrix rate over plain 32-bit rate where the latter is not known: 16 on A100, 15 on H100 (their datasheets)."""

USUAL_FLOP_PER_BYTE = 150.0
"""Matrix rate over bandwidth of a device with no known peak: 153 on A100."""
