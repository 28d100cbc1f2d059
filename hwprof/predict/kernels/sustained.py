"""By how much does arithmetic slow down when a whole step keeps a device at its power limit?

Kernels are measured alone, on a chip that is cool and has power to spare. In a step the clock falls. That is no part of
the measured points: who predicts a step passes the share of the clock that is left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import InputError

Floats = NDArray[np.float64]

LOWEST = 0.87
"""Bound: an A100 multiplies matrices of random numbers at 257 TFLOP/s and of zeros, which draw little power, at 295
(8192 x 8192 x 8192; Horace He, "Matrix multiplications on GPUs run faster when given predictable data", 2024)."""


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
            remedy="measure products in a loop of seconds, against some run alone",
        )
    stretched: Floats = alone_s + (1 / share - 1) * arithmetic_s
    return stretched
