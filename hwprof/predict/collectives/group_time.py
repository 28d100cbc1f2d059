"""How long do collectives of many jobs take at once? Rings over two levels of links, as array arithmetic.

A ring that crosses nodes runs through all links at once, so its slowest link sets the pace (NCCL's rings). As NCCL
does, the fastest protocol and, for an all-reduce, the fastest algorithm is taken: rings, trees between nodes, or
addition inside the switch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.collectives.clock import Clock, clock_of
from hwprof.predict.collectives.placement import links_used, ranks_inside
from hwprof.predict.machine import Machine

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What one device gets, one direction, arrays of one for each job.

    Attributes:
        domain: neighbours that share the inside links.
        inside_byte_per_s, inside_latency_s: all inside links of a device together, and one step.
        between_byte_per_s, between_latency_s: the network between domains.
        mesh: 1 where every pair of neighbours has a link of its own, else 0.
        torus_axes: axes of the torus that the neighbours form; 0 where they form none.
        wrapped: 1 where the torus closes, else 0.
        adds_in_switch: 1 where the inside switch adds up what it passes on, else 0.
        protocols: 1 where small messages have faster protocols, else 0.
        clock: the measured model, which then times all of them; None while the simulator's fitted shares of the rates
            above hold.
    """

    domain: Floats
    inside_byte_per_s: Floats
    between_byte_per_s: Floats
    inside_latency_s: Floats
    between_latency_s: Floats
    mesh: Floats
    torus_axes: Floats
    wrapped: Floats
    adds_in_switch: Floats
    protocols: Floats
    clock: Clock | None = None

    def repeated(self, count: int) -> Links:
        """Those of one job for ``count`` of them."""
        return Links(**{name: np.repeat(getattr(self, name), count) for name in NUMBERS}, clock=self.clock)


NUMBERS = tuple(name for name in Links.__slots__ if name != "clock")

MEASURED = False
"""The seam between the simulator and the model of collectives in this folder. False: rates of the datasheet times the
``inside_share`` and ``between_share`` that were fitted to whole steps. True: ``Clock``, whose links' files and measured
rows have those shares; the two parameters then have no use."""


def links_of(machines: Sequence[Machine]) -> Links:
    """The links of each job's machine."""
    numbers = {name: np.array([getattr(each, name) for each in machines], dtype=float) for name in NUMBERS}
    return Links(**numbers, clock=clock_of(machines) if MEASURED else None)


def ring_s(size_bytes: Floats, ranks: Floats, stride: Floats, links: Links) -> Floats:
    """Reduce-scatter or all-gather of ``size_bytes`` in all over every ``stride``-th device; an all-reduce is two.

    (n - 1)/n x size over the ring's slowest link; between nodes it has the links of all its ranks inside one.
    """
    if links.clock is not None:
        return links.clock.seconds("all_gather", size_bytes, ranks, stride)
    inside = ranks_inside(ranks, links.domain / stride)
    nodes = ranks / inside
    byte_per_s = _ring_byte_per_s(inside, nodes, stride, links)
    latency_s = (inside - 1) * links.inside_latency_s + (nodes - 1) * links.between_latency_s
    whole_s = (ranks - 1) / ranks * size_bytes / byte_per_s
    seconds: Floats = np.where(ranks > 1, _fastest_s(whole_s, latency_s, links), 0.0)
    return seconds


def all_reduce_s(size_bytes: Floats, ranks: Floats, stride: Floats, links: Links) -> Floats:
    """The sum of ``size_bytes`` on every rank: the fastest of three ways.

    Two passes of a ring. Trees between nodes, two that share the vector, so that each link carries it once up and once
    down in log2(nodes) steps (Sanders, Speck and Traeff 2009; NCCL's double binary trees). Inside one switch that adds:
    every rank sends its vector and receives the sum once, its own part of 1/n twice (Klenk et al. 2020; NVLink SHARP).
    """
    if links.clock is not None:
        return links.clock.seconds("all_reduce", size_bytes, ranks, stride)
    inside = ranks_inside(ranks, links.domain / stride)
    nodes = ranks / inside
    byte_per_s = _ring_byte_per_s(inside, nodes, stride, links)
    steps_s = (inside - 1) * links.inside_latency_s + np.ceil(np.log2(nodes)) * links.between_latency_s
    tree_s = np.where(nodes > 1, _fastest_s(2 * size_bytes / byte_per_s, 2 * steps_s, links), np.inf)
    alone = (links.adds_in_switch > 0) & (nodes == 1)
    switch_s = np.where(alone, (1 + 1 / ranks) * size_bytes / byte_per_s + 2 * links.inside_latency_s, np.inf)
    fastest_s = np.minimum(np.minimum(tree_s, switch_s), 2 * ring_s(size_bytes, ranks, stride, links))
    seconds: Floats = np.where(ranks > 1, fastest_s, 0.0)
    return seconds


