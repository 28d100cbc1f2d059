"""How long does attention over whole sequences take, forward and backward, and whose measured kernels say so?"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from math import log

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import InputError
from hwprof.predict.curves.kernel_time import Basis, KernelTime
from hwprof.predict.curves.lattice import Axis, Curve
from hwprof.predict.curves.lenders import kinship
from hwprof.predict.curves.process import Points, Prior, curve
from hwprof.predict.kernels.attention.base import (
    KERNELS,
    AttentionKernel,
    AttentionKind,
    Dims,
    attention_base_s,
    flop_per_pair,
)
from hwprof.predict.kernels.attention.speakers import SAME_CHIP, speakers, together
from hwprof.predict.kernels.device_rates import rates_of
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.hardware.spec import DeviceSpec

Floats = NDArray[np.float64]

AXES = (
    Axis(name="batch x heads", lowest=2.0**-6, highest=2.0**17),
    Axis(name="sequence length", lowest=1.0, highest=2.0**21),
    Axis(name="key heads a head", lowest=2.0**-7, highest=1.0, knots_per_octave=1.0),
)
"""A share of a head is a device's part where ranks split a sequence between them."""

FLASH_1, FLASH_1_WIDTH = 0.73 / 0.40, 0.25
"""Time of the first generation over that of the second where nobody measured it, by the best share of an A100 that each
reaches (Dao 2023, arXiv:2307.08691, abstract: 25 to 40 % against 50 to 73 %), and the half width to add for it."""

RUNS_ON = {
    "flash-1": ("7.5", "8.", "9."),
    "flash-2": ("8.", "9.", "10.", "12.", "gfx9"),
    "flash-3": ("9.",),
    "flash-4": ("8.", "9.", "10.", "12."),
    "cudnn": ("8.", "9.", "10.", "12."),
}
"""How the targets begin (CUDA compute capability, LLVM gfx target) for which a kernel is written, where not for all."""

FEWEST = 4
"""So many points make a curve."""

OTHER_VERSIONS = 0.08
"""Half width for other versions of a training kernel than the one measured: cuDNN 9.1 and 9.27 differ so on an H200."""

UNLIKE = 0.3
"""Half width for each unit of distance between what is asked and what was measured (``_distance``): heads of 64, 128
and 256 predicted from each other miss by 5 to 25 %."""

FAR = 0.35
"""Beyond this distance another device's kernels of the very kind say more than the own ones of another kind."""

LENT = (0.2, 0.25, 0.5)
"""Half width for other devices' points by ``kinship``: of each device left out, 90 % or more lie inside, but for one
that has nothing like it among the others (RTX PRO 6000: two thirds)."""

OTHER_VENDOR = 1.0
"""The same where another vendor's points speak: AMD's kernels are half as fast as NVIDIA's would make one believe."""

UNMEASURED = 0.6
"""Half width where nobody measured the kernel anywhere: the base time alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSizes:
    """Shapes of attention, arrays of one a row.

    Attributes:
        batch_heads: sequences times query heads on this device. Where ranks share a sequence (context parallelism), its
            share of them: the tiles of a whole sequence are split between the ranks.
        seq_len: of the whole sequence.
        group: query heads for each key head.
    """

    batch_heads: Floats
    seq_len: Floats
    group: Floats


def attention_s(
    asked: AttentionSizes,
    device: DeviceSpec,
    kind: AttentionKind,
    *,
    table: KernelTable,
    here: KernelPoints | None = None,
) -> KernelTime:
    """Time of attention in 16 bits.

    Args:
        asked: shapes.
        device: the device.
        kind: which attention by which kernel.
        table: measured kernels by device.
        here: points that were measured on this machine, trusted more than the table's.

    Raises:
        InputError: the kernel does not run on the device, or is unknown, or has no backward pass.
    """
    _check(device, kind)
    if kind.kernel == "flash-1" and (here is None or _nearest(here, kind) is None):
        return _flash_1(asked, device, kind, table)
    lattice, extra, basis = _curve(device, kind, table, here)
    sizes = np.stack([asked.batch_heads, asked.seq_len, 1 / asked.group], axis=1).astype(np.float64)
    if lattice is None:
        seconds, half_width = attention_base_s(rates_of(device), kind, _dims(kind), sizes), np.zeros(len(sizes))
    else:
        seconds, half_width = lattice.at(sizes)
    seconds = np.maximum(seconds, _bound_s(device, kind, sizes))
    return KernelTime.around(seconds, np.hypot(half_width, extra), basis)


def _flash_1(asked: AttentionSizes, device: DeviceSpec, kind: AttentionKind, table: KernelTable) -> KernelTime:
    """The first generation, of which no table tells: ``FLASH_1`` times the second, or PyTorch's where that is none."""
    kernel: AttentionKernel = "flash-2" if runs_on(device, "flash-2") else "torch-sdpa"
    newer = attention_s(asked, device, replace(kind, kernel=kernel), table=table)
    text = f"flash-1 attention {kind.direction}: assumed to take {FLASH_1:.2f} times as long as {newer.basis.text}"
    width = np.log(newer.hi_s / newer.seconds) + FLASH_1_WIDTH
    return KernelTime.around(FLASH_1 * newer.seconds, width, Basis("assumed", text))


