"""Who of a group are neighbours, and how many of a device's links does a group use?"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from hwprof.specs.distinct import distinct

Floats = NDArray[np.float64]


def ranks_inside(ranks: Floats, room: Floats) -> Floats:
    """How many ranks of a group share a node that has ``room``: the largest divisor of ``ranks`` that fits."""
    number = np.broadcast_to(ranks, np.shape(room)).astype(np.int64)
    limit = np.minimum(np.maximum(np.floor(room), 1).astype(np.int64), number)
    if len(number) < FEW:
        return np.array([_divisor(*pair) for pair in zip(number.tolist(), limit.tolist(), strict=True)], dtype=float)
    first, index = distinct(number, limit)
    fitting = np.array([_divisor(int(number[row]), int(limit[row])) for row in first], dtype=float)
    return fitting[index]


FEW = 16
"""Fewer groups than this are looked at one by one, which is faster than finding equal ones."""


@functools.lru_cache(maxsize=4096)
def _divisor(number: int, limit: int) -> int:
    return next(size for size in range(limit, 0, -1) if number % size == 0)


def links_used(
    ranks: Floats, stride: Floats, *, domain: Floats, mesh: Floats, torus_axes: Floats, wrapped: Floats
) -> Floats | float:
    """Share of a device's inside links that every ``stride``-th of ``ranks`` neighbours can use among themselves.

    Behind a switch all. In a mesh those to the other ranks. In a torus those along the axes that the group spans, which
    are taken to be as long as each other; where an axis is not spanned whole, or does not close, half of them, as all
    traffic reaches the devices at its ends from one side.

    Args:
        ranks: how many.
        stride: how far apart.
        domain: neighbours that reach each other.
        mesh: 1 where every two neighbours have links of their own, else 0.
        torus_axes: axes of the torus that they form; 0 where they form none.
        wrapped: 1 where the torus closes, else 0.
    """
    if not (mesh.any() or torus_axes.any()):
        return 1.0
    meshed = np.minimum((ranks - 1) / np.maximum(domain - 1, 1), 1.0)
    axes = np.maximum(torus_axes, 1)
    side = domain ** (1 / axes)
    first = np.floor(np.log(stride) / np.log(np.maximum(side, 2)) + 1e-9)
    last = np.ceil(np.log(np.maximum(stride * ranks, 2)) / np.log(np.maximum(side, 2)) - 1e-9)
    spanned = np.clip(last - first, 1, axes) / axes
    torus = spanned * np.where((wrapped > 0) & (ranks >= side * (1 - 1e-9)), 1.0, 0.5)
    used = np.where(torus_axes > 0, torus, np.where(mesh > 0, meshed, 1.0))
    return np.where(ranks > 1, used, 1.0)
