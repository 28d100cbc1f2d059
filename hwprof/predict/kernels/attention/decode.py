"""How long does one new token of each sequence take against its cache, and whose measured kernels say so?"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import InputError
from hwprof.predict.curves.kernel_time import Basis, KernelTime
from hwprof.predict.curves.lattice import Axis, Curve
from hwprof.predict.curves.lenders import kinship
from hwprof.predict.curves.process import Points, Prior, curve
from hwprof.predict.kernels.attention.speakers import SAME_CHIP, speakers, together
from hwprof.predict.kernels.device_rates import DeviceRates, rates_of
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.hardware.spec import DeviceSpec

Floats = NDArray[np.float64]

CacheDtype = Literal["bf16", "fp16", "fp8"]
CACHE_BYTES: dict[CacheDtype, float] = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0}
CACHE_DTYPES: tuple[CacheDtype, ...] = get_args(CacheDtype)

AXES = (
    Axis(name="sequences x key heads", lowest=1.0, highest=2.0**17),
    Axis(name="tokens in the cache", lowest=1.0, highest=2.0**21),
    Axis(name="heads a key head", lowest=1.0, highest=128.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeKind:
    """What is the same in all shapes of one curve.

    Attributes:
        cache_dtype: format of keys and values.
        head_dim: of keys.
        value_dim: of values; 0 where the values are part of the keys (the latent cache of DeepSeek: 576 and 0).
        window: how many tokens of the cache are read at most; 0: all.
    """

    cache_dtype: CacheDtype
    head_dim: int
    value_dim: int
    window: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSizes:
    """Shapes, arrays of one a row.

    Attributes:
        key_heads: sequences times key heads on this device.
        cache_len: tokens in the cache of a sequence; of unequal ones the mean, since kernels split the long ones.
        group: query heads for each key head.
    """

    key_heads: Floats
    cache_len: Floats
    group: Floats


LAUNCH_S = 7e-6
MEMORY_SHARE = 0.8
"""Launch, and share of the bandwidth in reading the cache: all measured devices reach 75 to 95 % on large ones."""

SHARED_BY = 32.0
"""So many query heads of one key head read the cache once; more of them read it once each, by a fallback kernel: all
devices take 10 to 80 times as long from 48 heads on."""

HEAD_S = {False: 0.5e-9, True: 10e-9}
"""Time for each key head, and for each query head of the fallback kernel, on a device of ``USUAL_UNITS`` units."""

USUAL_UNITS = 148.0

MATRIX_SHARE, LATENT_SHARE = 0.35, 0.65
LEAST_ROWS = 16.0
"""Share of the matrix peak, for a latent cache that of FlashMLA on H800 (660 of 989 TFLOP/s, its README); rows that the
matrix instructions fill up to."""

LIMIT = 4.0
"""Exponent of a maximum with a rounded corner: FlashMLA computes beside the traffic; for plain caches the sum of both
is nearer to what was measured."""

OTHER_KIND = 0.25
LENT = (0.25, 0.3, 0.6)
UNMEASURED = 0.5
"""Half widths to add: for another width, window or format than measured; for another device's points, by ``kinship``;
where nobody measured anything like it."""

FEWEST = 4


def decode_base_s(rates: DeviceRates, sizes: Floats, cache: tuple[Floats, Floats, Floats, Floats]) -> Floats:
    """Base time in seconds of sizes [rows, 3]: key heads, tokens in the cache, query heads a key head.

    Args:
        rates: of the device.
        sizes: as above.
        cache: width of keys, width of values, window (0: none) and bytes of a number; arrays, one a row or one for all.
    """
    key_heads, cache_len, group = sizes.T
    head_dim, value_dim, window, number_bytes = cache
    read = np.where(window > 0, np.minimum(window, cache_len), cache_len)
    latent = value_dim == 0
    alone = (group > SHARED_BY) & ~latent
    times = np.where(alone, group, 1.0)
    cache_bytes = key_heads * times * read * (head_dim + value_dim) * number_bytes
    token_bytes = 4 * key_heads * group * head_dim
    head_s = np.where(alone, HEAD_S[True] * group, HEAD_S[False]) * key_heads * USUAL_UNITS / rates.units
    width = np.where(latent, 2 * head_dim, head_dim + value_dim)
    rows = np.where(alone, 0.0, np.maximum(group, LEAST_ROWS))
    matrix = rates.matrix_flop_per_s * np.where(latent, LATENT_SHARE, MATRIX_SHARE)
    arithmetic_s = 2 * key_heads * rows * read * width / matrix
    traffic_s = (cache_bytes + token_bytes) / (rates.memory_byte_per_s * MEMORY_SHARE)
    beside_s = (traffic_s**LIMIT + arithmetic_s**LIMIT) ** (1 / LIMIT)
    total_s: Floats = LAUNCH_S + head_s + np.where(latent, beside_s, traffic_s + arithmetic_s)
    return total_s


def decode_s(
    asked: DecodeSizes,
    device: DeviceSpec,
    kind: DecodeKind,
    *,
    table: KernelTable,
    here: KernelPoints | None = None,
) -> KernelTime:
    """Time of decode attention.

    Args:
        asked: shapes.
        device: the device.
        kind: of the cache.
        table: measured kernels by device.
        here: points that were measured on this machine, trusted more than the table's.

    Raises:
        InputError: the format of the cache is unknown.
    """
    if kind.cache_dtype not in CACHE_BYTES:
        raise InputError(
            f"cache format {kind.cache_dtype!r} is unknown", expectation=f"known: {', '.join(CACHE_DTYPES)}"
        )
    sizes = np.stack([asked.key_heads, asked.cache_len, asked.group], axis=1).astype(np.float64)
    seconds, half_width = np.empty(len(sizes)), np.empty(len(sizes))
    basis = Basis("assumed", "no shapes were asked for")
    for alone in (True, False):
        chosen = (sizes[:, 2] > SHARED_BY) == alone
        if chosen.any():
            lattice, extra, basis = _curve(device, kind, alone, table, here)
            seconds[chosen], found = _at(lattice, device, kind, sizes[chosen])
            half_width[chosen] = np.hypot(found, extra)
    seconds = np.maximum(seconds, _bound_s(device, kind, sizes))
    return KernelTime.around(seconds, half_width, basis)


def _bound_s(device: DeviceSpec, kind: DecodeKind, sizes: Floats) -> Floats:
    """What nothing beats: the cache read once at the memory's bandwidth."""
    read = np.minimum(sizes[:, 1], kind.window or np.inf)
    cache_bytes = sizes[:, 0] * read * (kind.head_dim + kind.value_dim) * CACHE_BYTES[kind.cache_dtype]
    bound: Floats = cache_bytes / device.memory.bandwidth_byte_per_s
    return bound


