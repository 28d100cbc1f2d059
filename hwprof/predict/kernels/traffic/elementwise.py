"""How long do norms, activations, additions and other kernels without products take, and whose kernels say so?"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import InputError
from hwprof.predict.curves.kernel_time import Basis, KernelTime
from hwprof.predict.curves.lattice import Axis, Curve
from hwprof.predict.curves.process import Points, Prior, curve
from hwprof.predict.kernels.device_rates import DeviceRates, rates_of
from hwprof.predict.kernels.owners import owners
from hwprof.specs.catalogue.kernel_points import KernelPoints, KernelTable
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.units import format_estimate

Floats = NDArray[np.float64]

Library = Literal["eager", "serving"]
LIBRARIES: tuple[Library, ...] = get_args(Library)

NUMBER_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0}

PASSES = {
    "add": 3.0, "mul": 3.0, "div": 3.0, "pow": 3.0, "gelu": 2.0, "relu": 2.0, "tanh": 2.0, "layer_norm": 2.0,
    "softmax": 2.0, "rms_norm": 2.0, "rope": 2.0, "embedding": 2.0, "gated_activation": 3.0,
}  # fmt: skip
"""How often a kernel reads or writes as many numbers as its result has, if it touches nothing twice."""

ISSUE_BYTES = {"rms_norm": 4.5, "embedding": 2.3, "gated_activation": 7.0, "rope": 6.0}
"""Bytes a clock and compute unit at which these kernels of serving libraries stop, whatever the memory could do: the
same on A100 and H100 to 15 %, where they leave up to 70 % of the bandwidth unused; A40's memory is slower than that."""

LAUNCH_S: dict[Library, float] = {"serving": 4e-6, "eager": 25e-6}
"""Of a kernel alone, and of one with the host's part as eager frameworks are timed."""

MEMORY_SHARE = 0.85
LIMIT = 4.0
"""Share of the bandwidth; the exponent of a maximum with a rounded corner."""

AXES = (Axis(name="rows", lowest=1.0, highest=2.0**24), Axis(name="width", lowest=1.0, highest=2.0**18))

WIDER = 1.15
"""Of shapes held back, 85 of 100 lie inside the interval that leaving out one of the others gives: factor to 90."""

POOLED = 0.3
"""Half width to add where other devices speak together: each of them left out differs so much from the others."""

HOST_WIDTH = 0.8
"""Half width to add for the part of a time that is the host's launch where none was measured: 15 to 58 us elsewhere."""

POOL_POINTS = 120
"""Points of each other device that is asked, so that all together stay few."""