def runs_on(device: DeviceSpec, kernel: AttentionKernel) -> bool:
    """Whether a kernel is written for a device."""
    return device.compute.target.startswith(RUNS_ON.get(kernel, ("",)))


def _bound_s(device: DeviceSpec, kind: AttentionKind, sizes: Floats) -> Floats:
    """What nothing beats: the products that are needed at the peak."""
    heads, seq_len, _ = sizes.T
    reach = np.minimum(seq_len, kind.window or np.inf)
    needed = reach * seq_len - reach**2 / 2 if kind.causal else reach * seq_len
    bound: Floats = heads * needed * flop_per_pair(kind.direction, _dims(kind)) / rates_of(device).matrix_flop_per_s
    return bound


def _check(device: DeviceSpec, kind: AttentionKind) -> None:
    if kind.kernel not in KERNELS:
        raise InputError(f"attention kernel {kind.kernel!r} is unknown", expectation=f"known: {', '.join(KERNELS)}")
    if not runs_on(device, kind.kernel):
        raise InputError(
            f"attention kernel {kind.kernel} does not run on {device.id}, whose target is {device.compute.target!r}",
            expectation=f"it is written for targets that begin with {', '.join(RUNS_ON[kind.kernel])}",
            remedy="take torch-sdpa, or vendor on a device that is no GPU",
        )
    if kind.kernel == "serving" and kind.direction == "backward":
        raise InputError("attention kernel serving has no backward pass", remedy="take a training kernel")


@functools.lru_cache(maxsize=1024)
def _curve(
    device: DeviceSpec, kind: AttentionKind, table: KernelTable, here: KernelPoints | None
) -> tuple[Curve | None, float, Basis]:
    """The curve of a kind on a device, the half width to add to its own, and who measured it."""
    what = f"{kind.kernel} attention {kind.direction}"
    mine = [(device, *near)] if here is not None and (near := _nearest(here, kind)) else []
    others = _chosen(device, kind, table)
    spoken = [*mine, *others]
    if sum(len(points) for _, points, _ in spoken) < FEWEST:
        return None, UNMEASURED, Basis("assumed", f"{what}: assumed shares of the roofs of {device.id}")
    base_s = functools.partial(attention_base_s, rates_of(device), kind, _dims(kind))
    lattice = curve(AXES, _points(spoken, kind, lent=bool(mine)), base_s, Prior())
    source, points, distance = spoken[0]
    unlike = UNLIKE * distance
    if mine:
        return lattice, unlike, Basis("measured_here", f"{what} measured here{_of(points, distance)}")
    versions = 0.0 if kind.kernel == "serving" else OTHER_VERSIONS
    if source.id == device.id:
        text = f"{what} measured on {device.id}{_of(points, distance)}"
        return lattice, float(np.hypot(versions, unlike)), Basis("measured", text)
    lent = lent_width(device, source)
    names = ", ".join(other.id for other, _, _ in spoken)
    text = f"{what}: the share of its roofs that is reached on {names}{_of(points, distance)}"
    return lattice, float(np.sqrt(lent**2 + versions**2 + unlike**2)), Basis("sibling", text)


def lent_width(device: DeviceSpec, source: DeviceSpec) -> float:
    """Half width to add where another device's points speak."""
    return LENT[kinship(device, source)] if device.vendor == source.vendor else OTHER_VENDOR


def _points(spoken: list[tuple[DeviceSpec, KernelPoints, float]], kind: AttentionKind, *, lent: bool) -> Points:
    """Points of several devices with the base times of each; where some are ``lent``, those of the first are own."""
    base_s = [attention_base_s(rates_of(one), kind, _dims_of(points), _sizes_of(points)) for one, points, _ in spoken]
    return Points(
        np.concatenate([_sizes_of(points) for _, points, _ in spoken]),
        np.concatenate([points.seconds for _, points, _ in spoken]),
        np.concatenate(base_s),
        np.repeat(np.arange(len(spoken)) > 0, [len(points) for _, points, _ in spoken]) if lent else None,
    )