def _at(lattice: Curve | None, device: DeviceSpec, kind: DecodeKind, sizes: Floats) -> tuple[Floats, Floats]:
    if lattice is None:
        return decode_base_s(rates_of(device), sizes, _cache(kind)), np.zeros(len(sizes))
    return lattice.at(sizes)


@functools.lru_cache(maxsize=512)
def _curve(
    device: DeviceSpec,
    kind: DecodeKind,
    alone: bool,
    table: KernelTable,
    here: KernelPoints | None,
) -> tuple[Curve | None, float, Basis]:
    """The curve of a kind on a device, the half width to add to its own, and who measured it."""
    mine = None if here is None else _nearest(here, kind, alone=alone, within=0.0)
    others = [] if kind.value_dim == 0 else _chosen(device, kind, table, alone=alone)
    spoken = [*([(device, mine, True)] if mine is not None else []), *others]
    if not spoken:
        return None, UNMEASURED, Basis("assumed", f"decode attention: assumed shares of the roofs of {device.id}")

    def base_s(sizes: Floats) -> Floats:
        return decode_base_s(rates_of(device), sizes, _cache(kind))

    lattice = curve(AXES, _points(spoken, lent=mine is not None), base_s, Prior())
    source, _, exact = spoken[0]
    unlike = 0.0 if exact else OTHER_KIND
    if mine is not None:
        return lattice, 0.0, Basis("measured_here", "decode attention measured here")
    if source.id == device.id:
        return lattice, unlike, Basis("measured", f"decode attention measured on {device.id}")
    names = ", ".join(other.id for other, _, _ in spoken)
    text = f"decode attention: the share of its roofs that is reached on {names}"
    return lattice, float(np.hypot(LENT[kinship(device, source)], unlike)), Basis("sibling", text)


