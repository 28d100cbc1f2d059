"""How long does a matrix product take on a device? Points measured on it, or on the device most like it, as a curve.

The base time is a roof with rounded corner: arithmetic at the format's peak, in part for whole waves of tiles, and the
traffic of the operands, beside the shortest time that was measured. Which tiles and how much of their waves count is
what predicts the device's points best when each is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import SpecError
from hwprof.predict.curves.kernel_time import Basis, KernelTime
from hwprof.predict.curves.lattice import Axis, Curve
from hwprof.predict.curves.lenders import lenders, lent_width
from hwprof.predict.curves.process import Prior, Process
from hwprof.predict.kernels.assumed import usual_share
from hwprof.predict.kernels.formats import FORMATS, Format, ProductFormat
from hwprof.predict.kernels.sustained import under_power_s
from hwprof.predict.kernels.tiles import TILINGS, padded_results
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.units import format_estimate

Floats = NDArray[np.float64]

USUAL_SHARE = 0.8
"""Share of the peak and of the bandwidth in the base time, from which a curve takes its points' corrections."""

INNER_HALF = 100.0
"""Inner size at which the base time's arithmetic takes twice as long: filling and draining a tile's pipeline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """``batch`` products [m, k]·[k, n] in each row; arrays of sizes."""

    m: Floats
    n: Floats
    k: Floats
    batch: Floats

    @property
    def flop(self) -> Floats:
        """Work, a multiply-add as two."""
        return 2 * self.batch * self.m * self.n * self.k

    def moved_bytes(self, kept: Format) -> Floats:
        """Operands read once and results written once."""
        operands = self.batch * (self.m * self.k + self.k * self.n)
        return operands * kept.operand_bytes + self.batch * self.m * self.n * kept.result_bytes


def product_s(
    asked: Products,
    device: DeviceSpec,
    dtype: ProductFormat,
    *,
    table: KernelTable,
    here: KernelPoints | None = None,
    sustained_share: float = 1.0,
    launched: bool = False,
) -> KernelTime:
    """Times of products on a device.

    Args:
        asked: their sizes.
        device: the device.
        dtype: format of the operands.
        table: measured products by device.
        here: points that were measured on this machine, trusted more than the table's.
        sustained_share: of the clock, under a step's sustained power; see ``under_power_s``.
        launched: with the host's launch, where the table's source has it in its times; in a step the host is ahead.

    Raises:
        SpecError: the device has no known peak for the format.
        InputError: the sustained share is out of bounds.
    """
    roof = roof_of(device, dtype)
    law = _law(device, dtype, table, here, launched=launched)
    alone_s, half_width = law.at(asked)
    if law.basis.word != "measured_here":
        alone_s = np.maximum(np.maximum(alone_s, roof.bound_s(asked)), law.least_s)
    seconds = under_power_s(alone_s, asked.flop / roof.flop_per_s, sustained_share)
    return KernelTime.around(seconds, half_width, law.basis)


@dataclass(frozen=True, slots=True)
class Way:
    """How tiles enter: ``weight`` of the time at the peak comes in whole waves of tiles of a set."""

    tiling: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """What a device offers to products of one format; ``units`` is 0 where it is not known."""

    kept: Format
    flop_per_s: float
    memory_byte_per_s: float
    units: float

    def bound_s(self, asked: Products) -> Floats:
        """What nothing beats: arithmetic at the peak, or traffic at the memory's bandwidth."""
        bound: Floats = np.maximum(asked.flop / self.flop_per_s, asked.moved_bytes(self.kept) / self.memory_byte_per_s)
        return bound

    def usual_s(self, asked: Products, floor_s: float, share: float = USUAL_SHARE) -> Floats:
        """Base time: usual shares of both rates, with a rounded corner, beside the time of the shortest kernel."""
        arithmetic_s = asked.flop * (1 + INNER_HALF / asked.k) / (share * self.flop_per_s)
        traffic_s = asked.moved_bytes(self.kept) / (USUAL_SHARE * self.memory_byte_per_s)
        usual: Floats = floor_s + np.sqrt(np.sqrt(arithmetic_s**4 + traffic_s**4))
        return usual

    def waves_s(self, asked: Products, way: Way) -> Floats | float:
        """The part of the time that goes with whole waves of tiles."""
        if way.weight == 0 or self.units == 0:
            return 0.0
        results = padded_results(asked.m, asked.n, asked.batch, units=self.units, tiles=TILINGS[way.tiling])
        return way.weight * 2 * results * asked.k / self.flop_per_s

    def even_s(self, asked: Products, way: Way) -> Floats | float:
        """The same part, if nothing were padded."""
        return way.weight * asked.flop / self.flop_per_s if self.units else 0.0


