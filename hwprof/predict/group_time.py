"""How long do collectives of many jobs take at once? Rings over two levels of links, as array arithmetic.

The formulas are those of ``hwprof.predict.collective`` with one difference: a ring that crosses nodes runs through all
links at once, so its slowest link sets the pace (NCCL's rings) instead of one level after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.distinct import distinct

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What one device gets, one direction, arrays of one for each job; ``domain`` neighbours share the inside links."""

    domain: Floats
    inside_byte_per_s: Floats
    between_byte_per_s: Floats
    inside_latency_s: Floats
    between_latency_s: Floats


def ring_s(size_bytes: Floats, ranks: Floats, stride: Floats, links: Links) -> Floats:
    """Reduce-scatter or all-gather of ``size_bytes`` in all over every ``stride``-th device; an all-reduce is two.

    (n - 1)/n x size over the ring's slowest link; between nodes it has the links of all its ranks inside one.
    """
    inside = ranks_inside(ranks, links.domain / stride)
    nodes = ranks / inside
    crossing = np.minimum(links.inside_byte_per_s, links.between_byte_per_s * inside)
    byte_per_s = np.where(nodes > 1, crossing, links.inside_byte_per_s)
    latency_s = (inside - 1) * links.inside_latency_s + (nodes - 1) * links.between_latency_s
    seconds: Floats = np.where(ranks > 1, (ranks - 1) / ranks * size_bytes / byte_per_s + latency_s, 0.0)
    return seconds


def all_to_all_s(size_bytes: Floats, ranks: Floats, stride: Floats, links: Links) -> Floats:
    """Every rank sends ``size_bytes`` in equal parts; messages inside and between nodes travel side by side."""
    inside = ranks_inside(ranks, links.domain / stride)
    near_s = (inside - 1) / ranks * size_bytes / links.inside_byte_per_s
    far_s = (ranks - inside) / ranks * size_bytes / links.between_byte_per_s
    latency_s = np.where(inside < ranks, links.between_latency_s, links.inside_latency_s)
    seconds: Floats = np.where(ranks > 1, np.maximum(near_s, far_s) + latency_s, 0.0)
    return seconds


def send_s(size_bytes: Floats, stride: Floats, links: Links) -> Floats:
    """One message to the device ``stride`` further on."""
    near = stride < links.domain
    byte_per_s = np.where(near, links.inside_byte_per_s, links.between_byte_per_s)
    latency_s = np.where(near, links.inside_latency_s, links.between_latency_s)
    seconds: Floats = size_bytes / byte_per_s + latency_s
    return seconds


def ranks_inside(ranks: Floats, room: Floats) -> Floats:
    """How many ranks of a group share a node that has ``room``: the largest divisor of ``ranks`` that fits."""
    number = np.broadcast_to(ranks, np.shape(room)).astype(np.int64)
    limit = np.minimum(np.maximum(np.floor(room), 1).astype(np.int64), number)
    first, index = distinct(number, limit)
    fitting = np.array([_divisor(int(number[row]), int(limit[row])) for row in first], dtype=float)
    return fitting[index]


def _divisor(number: int, limit: int) -> int:
    return next(size for size in range(limit, 0, -1) if number % size == 0)