def _points(spoken: list[tuple[DeviceSpec, KernelPoints, bool]], *, lent: bool) -> Points:
    """Points of several devices with the base times of each; where some are ``lent``, those of the first are own."""
    base_s = [decode_base_s(rates_of(one), _sizes_of(points), _cache_of(points)) for one, points, _ in spoken]
    return Points(
        np.concatenate([_sizes_of(points) for _, points, _ in spoken]),
        np.concatenate([points.seconds for _, points, _ in spoken]),
        np.concatenate(base_s),
        np.repeat(np.arange(len(spoken)) > 0, [len(points) for _, points, _ in spoken]) if lent else None,
    )


def _chosen(
    device: DeviceSpec, kind: DecodeKind, table: KernelTable, *, alone: bool
) -> list[tuple[DeviceSpec, KernelPoints, bool]]:
    """Devices whose points speak, the points, and whether they are of the very kind.

    The device itself or a twin, then several others that have the very kind; then the same with another kind.
    """
    own = table.of(device.id)
    for within in (0.0, np.inf):
        exact = within == 0
        if (near := _nearest(own, kind, alone=alone, within=within)) is not None:
            return [(device, near, exact)]
        others = [
            (other, near, exact)
            for other, points in speakers(table, device)
            if (near := _nearest(points, kind, alone=alone, within=within)) is not None
        ]
        if others and (own is None or kinship(device, others[0][0]) == SAME_CHIP):
            return together(device, others)
    return []


def _nearest(points: KernelPoints | None, kind: DecodeKind, *, alone: bool, within: float) -> KernelPoints | None:
    """The points most like the kind, at least a few; None where none is near enough."""
    if points is None:
        return None
    grouped = (points.numbers["heads"] / points.numbers["kv_heads"] > SHARED_BY) == alone
    mine = points.where(grouped)
    distance = np.abs(np.log(mine.numbers["head_dim"] / kind.head_dim))
    distance += np.where((mine.numbers["window"] > 0) == (kind.window > 0), 0.0, 1.0)
    distance += np.where(_bytes_of(mine) == CACHE_BYTES[kind.cache_dtype], 0.0, 0.5)
    steps = np.unique(distance)
    enough = next((step for step in steps if (distance <= step).sum() >= FEWEST), None)
    return mine.where(distance <= enough) if enough is not None and enough <= within else None


def _bytes_of(points: KernelPoints) -> Floats:
    return np.where(points.words["cache_dtype"] == "fp8", 1.0, 2.0)


def _cache(kind: DecodeKind) -> tuple[Floats, Floats, Floats, Floats]:
    numbers = (kind.head_dim, kind.value_dim, kind.window, CACHE_BYTES[kind.cache_dtype])
    head_dim, value_dim, window, number_bytes = (np.array([number], dtype=np.float64) for number in numbers)
    return head_dim, value_dim, window, number_bytes


def _cache_of(points: KernelPoints) -> tuple[Floats, Floats, Floats, Floats]:
    numbers = points.numbers
    return numbers["head_dim"], numbers["head_dim"], numbers["window"], _bytes_of(points)


def _sizes_of(points: KernelPoints) -> Floats:
    numbers = points.numbers
    heads = numbers["batch_size"] * numbers["kv_heads"]
    return np.stack([heads, numbers["cache_len"], numbers["heads"] / numbers["kv_heads"]], axis=1)