def roof_of(device: DeviceSpec, dtype: ProductFormat) -> Roof:
    """The roof of a device for products of a format.

    Raises:
        SpecError: it has no known peak for it.
    """
    kept = FORMATS[dtype]
    rate = device.matmul_flop_per_s(kept.peak)
    if rate is None:
        raise SpecError(
            f"{device.id} has no {kept.peak} peak for products",
            expectation="a device without hardware for a format runs another",
            remedy="name a format that its file has a peak for",
        )
    units = float(device.compute.units or 0)
    return Roof(kept=kept, flop_per_s=rate, memory_byte_per_s=device.memory.bandwidth_byte_per_s, units=units)


WAYS = (Way("large", 0.0), *(Way(tiling, weight) for tiling in TILINGS for weight in (0.3, 0.5)))


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """The times of one device's products of one format: a curve, and the waves' time that is exact.

    ``width`` is added to the curve's half width, in squares; ``share`` is that of the peak where there is no curve.
    No product takes less than ``least_s``, where the smallest were measured with a launch that is taken off.
    """

    roof: Roof
    floor_s: float
    way: Way
    curve: Curve | None
    width: float
    basis: Basis
    share: float
    least_s: float = 0.0

    def at(self, asked: Products) -> tuple[Floats, Floats]:
        """Seconds and the half width of their interval in natural logarithms."""
        if self.curve is None:
            return self.roof.usual_s(asked, self.floor_s, self.share), np.full(len(asked.m), self.width)
        axes = len(self.curve.shape)
        even_s, half_width = self.curve.at(_places(asked, axes))
        seconds = even_s + self.roof.waves_s(asked, self.way)
        if axes == len(BATCHED_AXES):
            return seconds, np.hypot(half_width, self.width)
        batched = asked.batch > 1
        usual_s = asked.moved_bytes(self.roof.kept) / (USUAL_SHARE * self.roof.memory_byte_per_s)
        return (
            np.where(batched, np.maximum(seconds, usual_s), seconds),
            np.hypot(half_width, np.where(batched, np.hypot(self.width, BATCH_WIDTH), self.width)),
        )


BATCH_WIDTH = 0.6
"""Half width to add for a batch where only single products were measured: what the devices on which both were show."""


def _places(asked: Products, axes: int) -> Floats:
    """Where on the axes products stand. Without an axis for it a batch is one product with as large a result."""
    if axes == len(BATCHED_AXES):
        return np.stack([asked.m, asked.n, asked.k, asked.batch], axis=1)
    side = np.sqrt(asked.batch)
    return np.stack([asked.m * side, asked.n * side, asked.k], axis=1)


AXES = (
    Axis(name="m", lowest=1, highest=2**20),
    Axis(name="n", lowest=8, highest=2**18),
    Axis(name="k", lowest=8, highest=2**18),
)
BATCHED_AXES = (
    Axis(name="m", lowest=1, highest=2**17, knots_per_octave=1.5),
    Axis(name="n", lowest=2, highest=2**17, knots_per_octave=1.5),
    Axis(name="k", lowest=2, highest=2**17, knots_per_octave=1.5),
    Axis(name="batch", lowest=1, highest=2**16, knots_per_octave=1),
)
PRIOR = Prior()