def _chosen(
    device: DeviceSpec, kind: AttentionKind, table: KernelTable
) -> list[tuple[DeviceSpec, KernelPoints, float]]:
    """Devices whose points speak, the points, and how unlike the kind that is asked they are.

    The device itself, unless only a twin has the very kind. Else a twin alone, or several others that have the kind.
    """
    own = _nearest(table.of(device.id), kind)
    if own is not None and own[1] <= FAR:
        return [(device, *own)]
    found = [(other, *near) for other, points in speakers(table, device) if (near := _nearest(points, kind))]
    very = [one for one in found if one[2] == 0]
    if own is not None:
        twin = bool(very) and kinship(device, very[0][0]) == SAME_CHIP
        return very[:1] if twin else [(device, *own)]
    return together(device, [one for one in found if one[2] <= FAR] or found)


def _nearest(points: KernelPoints | None, kind: AttentionKind) -> tuple[KernelPoints, float] | None:
    """The points of the kernel and direction that are most like what is asked, and the distance of the nearest."""
    if points is None:
        return None
    kernels = [kind.kernel, SAME_CODE.get(kind.kernel, kind.kernel)]
    same = np.isin(points.words["kernel"], kernels) & (points.words["direction"] == kind.direction)
    if not same.any():
        return None
    mine = points.where(same)
    distance = _distance(mine, kind)
    steps = np.unique(distance)
    enough = next((step for step in steps if (distance <= step).sum() >= FEWEST), steps[-1])
    return mine.where(distance <= enough), float(steps[0])


def _distance(points: KernelPoints, kind: AttentionKind) -> Floats:
    """How unlike each point is: natural logarithms of the widths' ratios, a window or none, causal or not."""
    widths = np.abs(np.log(points.numbers["head_dim"] / kind.head_dim))
    widths = (widths + np.abs(np.log(points.numbers["value_dim"] / kind.value_dim))) / 2
    window = points.numbers["window"]
    both = (window > 0) & (kind.window > 0)
    ratio = np.abs(np.log(np.maximum(window, 1.0)) - log(max(kind.window, 1)))
    one = np.maximum(window, kind.window)
    short = NO_WINDOW * np.log(np.maximum(LIKE_NONE / np.maximum(one, 1.0), 1.0))
    windows = np.where(both, WINDOW * ratio, np.where((window > 0) == (kind.window > 0), 0.0, short))
    masks = np.where((points.words["causal"] == "yes") == kind.causal, 0.0, OTHER_MASK)
    code = np.where(points.words["kernel"] == kind.kernel, 0.0, OTHER_KERNEL)
    distance: Floats = widths + windows + masks + code
    return distance


WINDOW, NO_WINDOW, LIKE_NONE, OTHER_MASK, OTHER_KERNEL = 0.1, 0.35, 8192.0, 0.15, 0.2
"""Distance for each e-fold of the window, for each by which a window is shorter than ``LIKE_NONE`` to none, of causal
to not, of one code in two libraries. From windows of 128 tokens, whole sequences of the same kernel on the same device
are missed by 49 to 89 %, from 1,024 by 25 to 28, from 8,192 by 2 to 5 (B200, B300, GB200, H100, H200)."""

SAME_CODE = {"torch-sdpa": "flash-2"}
"""PyTorch carries the kernel of flash-2: 4 to 8 % slower than the original on B200."""


def _dims(kind: AttentionKind) -> Dims:
    head_dim, value_dim, window = np.array([[kind.head_dim], [kind.value_dim], [kind.window]], dtype=np.float64)
    return Dims(causal=np.array([kind.causal]), head_dim=head_dim, value_dim=value_dim, window=window)


def _dims_of(points: KernelPoints) -> Dims:
    numbers = points.numbers
    return Dims(
        causal=points.words["causal"] == "yes",
        head_dim=numbers["head_dim"],
        value_dim=numbers["value_dim"],
        window=numbers["window"],
    )


def _sizes_of(points: KernelPoints) -> Floats:
    numbers = points.numbers
    heads = numbers["batch_size"] * numbers["heads"]
    return np.stack([heads, numbers["seq_len"], numbers["kv_heads"] / numbers["heads"]], axis=1)


def _of(points: KernelPoints, distance: float) -> str:
    """In words, what was measured instead of the very kind."""
    if distance == 0:
        return ""
    heads, windows = (
        ", ".join(f"{size:.0f}" for size in np.unique(points.numbers[name])) for name in ("head_dim", "window")
    )
    return f" (heads of {heads}, windows of {windows}, causal: {', '.join(np.unique(points.words['causal']))})"