OTHER_FORMAT = 0.1
UNMEASURED = 0.5
"""Half widths to add for another format than the one measured; for the roof alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementwiseKind:
    """What is the same in all shapes of one curve.

    Attributes:
        op: a name of ``PASSES``.
        dtype: format of what is read and written.
        library: ``serving`` (a kernel of vLLM) or ``eager`` (one of PyTorch, the launch by the host included).
        queued: whether the host is ahead, so that its launch is hidden behind the kernel before.
    """

    op: str
    dtype: str
    library: Library
    queued: bool = False


def elementwise_s(
    rows: Floats,
    width: Floats,
    device: DeviceSpec,
    kind: ElementwiseKind,
    *,
    table: KernelTable,
    here: KernelPoints | None = None,
) -> KernelTime:
    """Time of a kernel.

    Args:
        rows: of its result [rows, width].
        width: of its result; of a rotary embedding that of queries and keys together.
        device: the device.
        kind: which kernel.
        table: measured kernels by device.
        here: points that were measured on this machine, trusted more than the table's.

    Raises:
        InputError: the op, the format or the library is unknown.
    """
    for name, value, known in (
        ("op", kind.op, PASSES), ("format", kind.dtype, NUMBER_BYTES), ("library", kind.library, LIBRARIES)
    ):  # fmt: skip
        if value not in known:
            raise InputError(f"elementwise {name} {value!r} is unknown", expectation=f"known: {', '.join(known)}")
    sizes = np.stack([rows, width], axis=1).astype(np.float64)
    lattice, extra, basis = _curve(device, kind, table, here)
    if lattice is None:
        seconds, half_width = elementwise_base_s(rates_of(device), kind, sizes), np.zeros(len(sizes))
    else:
        seconds, half_width = lattice.at(sizes)
    host = HOST_WIDTH if basis.word in {"sibling", "assumed"} and kind.library == "eager" and not kind.queued else 0.0
    launch = host * np.minimum(LAUNCH_S["eager"] / seconds, 1.0)
    return KernelTime.around(seconds, np.sqrt((WIDER * half_width) ** 2 + extra**2 + launch**2), basis)


def elementwise_base_s(rates: DeviceRates, kind: ElementwiseKind, sizes: Floats) -> Floats:
    """Base time in seconds of sizes [rows, 2]: traffic at the bandwidth, or as fast as the kernel asks for it."""
    moved_bytes = PASSES[kind.op] * NUMBER_BYTES[kind.dtype] * sizes[:, 0] * sizes[:, 1]
    traffic_s = moved_bytes / (rates.memory_byte_per_s * MEMORY_SHARE)
    if kind.library == "serving" and kind.op in ISSUE_BYTES and rates.clock_hertz:
        issue_s = moved_bytes / (ISSUE_BYTES[kind.op] * rates.units * rates.clock_hertz)
        traffic_s = (traffic_s**LIMIT + issue_s**LIMIT) ** (1 / LIMIT)
    total_s: Floats = LAUNCH_S["serving" if kind.queued else kind.library] + traffic_s
    return total_s


@functools.lru_cache(maxsize=512)
def _curve(
    device: DeviceSpec, kind: ElementwiseKind, table: KernelTable, here: KernelPoints | None
) -> tuple[Curve | None, float, Basis]:
    """The curve of a kind on a device, the half width to add to its own, and who measured it."""
    what = f"{kind.library} {kind.op}"
    mine, own = _chosen(here, kind), _chosen(table.of(device.id), kind)
    lent = [(device, own)] if own is not None else _others(device, kind, table)
    speakers = [*([(device, mine)] if mine is not None else []), *lent]
    if not speakers:
        text = f"{what}: {format_estimate(MEMORY_SHARE)} of the bandwidth of {device.id}, assumed"
        return None, UNMEASURED, Basis("assumed", text)
    base_s = functools.partial(elementwise_base_s, rates_of(device), kind)
    lattice = curve(AXES, _points(speakers, kind, lent=mine is not None), base_s, Prior())
    formats = {str(dtype) for _, points in speakers for dtype in points.words["dtype"]}
    extra = 0.0 if formats == {kind.dtype} else OTHER_FORMAT
    if mine is not None:
        return lattice, extra, Basis("measured_here", f"{what} measured here")
    if own is not None:
        return lattice, extra, Basis("measured", f"{what} measured on {device.id}")
    text = f"{what}: the shares of their roofs of {', '.join(speaker.id for speaker, _ in speakers)}"
    return lattice, float(np.hypot(extra, POOLED)), Basis("sibling", text)


def _points(speakers: list[tuple[DeviceSpec, KernelPoints]], kind: ElementwiseKind, *, lent: bool) -> Points:
    """Points of several devices with the base times of each; where some are ``lent``, those of the first are own."""
    counts = [len(points) for _, points in speakers]
    return Points(
        np.concatenate([_sizes_of(points) for _, points in speakers]),
        np.concatenate([points.seconds for _, points in speakers]),
        np.concatenate([_base_of(speaker, points, kind) for speaker, points in speakers]),
        np.repeat(np.arange(len(speakers)) > 0, counts) if lent else None,
    )


def _others(device: DeviceSpec, kind: ElementwiseKind, table: KernelTable) -> list[tuple[DeviceSpec, KernelPoints]]:
    """All other devices with points, each thinned to a few: how much of its bandwidth one reaches says little."""
    found = []
    for other, points in owners(table):
        chosen = _chosen(points, kind) if other.id != device.id else None
        if chosen is not None:
            every = -(-len(chosen) // POOL_POINTS)
            found.append((other, chosen.where(np.arange(len(chosen)) % every == 0)))
    return found


def _chosen(points: KernelPoints | None, kind: ElementwiseKind) -> KernelPoints | None:
    """The points of the op in the library; serving's are in 16 bits, eager ones in 32."""
    if points is None:
        return None
    narrow = points.words["dtype"] != "fp32"
    mine = points.where((points.words["op"] == kind.op) & (narrow == (kind.library == "serving")))
    return mine if len(mine) >= FEWEST else None


FEWEST = 4


def _base_of(device: DeviceSpec, points: KernelPoints, kind: ElementwiseKind) -> Floats:
    """Base times of the points as they were measured: in their format, with the host's launch if it was timed."""
    measured = ElementwiseKind(op=kind.op, dtype=str(points.words["dtype"][0]), library=kind.library)
    return elementwise_base_s(rates_of(device), measured, _sizes_of(points))


def _sizes_of(points: KernelPoints) -> Floats:
    return np.stack([points.numbers["rows"], points.numbers["width"] + points.numbers["key_width"]], axis=1)