LOW_LATENCY = (0.25, 0.5)
"""NCCL's LL protocol over Simple: latency of a step (0.6 of 3.4 us over NVLink, 2.7 of 9.6 us over a network;
NVIDIA/nccl, src/graph/tuning.cc) and bandwidth (half of every 8 bytes is a flag; Hu et al. 2025, "Demystifying NCCL",
section 3)."""

LOW_LATENCY_128 = (0.5, 120 / 128)
"""The same for LL128: 1.9 and 4.0 us, and 8 of 128 bytes are a flag."""


def _fastest_s(whole_s: Floats, latency_s: Floats, links: Links) -> Floats:
    """Time of so much traffic and so many steps under the fastest protocol."""
    simple_s = whole_s + latency_s
    quick_s = [whole_s / bandwidth + latency_s * latency for latency, bandwidth in (LOW_LATENCY, LOW_LATENCY_128)]
    fastest_s: Floats = np.where(links.protocols > 0, np.minimum(np.minimum(*quick_s), simple_s), simple_s)
    return fastest_s


def _ring_byte_per_s(inside: Floats, nodes: Floats, stride: Floats, links: Links) -> Floats:
    """Pace of a ring: its slowest link; between nodes it has the network links of all its ranks inside one."""
    used = links_used(
        inside, stride, domain=links.domain, mesh=links.mesh, torus_axes=links.torus_axes, wrapped=links.wrapped
    )
    inner_byte_per_s = links.inside_byte_per_s * used
    crossing = np.minimum(links.inside_byte_per_s, links.between_byte_per_s * inside)
    byte_per_s: Floats = np.where(nodes > 1, crossing, inner_byte_per_s)
    return byte_per_s


def all_to_all_s(size_bytes: Floats, ranks: Floats, stride: Floats, links: Links) -> Floats:
    """Every rank sends ``size_bytes`` in equal parts; messages inside and between nodes travel side by side."""
    if links.clock is not None:
        return links.clock.seconds("alltoall", size_bytes, ranks, stride)
    inside = ranks_inside(ranks, links.domain / stride)
    near_s = (inside - 1) / ranks * size_bytes / links.inside_byte_per_s
    far_s = (ranks - inside) / ranks * size_bytes / links.between_byte_per_s
    latency_s = np.where(inside < ranks, links.between_latency_s, links.inside_latency_s)
    seconds: Floats = np.where(ranks > 1, np.maximum(near_s, far_s) + latency_s, 0.0)
    return seconds


def send_s(size_bytes: Floats, stride: Floats, links: Links) -> Floats:
    """One message to the device ``stride`` further on."""
    if links.clock is not None:
        return links.clock.seconds("send_recv", size_bytes, np.full_like(links.domain, 2.0), stride)
    near = stride < links.domain
    byte_per_s = np.where(near, links.inside_byte_per_s, links.between_byte_per_s)
    latency_s = np.where(near, links.inside_latency_s, links.between_latency_s)
    seconds: Floats = size_bytes / byte_per_s + latency_s
    return seconds


def pass_s(size_bytes: Floats, ranks: Floats, stride: Floats, links: Links) -> Floats:
    """A message of each rank of a group to the next at once, in one ring."""
    if links.clock is not None:
        return links.clock.pass_s(size_bytes, ranks, stride)
    near = ranks * stride <= links.domain
    byte_per_s = np.where(near, links.inside_byte_per_s, links.between_byte_per_s)
    latency_s = np.where(near, links.inside_latency_s, links.between_latency_s)
    seconds: Floats = np.where(ranks > 1, size_bytes / byte_per_s + latency_s, 0.0)
    return seconds
