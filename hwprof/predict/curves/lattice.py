"""How long does work of any size take between knots whose times are known? Multilinear in logarithms, never falling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import log

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OCTAVE = log(2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One size that time depends on.

    Attributes:
        name: of the size.
        lowest, highest: sizes between which there are knots. Below, time is that of the lowest; above, it grows in
            proportion, so choose a highest beyond which the base time does, too.
        knots_per_octave: how dense.
        octaves: between the knots of a correction.
        length: how far a correction reaches, in natural logarithms of the size.
        rises: whether more of it never takes less time.
    """

    name: str
    lowest: float
    highest: float
    knots_per_octave: float = 2.0
    octaves: float = 1.0
    length: float = 5.0
    rises: bool = True

    def knots(self) -> Floats:
        """Natural logarithms of the knots' sizes, evenly spaced."""
        octaves = log(self.highest / self.lowest) / OCTAVE
        return np.linspace(log(self.lowest), log(self.highest), max(2, round(octaves * self.knots_per_octave) + 1))


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Time over a lattice of sizes; read with ``at``.

    Attributes:
        first, step: natural logarithms [axes] of the first knots' sizes and of the ratio between neighbours.
        shape: knots along each axis.
        knots: [knots, 2]: natural logarithms of seconds, and of the interval's half width.
    """

    first: Floats
    step: Floats
    shape: tuple[int, ...]
    knots: Floats

    def at(self, sizes: Floats) -> tuple[Floats, Floats]:
        """Seconds, and the half width of their 90 % interval in natural logarithms, of sizes [rows, axes]."""
        place = (np.log(sizes) - self.first) / self.step
        last = np.array(self.shape, dtype=np.float64) - 1
        inside = np.clip(place, 0.0, last)
        cell = np.minimum(inside.astype(np.int64), np.array(self.shape) - 2)
        share = inside - cell
        strides = np.array([int(np.prod(self.shape[axis + 1 :])) for axis in range(len(self.shape))])
        corner = cell @ strides
        found = np.zeros((len(sizes), 2))
        for bits in product((0, 1), repeat=len(self.shape)):
            weight = np.ones(len(sizes))
            for axis, bit in enumerate(bits):
                weight *= share[:, axis] if bit else 1 - share[:, axis]
            found += weight[:, None] * self.knots[corner + int(np.dot(bits, strides))]
        beyond = (np.maximum(place - last, 0.0) * self.step).sum(axis=1)
        return np.exp(found[:, 0] + beyond), found[:, 1]


def settled(values: Floats, weights: Floats, axes: Sequence[int]) -> Floats:
    """Values near these that rise along the axes: neighbours that fall meet at their mean, again until none does.

    These are projections on one half-space after another (Bauschke and Borwein 1996), in the norm of the weights.

    Args:
        values: over a lattice.
        weights: how certain each is, above 0, of the same shape.
        axes: along which to rise.
    """
    values = values.copy()
    for _ in range(MOST_ROUNDS):
        if not any((np.diff(values, axis=axis) < -CLOSE).any() for axis in axes):
            break
        for axis in axes:
            along, certain = np.moveaxis(values, axis, 0), np.moveaxis(weights, axis, 0)
            for first in (0, 1):
                low, high = along[first:-1:2], along[first + 1 :: 2]
                some, other = certain[first:-1:2], certain[first + 1 :: 2]
                mean = (low * some + high * other) / (some + other)
                low[...], high[...] = np.where(low > high, mean, low), np.where(low > high, mean, high)
    return values


MOST_ROUNDS = 300
CLOSE = 1e-3
"""Falls of less than this are left to ``rising``, which ends them."""


def rising(values: Floats, axis: int) -> Floats:
    """The mean of the lowest rising values above and the highest below; what rises along other axes still does."""
    above = np.maximum.accumulate(values, axis=axis)
    below = np.flip(np.minimum.accumulate(np.flip(values, axis), axis=axis), axis)
    middle: Floats = (above + below) / 2
    return middle
