"""How long do the routed experts of a rank take? The three products of gated feed-forward networks, as one curve.

Tables of measured expert layers hold the gate's, the up and the down projection of all experts of a rank together. The
base time is a roof: the experts' padded rows at a share of the peak, and the traffic of the weights of the experts that
get rows at all. Some measured kernels ran several times too long and none can tell which: those count as noise.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.curves.kernel_time import Basis, KernelTime
from hwprof.predict.curves.lattice import Axis, Curve
from hwprof.predict.curves.lenders import lenders, lent_width
from hwprof.predict.curves.process import Prior, Process
from hwprof.predict.kernels.expert_loads import busiest_over_mean
from hwprof.predict.kernels.formats import FORMATS, ProductFormat
from hwprof.predict.kernels.products import Roof, roof_of
from hwprof.predict.kernels.sustained import under_power_s
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.units import format_estimate

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Routed experts of one rank in each row; arrays of sizes.

    Attributes:
        rows: copies of tokens that they get, of all together.
        experts: that the rank holds.
        hidden: width of the model.
        width: of an expert on this rank (its feed-forward width over the tensor ranks).
        ranks: over which the layer's experts are spread.
    """

    rows: Floats
    experts: Floats
    hidden: Floats
    width: Floats
    ranks: Floats

    @property
    def flop(self) -> Floats:
        """Work of the three products of the forward pass."""
        return 6 * self.rows * self.hidden * self.width

    @property
    def active(self) -> Floats:
        """Experts that get a row when rows are spread evenly at random."""
        active: Floats = -self.experts * np.expm1(-self.rows / self.experts)
        return active

    def moved_bytes(self, roof: Roof, active: Floats) -> Floats:
        """Weights of so many experts, the rows in and out, and what stands between the products."""
        weights = 3 * active * self.hidden * self.width * roof.kept.operand_bytes
        return weights + self.rows * (2 * self.hidden + 3 * self.width) * roof.kept.result_bytes


def experts_s(
    asked: Experts,
    device: DeviceSpec,
    dtype: ProductFormat,
    *,
    table: KernelTable,
    even: bool = True,
    sustained_share: float = 1.0,
) -> KernelTime:
    """Times of the forward pass of routed experts.

    Args:
        asked: their sizes.
        device: the device.
        dtype: format of the operands.
        table: measured expert layers by device.
        even: whether all experts get as many rows.
        sustained_share: of the clock, under a step's sustained power; see ``under_power_s``.

    Raises:
        SpecError: the device has no known peak for the format.
        InputError: the sustained share is out of bounds.
    """
    roof = roof_of(device, dtype)
    law = _law(device, dtype, table, even)
    alone_s, half_width = law.at(asked)
    seconds = under_power_s(
        np.maximum(alone_s, _bound_s(asked, roof, even=even)), asked.flop / roof.flop_per_s, sustained_share
    )
    return KernelTime.around(seconds, half_width, law.basis)


def _bound_s(asked: Experts, roof: Roof, *, even: bool) -> Floats:
    """What nothing beats. Where loads are uneven, one expert may have all rows, so that no other weights are read."""
    active = asked.active if even else np.minimum(asked.active, 1.0)
    moved_bytes = asked.moved_bytes(roof, active)
    bound: Floats = np.maximum(asked.flop / roof.flop_per_s, moved_bytes / roof.memory_byte_per_s)
    return bound


def _usual_s(asked: Experts, roof: Roof, floor_s: float) -> Floats:
    """Base time: usual shares of both rates, with a rounded corner, beside the time of the shortest measured layer."""
    padded = np.maximum(asked.active * TILE_ROWS, asked.rows + asked.active * TILE_ROWS / 2)
    arithmetic_s = 6 * padded * asked.hidden * asked.width / (ARITHMETIC_SHARE * roof.flop_per_s)
    traffic_s = asked.moved_bytes(roof, asked.active) / (TRAFFIC_SHARE * roof.memory_byte_per_s)
    usual: Floats = floor_s + np.sqrt(np.sqrt(arithmetic_s**4 + traffic_s**4))
    return usual


TILE_ROWS = 64
"""Rows of each active expert are padded to so many: at least one tile, half of one in the mean."""

ARITHMETIC_SHARE, TRAFFIC_SHARE = 0.6, 0.8
"""Shares of the peak and of the bandwidth in the base time."""

AXES = (
    Axis(name="rows", lowest=0.25, highest=2**20),
    Axis(name="experts", lowest=1, highest=512, knots_per_octave=1),
    Axis(name="hidden", lowest=1024, highest=16384, knots_per_octave=1),
    Axis(name="width", lowest=16, highest=32768, knots_per_octave=1),
    Axis(name="ranks", lowest=1, highest=256, knots_per_octave=0.5, octaves=2, rises=False),
)
PRIOR = Prior(noise_sd=0.1)

