"""How long do kernels take, between which times, and who says so?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BasisWord = Literal["measured_here", "measured", "sibling", "assumed"]


@dataclass(frozen=True, slots=True)
class Basis:
    """Where times are from, the most trusted first.

    ``measured_here``: probes of this machine. ``measured``: points that others measured on this device. ``sibling``:
    another device's or format's share of its roof, on this one's. ``assumed``: the roof with an assumed share.

    Attributes:
        word: which of them.
        text: the same in words for people, with the device that lent its points and what is assumed.
    """

    word: BasisWord
    text: str


@dataclass(frozen=True, slots=True)
class KernelTime:
    """Times of kernels, arrays of one a row, and the 90 % interval around each."""

    seconds: Floats
    lo_s: Floats
    hi_s: Floats
    basis: Basis

    @classmethod
    def around(cls, seconds: Floats, half_width: Floats, basis: Basis) -> KernelTime:
        """With an interval that is as wide on both sides in the logarithm: ``half_width`` is natural."""
        factor = np.exp(half_width)
        return cls(seconds, seconds / factor, seconds * factor, basis)

    def at(self, rows: NDArray[np.int64]) -> KernelTime:
        """The times of these rows, which may repeat."""
        return KernelTime(self.seconds[rows], self.lo_s[rows], self.hi_s[rows], self.basis)

    def at_least(self, seconds: Floats) -> KernelTime:
        """The times, none shorter than ``seconds``; where that is longer, the interval moves with it."""
        return self.times(np.maximum(seconds / self.seconds, 1.0))

    def times(self, factor: Floats) -> KernelTime:
        """The times of parts or multiples of the kernels."""
        return KernelTime(self.seconds * factor, self.lo_s * factor, self.hi_s * factor, self.basis)