TRANSFER = (0.1, 0.25, 0.35)
"""Half width to add where another device's points serve, by ``kinship``: what leaving devices out whole shows."""

ASSUMED_WIDTH = 0.7
"""Half width where nobody measured anything like it: a factor of two either way."""

FEWEST = 20
"""So many points make a curve."""


@dataclass(frozen=True, slots=True, eq=False)
class _Lent:
    """Points of one device in one format."""

    owner: DeviceSpec
    dtype: ProductFormat
    points: KernelPoints

    def __str__(self) -> str:
        return f"{len(self.points)} {self.dtype} products measured on {self.owner.id}"


@functools.lru_cache(maxsize=64)
def _law(
    device: DeviceSpec, dtype: ProductFormat, table: KernelTable, here: KernelPoints | None, *, launched: bool
) -> Law:
    """The law of the most trusted points that there are."""
    roof = roof_of(device, dtype)
    sets = []
    if here is not None and (chosen := here.words["dtype"] == dtype).any():
        sets.append(_Measured.here(here.where(chosen), roof))
    found = _elsewhere(device, dtype, table)
    several = len(found) > 1 or bool(sets)
    for number, one in enumerate(found, start=int(several)):
        launch_s = 0.0 if launched else _launch_s(table.of(one.owner.id))
        sets.append(_Measured.lent(one.points, roof_of(one.owner, one.dtype), number, launch_s))
    if not sets:
        usual = usual_share(device)
        share = format_estimate(usual.share)
        text = f"nobody measured its products: {share} of {device.id}'s {dtype} peak, {usual.source}"
        return Law(roof, ASSUMED_FLOOR_S, WAYS[0], None, ASSUMED_WIDTH, Basis("assumed", text), usual.share)
    basis, width = _basis(device, dtype, len(sets[0].seconds) if len(sets) > len(found) else 0, found)
    law = _fitted(roof, sets, width, basis)
    without_launch = not launched and any(_timed_by_host(one.points).any() for one in found)
    return replace(law, least_s=law.floor_s) if without_launch else law


def _basis(device: DeviceSpec, dtype: ProductFormat, here: int, found: list[_Lent]) -> tuple[Basis, float]:
    """Who says the times, and what that adds to the half width."""
    said = " and ".join(map(str, found))
    if here:
        beside = f", between them {said}" if said else ""
        return Basis("measured_here", f"{here} {dtype} products measured here{beside}"), 0.0
    if found[0].owner.id == device.id and found[0].dtype == dtype:
        return Basis("measured", said), 0.0
    text = f"{said}, on their share of {device.id}'s own {dtype} peak and bandwidth"
    return Basis("sibling", text), lent_width(device, found[0].owner, TRANSFER)


ASSUMED_FLOOR_S = 5e-6
"""Shortest kernel of a device that nobody measured: launches on other devices take 2 to 12 us."""


HOST_TIMED = "sitar-lab/NeuSight"
"""Whose times reach from the host's call on: the smallest kernels of a device take alike, whatever they do (on an A100
additions 26 us and products 31, on an H100 products 24 us where the roof says 1 to 2)."""


def _timed_by_host(points: KernelPoints) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.char.startswith(points.words["source"], HOST_TIMED)
    return found


def _launch_s(points: KernelPoints | None) -> float:
    """The launch in a device's times from the host: what its shortest kernel takes longer there than by itself."""
    assert points is not None
    by_host = _timed_by_host(points)
    if not by_host.any():
        return 0.0
    shortest_s = points.seconds[~by_host].min(initial=ASSUMED_FLOOR_S)
    return float(max(points.seconds[by_host].min() - shortest_s, 0.0))


