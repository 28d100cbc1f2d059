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

from hwprof.predict.curves.lattice import OCTAVE, Axis, Curve, rising, settled

Floats = NDArray[np.float64]
Owners = NDArray[np.int64] | NDArray[np.bool_]

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

    ``lent`` says whose each point is: 0 the device's own, other numbers others'. None: all are of one kind.
    """

    sizes: Floats
    seconds: Floats
    base_s: Floats
    lent: Owners | None = None


def curve(axes: Sequence[Axis], points: Points, base_s: Callable[[Floats], Floats], prior: Prior) -> Curve:
    """The curve through measured points.

    Args:
        axes: one for each column of the sizes.
        points: at least three; their own ``base_s`` may be that of another device, whose share of it is taken over.
        base_s: base time in seconds of sizes [rows, axes] on the device asked for; rises along the axes that do.
        prior: how far points may be from the base.
    """
    process = Process.of(axes, points.sizes, prior, points.lent)
    return process.curve(np.log(points.seconds / points.base_s), base_s)


@dataclass(frozen=True, slots=True, eq=False)
class Process:
    """What points at some sizes say of all others, whatever their corrections turn out to be.

    Attributes:
        axes, prior: as given.
        known: natural logarithms of the points' sizes, [points, axes].
        own: which points are the device's own.
        inverse: of the points' covariance, [points, points].
    """

    axes: Sequence[Axis]
    prior: Prior
    known: Floats
    own: NDArray[np.bool_]
    inverse: Floats

    @classmethod
    def of(cls, axes: Sequence[Axis], sizes: Floats, prior: Prior, lent: Owners | None = None) -> Process:
        """The process of points of these sizes [points, axes]; ``lent`` as in ``Points``.

        What one lender's points have in common may be its own: lent points count less than own ones, and several
        lenders for more than one.
        """
        known = np.log(sizes)
        owner = np.zeros(len(known), dtype=np.int64) if lent is None else lent.astype(np.int64)
        alike = _matern(_apart(known, known, np.array([axis.length for axis in axes])))
        covariance = prior.sd**2 * alike + prior.noise_sd**2 * np.eye(len(known))
        covariance += prior.lent_sd**2 * alike * ((owner[:, None] == owner[None, :]) & (owner > 0))
        own = owner == 0 if (owner == 0).any() else np.ones(len(known), dtype=np.bool_)
        return cls(axes, prior, known, own, np.linalg.inv(covariance).astype(np.float64))

    def missed(self, wrong: Floats) -> Floats:
        """By how much each point is missed, in natural logarithms, when all others predict it (their equation 5.12)."""
        missed: Floats = self._weights(wrong) / np.diag(self.inverse)
        return missed

    def curve(
        self, wrong: Floats, base_s: Callable[[Floats], Floats], apart_s: Callable[[Floats], Floats] | None = None
    ) -> Curve:
        """The curve of points that are ``wrong``, ln(measured / base), over base times in seconds.

        ``apart_s`` is a part of the time, rising with the sizes, that the curve leaves out: who reads it adds that.
        """
        coarse = [_coarse_knots(self.known[:, axis]) for axis in range(len(self.axes))]
        fine = [axis.knots() for axis in self.axes]
        spread = [_between(knots, known) for knots, known in zip(fine, coarse, strict=True)]
        shape = tuple(len(knots) for knots in coarse)
        correction, unknown = self._at(_mesh(coarse), wrong)
        rest = _Rest(base_s, apart_s)
        rising_axes = [number for number, axis in enumerate(self.axes) if axis.rises]
        ln_s = rest.ln_s(_mesh(coarse), correction).reshape(shape)
        ln_s = settled(ln_s, 1 / unknown.reshape(shape) ** 2, rising_axes)
        correction = rest.correction(_mesh(coarse), ln_s.ravel())
        ln_s = rest.ln_s(_mesh(fine), _spread(correction.reshape(shape), spread).ravel())
        ln_s = ln_s.reshape(tuple(len(knots) for knots in fine))
        for number in rising_axes:
            ln_s = rising(ln_s, number)

        first, step = (np.array(values) for values in zip(*((one[0], one[1] - one[0]) for one in fine), strict=True))
        bare = Curve(first, step, ln_s.shape, np.stack([ln_s.ravel(), np.zeros(ln_s.size)], axis=1))
        moved = rest.correction(self.known, np.log(bare.at(np.exp(self.known))[0])) - self._fitted(wrong)
        half_width = (unknown * self._factor(_mesh(coarse), self.missed(wrong) - moved)).reshape(shape)
        return Curve(first, step, ln_s.shape, np.stack([ln_s.ravel(), _spread(half_width, spread).ravel()], axis=1))

    def _usual(self, wrong: Floats) -> float:
        return float(np.median(wrong[self.own]))

    def _weights(self, wrong: Floats) -> Floats:
        weights: Floats = self.inverse @ (wrong - self._usual(wrong))
        return weights

    def _fitted(self, wrong: Floats) -> Floats:
        """The correction at the points themselves: what they say, less the noise in it."""
        fitted: Floats = wrong - self.prior.noise_sd**2 * self._weights(wrong)
        return fitted

    def _at(self, mesh: Floats, wrong: Floats) -> tuple[Floats, Floats]:
        """Correction and its standard deviation at natural logarithms of sizes."""
        lengths = np.array([axis.length for axis in self.axes])
        reach = self.prior.sd**2 * _matern(_apart(mesh, self.known, lengths))
        correction = self._usual(wrong) + reach @ self._weights(wrong)
        explained = np.einsum("ij,ij->i", reach @ self.inverse, reach)
        return correction, np.sqrt(np.maximum(self.prior.sd**2 - explained, 0.0) + self.prior.noise_sd**2)

    def _factor(self, mesh: Floats, missed: Floats) -> Floats:
        """What to multiply the process's own standard deviation by to hold as many points, each left out, as it shall.

        The process says where it knows less; how much it misses nearby says where it is worse than it thinks.
        """
        ratio = np.abs(missed) * np.sqrt(np.diag(self.inverse))
        usual = float(ratio[self.own].mean())

        def nearby(wanted: Floats, *, itself: bool) -> Floats:
            weight = self.own * np.exp(-0.5 * _apart(wanted, self.known, np.full(self.known.shape[1], NEARBY)) ** 2)
            if not itself:
                np.fill_diagonal(weight, 0.0)
            mean: Floats = (weight @ ratio + FEW * usual) / (weight.sum(axis=1) + FEW)
            return mean

        factor = float(np.quantile((ratio / nearby(self.known, itself=False))[self.own], COVERED))
        return factor * nearby(mesh, itself=True)


@dataclass(frozen=True, slots=True)
class _Rest:
    """The time that a curve keeps: base and correction, less the part that is left out."""

    base_s: Callable[[Floats], Floats]
    apart_s: Callable[[Floats], Floats] | None

    def ln_s(self, mesh: Floats, correction: Floats) -> Floats:
        """Natural logarithm of the kept seconds at natural logarithms of sizes."""
        seconds = self.base_s(np.exp(mesh)) * np.exp(correction)
        if self.apart_s is not None:
            seconds = np.maximum(seconds - self.apart_s(np.exp(mesh)), LEAST * seconds)
        kept: Floats = np.log(seconds)
        return kept

    def correction(self, mesh: Floats, ln_s: Floats) -> Floats:
        """The correction that keeps these seconds."""
        apart_s = self.apart_s(np.exp(mesh)) if self.apart_s is not None else 0.0
        correction: Floats = np.log((np.exp(ln_s) + apart_s) / self.base_s(np.exp(mesh)))
        return correction


LEAST = 0.05
"""Share of the time that a curve keeps when a part of it is left out."""

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