TRANSFER = (0.15, 0.5, 0.6)
"""Half width to add where another device's points serve, by ``kinship``: what leaving devices out whole shows.

The same chip lends first, then whose balance of peak, memory and power is nearest: most of such a layer is reading
weights, whatever multiplies. A100 is 15 % off by H100 and 40 by RTX PRO 6000, which has its instructions."""

ASSUMED_FLOOR_S, ASSUMED_WIDTH = 30e-6, 1.0
"""Of a device for which nobody measured expert layers."""

FEWEST = 20


@dataclass(frozen=True, slots=True, eq=False)
class _Law:
    """The times of one device's experts in one format; ``width`` is added to the curve's half width, in squares."""

    roof: Roof
    curve: Curve | None
    width: float
    basis: Basis

    def at(self, asked: Experts) -> tuple[Floats, Floats]:
        if self.curve is None:
            return _usual_s(asked, self.roof, ASSUMED_FLOOR_S), np.full(len(asked.rows), self.width)
        sizes = np.stack([asked.rows, asked.experts, asked.hidden, asked.width, asked.ranks], axis=1)
        seconds, half_width = self.curve.at(sizes)
        return seconds, np.hypot(half_width, self.width)


@functools.lru_cache(maxsize=32)
def _law(device: DeviceSpec, dtype: ProductFormat, table: KernelTable, even: bool) -> _Law:
    roof = roof_of(device, dtype)

    def serving(points: KernelPoints | None) -> ProductFormat | None:
        if points is None:
            return None
        served = FORMATS[dtype].served_by
        return next((used for used in served if (points.words["dtype"] == used).sum() >= FEWEST), None)

    own = serving(table.of(device.id)) is not None
    peak = FORMATS[dtype].peak
    able = functools.partial(lenders, table, device, peak, lambda points: serving(points) is not None)
    owners = [device] if own else able(by_instructions=False)[:1]
    if not owners:
        share = format_estimate(ARITHMETIC_SHARE)
        text = f"assumed: {share} of {device.id}'s {dtype} peak, as nobody measured experts like these"
        return _Law(roof, None, ASSUMED_WIDTH, Basis("assumed", text))
    points = table.of(owners[0].id)
    used = serving(points)
    assert points is not None
    assert used is not None
    points = points.where(points.words["dtype"] == used)
    said = f"{len(points)} {used} expert layers measured on {owners[0].id}"
    curve = _curve(points, roof, roof_of(owners[0], used), even=even)
    if own and used == dtype:
        return _Law(roof, curve, 0.0, Basis("measured", said))
    text = f"{said}, on their share of {device.id}'s own {dtype} peak and bandwidth"
    return _Law(roof, curve, lent_width(device, owners[0], TRANSFER), Basis("sibling", text))


def _curve(points: KernelPoints, roof: Roof, theirs: Roof, *, even: bool) -> Curve:
    """The curve of layers with even or uneven loads; those of the other sort lend it what they have in common."""
    asked, balanced = asked_of(points), exponents(points) == 0
    bounds_s = np.where(balanced, _bound_s(asked, theirs, even=True), _bound_s(asked, theirs, even=False))
    points = points.where(points.seconds >= bounds_s)
    asked = asked_of(points)
    floor_s = float(points.seconds.min())
    other_sort = (exponents(points) == 0) != even
    sizes = np.stack([asked.rows, asked.experts, asked.hidden, asked.width, asked.ranks], axis=1)
    wrong = np.log(points.seconds / _usual_s(asked, theirs, floor_s))
    process = Process.of(AXES, sizes, PRIOR, other_sort).doubting(wrong)
    return process.curve(
        wrong, lambda knots: _usual_s(Experts(**dict(zip(_NAMES, knots.T, strict=True))), roof, floor_s)
    )


_NAMES = ("rows", "experts", "hidden", "width", "ranks")


def exponents(points: KernelPoints) -> Floats:
    """Exponent of each row's power law, from words such as ``power_law_1.2``; 0 where balanced, NaN where unknown."""
    return np.array([_exponent(word) for word in points.words["distribution"].tolist()], dtype=np.float64)


def _exponent(word: str) -> float:
    if word == "balanced":
        return 0.0
    prefix, _, number = word.rpartition("_")
    try:
        return float(number) if prefix == "power_law" and 0 < float(number) < MOST_EXPONENT else float("nan")
    except ValueError:
        return float("nan")


MOST_EXPONENT = 3.0


def asked_of(points: KernelPoints) -> Experts:
    """The experts of the busiest rank in each row of a table, whose words are known."""
    tokens, ranks = points.numbers["tokens"], points.numbers["ep"]
    experts, chosen = points.numbers["experts"], points.numbers["experts_per_token"]
    counts = zip(experts, ranks, tokens, chosen, exponents(points), strict=True)
    busiest = np.array([busiest_over_mean(int(e), int(r), int(t), int(c), float(x)) for e, r, t, c, x in counts])
    return Experts(
        rows=tokens * chosen / ranks * busiest,
        experts=experts / ranks,
        hidden=points.numbers["hidden"],
        width=points.numbers["ffn_hidden"] / points.numbers["tp"],
        ranks=ranks,
    )
