"""Which curve goes through measured times? What a physical base time gets wrong, as a Gaussian process (kriging).

The correction is the natural logarithm of measured over base time, a process over the logarithms of the sizes with a
Matérn 3/2 covariance (Rasmussen and Williams 2006, chapter 2), evaluated at coarse knots and held constant beyond the
measured sizes. With the base it gives the times at the knots of a lattice, which are then made to rise along its axes.
The width of the interval is what leaving out one point at a time shows (the same book, equations 5.10 to 5.12).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.curves.lattice import OCTAVE, Axis, Curve, rising

Floats = NDArray[np.float64]

COVERED = 0.9
"""Share of the measurements that an interval shall hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is known of a correction before it is measured, in natural logarithms of time.

    Attributes:
        sd: how wrong the base time is.
        noise_sd: how far repeated measurements and neighbouring shapes scatter.
        lent_sd: how far points of another device or machine are from this one's.
    """

    sd: float = 0.45
    noise_sd: float = 0.06
    lent_sd: float = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Measured sizes [points, axes], their times, and the base times that they are compared with.

    ``lent`` says which points are another's, where some are and some are not.
    """

    sizes: Floats
    seconds: Floats
    base_s: Floats
    lent: NDArray[np.bool_] | None = None


def curve(axes: Sequence[Axis], points: Points, base_s: Callable[[Floats], Floats], prior: Prior) -> Curve:
    """The curve through measured points.

    Args:
        axes: one for each column of the sizes.
        points: at least three; their own ``base_s`` may be that of another device, whose share of it is taken over.
        base_s: base time in seconds of sizes [rows, axes] on the device asked for; rises along the axes that do.
        prior: how far points may be from the base.
    """
    fine = [axis.knots() for axis in axes]
    mesh = np.exp(_mesh(fine))
    shape = tuple(len(knots) for knots in fine)
    coarse, correction, half_width = _correction(axes, points, prior)
    spread = [_between(knots, known) for knots, known in zip(fine, coarse, strict=True)]
    ln_s = np.log(base_s(mesh)).reshape(shape) + _spread(correction, spread)
    for number, axis in enumerate(axes):
        ln_s = rising(ln_s, number) if axis.rises else ln_s
    knots = np.stack([ln_s.ravel(), _spread(half_width, spread).ravel()], axis=1)
    first, step = (np.array(values) for values in zip(*((one[0], one[1] - one[0]) for one in fine), strict=True))
    return Curve(first, step, shape, knots)


def _correction(axes: Sequence[Axis], points: Points, prior: Prior) -> tuple[list[Floats], Floats, Floats]:
    """Coarse knots inside the measured sizes, and at them the correction and the interval's half width."""
    lengths = np.array([axis.length for axis in axes])
    known = np.log(points.sizes)
    wrong = np.log(points.seconds / points.base_s)
    usual = float(np.median(wrong))
    alike = _matern(_apart(known, known, lengths))
    covariance = prior.sd**2 * alike
    if points.lent is not None and not points.lent.all():
        covariance += prior.lent_sd**2 * alike * np.outer(points.lent, points.lent)
    inverse: Floats = np.linalg.inv(covariance + prior.noise_sd**2 * np.eye(len(known))).astype(np.float64)
    weights = inverse @ (wrong - usual)
    coarse = [_coarse_knots(known[:, axis]) for axis in range(len(axes))]
    mesh = _mesh(coarse)
    reach = prior.sd**2 * _matern(_apart(mesh, known, lengths))
    shape = tuple(len(knots) for knots in coarse)
    missed = np.abs(weights) / np.diag(inverse)
    half_width = _half_width(mesh, known, (reach, inverse, prior), missed)
    return coarse, (usual + reach @ weights).reshape(shape), half_width.reshape(shape)


def _half_width(mesh: Floats, known: Floats, process: tuple[Floats, Floats, Prior], missed: Floats) -> Floats:
    """Half width at the knots such that as many points lie inside, each left out once, as an interval shall hold.

    The process says where it knows less; how much it misses nearby says where it is worse than it thinks.
    """
    reach, inverse, prior = process
    ratio = missed * np.sqrt(np.diag(inverse))
    usual = float(ratio.mean())

    def nearby(wanted: Floats, *, itself: bool) -> Floats:
        weight = np.exp(-0.5 * _apart(wanted, known, np.full(known.shape[1], NEARBY)) ** 2)
        if not itself:
            np.fill_diagonal(weight, 0.0)
        mean: Floats = (weight @ ratio + FEW * usual) / (weight.sum(axis=1) + FEW)
        return mean

    factor = float(np.quantile(ratio / nearby(known, itself=False), COVERED))
    explained = np.einsum("ij,ij->i", reach @ inverse, reach)
    unknown = np.sqrt(np.maximum(prior.sd**2 - explained, 0.0) + prior.noise_sd**2)
    half_width: Floats = factor * nearby(mesh, itself=True) * unknown
    return half_width


NEARBY = 1.5
"""Distance in natural logarithms of sizes over which misses are averaged."""

FEW = 4.0
"""So many points of the usual miss stand beside those nearby."""


def _mesh(knots: Sequence[Floats]) -> Floats:
    """All combinations [knots, axes]."""
    return np.stack(np.meshgrid(*knots, indexing="ij"), axis=-1).reshape(-1, len(knots))


def _apart(left: Floats, right: Floats, lengths: Floats) -> Floats:
    """Distances [left, right] in lengths."""
    one, other = left / lengths, right / lengths
    square = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None, :] - 2 * one @ other.T
    distances: Floats = np.sqrt(np.maximum(square, 0.0))
    return distances


def _matern(apart: Floats) -> Floats:
    scaled = sqrt(3.0) * apart
    correlation: Floats = (1 + scaled) * np.exp(-scaled)
    return correlation


def _coarse_knots(known: Floats) -> Floats:
    """About one knot an octave from the smallest to the largest measured size; one where all are the same."""
    lowest, highest = float(known.min()), float(known.max())
    return np.linspace(lowest, highest, round((highest - lowest) / OCTAVE) + 1) if highest > lowest else known[:1]


def _between(wanted: Floats, known: Floats) -> Floats:
    """Matrix [wanted, known] that interpolates linearly between knots and holds the value of the ends beyond."""
    return np.stack([np.interp(wanted, known, row) for row in np.eye(len(known))], axis=1)


def _spread(values: Floats, matrices: Sequence[Floats]) -> Floats:
    for axis, matrix in enumerate(matrices):
        values = np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)
    return values