def _elsewhere(device: DeviceSpec, dtype: ProductFormat, table: KernelTable) -> list[_Lent]:
    """Whose points serve: the device's own in this format or one like it, else those of the devices most like it."""

    def serving(points: KernelPoints) -> ProductFormat | None:
        usable = (used for used in FORMATS[dtype].served_by if (points.words["dtype"] == used).sum() >= FEWEST)
        return next(usable, None)

    def lent(owner: DeviceSpec) -> _Lent:
        points = table.of(owner.id)
        assert points is not None
        used = serving(points)
        assert used is not None
        return _Lent(owner, used, points.where(points.words["dtype"] == used))

    own = table.of(device.id)
    if own is not None and serving(own) is not None:
        return [lent(device)]
    others = lenders(table, device, FORMATS[dtype].peak, lambda points: serving(points) is not None)
    return [lent(other) for other in others]


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """Measured products, the roof under which they ran, and whose they are: 0 for the device's own."""

    asked: Products
    seconds: Floats
    roof: Roof
    lender: int

    @classmethod
    def here(cls, points: KernelPoints, roof: Roof) -> _Measured:
        """Of this machine: believed before any datasheet."""
        return cls(_asked(points), points.seconds, roof, 0)

    @classmethod
    def lent(cls, points: KernelPoints, roof: Roof, lender: int, launch_s: float) -> _Measured:
        """Of others, without the launch where it is in them: those that beat the roof are not believed."""
        seconds = points.seconds - launch_s * _timed_by_host(points)
        believed = seconds >= roof.bound_s(_asked(points))
        return cls(_asked(points.where(believed)), seconds[believed], roof, lender)

    def even_s(self, way: Way) -> Floats:
        """What would have been measured if nothing were padded; not below a share of it that no padding explains."""
        padding_s = self.roof.waves_s(self.asked, way) - self.roof.even_s(self.asked, way)
        return np.maximum(self.seconds - padding_s, LEAST_EVEN * self.seconds)

    def wrong(self, floor_s: float, way: Way) -> Floats:
        """Natural logarithm of the time without padding over the base time."""
        wrong: Floats = np.log(self.even_s(way) / self.roof.usual_s(self.asked, floor_s))
        return wrong


def _asked(points: KernelPoints) -> Products:
    return Products(**{name: points.numbers[name] for name in ("m", "n", "k", "batch")})


def _fitted(roof: Roof, sets: Sequence[_Measured], width: float, basis: Basis) -> Law:
    """The law of measured products."""
    seconds = np.concatenate([one.seconds for one in sets])
    lender = np.repeat([one.lender for one in sets], [len(one.seconds) for one in sets])
    floor_s = float(seconds.min()) if len(seconds) >= FEWEST else min(ASSUMED_FLOOR_S, float(seconds.min()))
    batched = sum(int((one.asked.batch > 1).sum()) for one in sets)
    axes = BATCHED_AXES if batched >= FEWEST else AXES
    process = Process.of(axes, np.concatenate([_places(one.asked, len(axes)) for one in sets]), PRIOR, lender)
    ways = WAYS if all(one.units for one in (*(each.roof for each in sets), roof)) else WAYS[:1]
    wrong = {way: np.concatenate([one.wrong(floor_s, way) for one in sets]) for way in ways}

    def missed(way: Way) -> float:
        """Mean miss of a point when all others predict it, of the whole time."""
        share = np.concatenate([one.even_s(way) for one in sets]) / seconds
        return float(np.where(share > LEAST_EVEN, np.abs(share * process.missed(wrong[way])), 1.0).mean())

    way = min(ways, key=missed)
    curve = process.curve(
        wrong[way],
        lambda sizes: roof.usual_s(_of_sizes(sizes), floor_s),
        lambda sizes: np.broadcast_to(roof.even_s(_of_sizes(sizes), way), len(sizes)),
    )
    return Law(roof, floor_s, way, curve, width, basis, USUAL_SHARE)


LEAST_EVEN = 0.2
"""Share of a measured time that stays when padding is taken off; a way that takes more is no way."""


def _of_sizes(sizes: Floats) -> Products:
    batch = sizes[:, 3] if sizes.shape[1] == len(BATCHED_AXES) else np.ones(len(sizes))
    return Products(m=sizes[:, 0], n=sizes[:, 1], k=sizes[:, 2], batch=batch)
