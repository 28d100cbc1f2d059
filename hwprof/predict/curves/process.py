"""Which curve goes through measured times? What a physical base time gets wrong, as a Gaussian process (kriging).

The correction is the natural logarithm of measured over base time, a process over the logarithms of the sizes with a
Matérn 3/2 covariance (Rasmussen and Williams 2006, chapter 2), evaluated at coarse knots and held constant beyond the
measured sizes. With the base it gives the times at the knots of a lattice, which are then made to rise along its axes.
The width of the interval is what leaving out one point at a time shows (the same book, equations 5.10 to 5.12).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.curves.lattice import CLOSE, OCTAVE, Axis, Curve, rising, settled

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
        alike: covariance of the points' corrections, [points, points].
        noise: variance of each point beside it.
        inverse: of both together.
    """

    axes: Sequence[Axis]
    prior: Prior
    known: Floats
    own: NDArray[np.bool_]
    alike: Floats
    noise: Floats
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
        one_lender = (owner[:, None] == owner[None, :]) & (owner > 0)
        covariance: Floats = alike * (prior.sd**2 + prior.lent_sd**2 * one_lender)
        own = owner == 0 if (owner == 0).any() else np.ones(len(known), dtype=np.bool_)
        noise = np.full(len(known), prior.noise_sd**2)
        return cls(axes, prior, known, own, covariance, noise, _inverse(covariance, noise))

    def doubting(self, wrong: Floats) -> Process:
        """The same, but points that all others together miss by far count as noise (Huber 1981, section 7.8).

        For kernels of which some ran several times too long and none can tell which.
        """
        process = self
        for _ in range(2):
            explained = np.maximum(1 / np.diag(process.inverse) - process.noise, 0.0)
            far = np.abs(process.missed(wrong)) / np.sqrt(explained + self.prior.noise_sd**2)
            noise = self.prior.noise_sd**2 * np.maximum(1.0, far / FAR) ** 2
            process = replace(process, noise=noise, inverse=_inverse(self.alike, noise))
        return process

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
        coarse = [_coarse_knots(self.known[:, number], axis.octaves) for number, axis in enumerate(self.axes)]
        shape = tuple(len(knots) for knots in coarse)
        unknown, factor = self._doubt(coarse)
        rest = _Rest(base_s, apart_s)
        rising_axes = [number for number, axis in enumerate(self.axes) if axis.rises]
        ln_s = rest.ln_s(_mesh(coarse), self._correction(_mesh(coarse), wrong)).reshape(shape)
        ln_s = settled(ln_s, 1 / unknown**2, rising_axes)
        correction = rest.correction(_mesh(coarse), ln_s.ravel()).reshape(shape)

        fine = [axis.knots() for axis in self.axes]
        spread = [_between(knots, known) for knots, known in zip(fine, coarse, strict=True)]
        ln_s = rest.ln_s(_mesh(fine), _spread(correction, spread).ravel())
        ln_s = ln_s.reshape(tuple(len(knots) for knots in fine))
        for number in rising_axes:
            ln_s = rising(ln_s, number)
        first, step = (np.array(values) for values in zip(*((one[0], one[1] - one[0]) for one in fine), strict=True))
        bare = Curve(first, step, ln_s.shape, np.stack([ln_s.ravel(), np.zeros(ln_s.size)], axis=1))
        moved = rest.correction(self.known, np.log(bare.at(np.exp(self.known))[0])) - self._fitted(wrong)
        half_width = unknown * factor(self.missed(wrong) - moved)
        return Curve(first, step, ln_s.shape, np.stack([ln_s.ravel(), _spread(half_width, spread).ravel()], axis=1))

    def _usual(self, wrong: Floats) -> float:
        return float(np.median(wrong[self.own]))

    def _weights(self, wrong: Floats) -> Floats:
        weights: Floats = self.inverse @ (wrong - self._usual(wrong))
        return weights

    def _fitted(self, wrong: Floats) -> Floats:
        """The correction at the points themselves: what they say, less the noise in it."""
        fitted: Floats = wrong - self.noise * self._weights(wrong)
        return fitted

    def _reach(self, mesh: Floats) -> Floats:
        """Covariance [knots, points] of corrections at natural logarithms of sizes with those of the points."""
        lengths = np.array([axis.length for axis in self.axes])
        reach: Floats = self.prior.sd**2 * _matern(_apart(mesh, self.known, lengths))
        return reach

    def _correction(self, mesh: Floats, wrong: Floats) -> Floats:
        """Correction at natural logarithms of sizes, in pieces that stay in the processor's caches."""
        weights = self._weights(wrong)
        pieces = [self._reach(piece) @ weights for piece in np.array_split(mesh, 1 + len(mesh) // PIECE)]
        return self._usual(wrong) + np.concatenate(pieces)

    def _doubt(self, coarse: Sequence[Floats]) -> tuple[Floats, Callable[[Floats], Floats]]:
        """Standard deviation at the coarse knots, and what to multiply it by for given misses of the points.

        Both are smooth: every other knot is enough.
        """
        sparse = [knots[::2] if len(knots) % 2 else np.append(knots[:-1:2], knots[-1]) for knots in coarse]
        shape = tuple(len(knots) for knots in sparse)
        spread = [_between(knots, known) for knots, known in zip(coarse, sparse, strict=True)]
        reach = self._reach(_mesh(sparse))
        explained = np.einsum("ij,ij->i", reach @ self.inverse, reach)
        unknown = np.sqrt(np.maximum(self.prior.sd**2 - explained, 0.0) + self.prior.noise_sd**2)

        def factor(missed: Floats) -> Floats:
            return _spread(self._factor(_mesh(sparse), missed).reshape(shape), spread)

        return _spread(unknown.reshape(shape), spread), factor

    def _factor(self, mesh: Floats, missed: Floats) -> Floats:
        """What to multiply the process's own standard deviation by to hold as many points, each left out, as it shall.

        The process says where it knows less; how much it misses nearby says where it is worse than it thinks.
        """
        if self.own.sum() < MANY:
            return np.full(len(mesh), NORMAL)
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


MANY = 20
"""Fewer own points than this tell nothing of how wide an interval must be; then it is that of a normal distribution."""

NORMAL = 1.645
"""Standard deviations on either side that hold 90 % of a normal distribution."""

PIECE = 1000
"""Knots whose corrections are computed together."""


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


FAR = 2.0
"""Standard deviations beyond which a point counts less."""

LEAST = 0.05
"""Share of the time that a curve keeps when a part of it is left out."""

NEARBY = 1.5
"""Distance in natural logarithms of sizes over which misses are averaged."""

FEW = 4.0
"""So many points of the usual miss stand beside those nearby."""


def _inverse(covariance: Floats, noise: Floats) -> Floats:
    inverse: Floats = np.linalg.inv(covariance + np.diag(noise)).astype(np.float64)
    return inverse


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


def _coarse_knots(known: Floats, octaves: float) -> Floats:
    """Knots about so many octaves apart from the smallest to the largest known size; one where all are the same."""
    lowest, highest = float(known.min()), float(known.max())
    steps = ceil((highest - lowest) / (octaves * OCTAVE) - CLOSE)
    return np.linspace(lowest, highest, steps + 1) if steps > 0 else known[:1]


def _between(wanted: Floats, known: Floats) -> Floats:
    """Matrix [wanted, known] that interpolates linearly between knots and holds the value of the ends beyond."""
    return np.stack([np.interp(wanted, known, row) for row in np.eye(len(known))], axis=1)


def _spread(values: Floats, matrices: Sequence[Floats]) -> Floats:
    for axis, matrix in enumerate(matrices):
        values = np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)
    return values
