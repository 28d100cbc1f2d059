"""By how much does arithmetic slow down when a whole step keeps a device at its power limit?

Kernels are measured alone, on a chip that is cool and has power to spare. In a step the clock falls. That is no part of
the measured points: who predicts a step passes the share of the clock that is left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import InputError
from hwprof.specs.hardware.spec import DeviceSpec

Floats = NDArray[np.float64]

LOWEST = 0.87
"""Bound: an A100 multiplies matrices of random numbers at 257 TFLOP/s and of zeros, which draw little power, at 295
(8192 x 8192 x 8192; Horace He, "Matrix multiplications on GPUs run faster when given predictable data", 2024)."""


class Sustained(NamedTuple):
    """Share of the clock that is left under sustained power, and who says so."""

    share: float
    source: str


_MEASURED = {
    "hopper": Sustained(
        794.5 / 813,
        "H100 SXM: 794.5 TFLOP/s in bf16 after warming up, 813 cold (stas00/ml-engineering, its table and pull 59)",
    ),
}
_CPU = Sustained(1.0, "a CPU's peak is stated at the clock that it sustains")


def sustained(device: DeviceSpec) -> Sustained:
    """What is left of a device's clock: as measured for its architecture, else as for Hopper (assumed)."""
    if device.kind == "cpu":
        return _CPU
    hopper = _MEASURED["hopper"]
    assumed = Sustained(hopper.share, f"assumed for {device.architecture_family} as for Hopper. {hopper.source}")
    return _MEASURED.get(device.architecture_family, assumed)


def under_power_s(alone_s: Floats, arithmetic_s: Floats, share: float) -> Floats:
    """Times of kernels under sustained power: the arithmetic at the peak, which is in them, takes 1/share as long.

    Args:
        alone_s: times of the kernels alone.
        arithmetic_s: their FLOP over the peak.
        share: of the clock that is left.

    Raises:
        InputError: the share is out of bounds.
    """
    if not LOWEST <= share <= 1:
        raise InputError(
            f"a sustained share of the clock of {share} is out of bounds",
            expectation=f"expected {LOWEST} to 1",
            remedy="take sustained(device).share, or measure one",
        )
    stretched: Floats = alone_s + (1 / share - 1) * arithmetic_s
    return stretched
