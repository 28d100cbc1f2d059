"""How long does a collective take? Ring algorithms on alpha-beta links, inside a node and across nodes.

A message of ``n`` bytes takes ``latency + n / bandwidth`` on a link. The ring costs are those of Thakur, Rabenseifner
and Gropp, "Optimization of Collective Communication Operations in MPICH" (2005), sections 4.1 to 4.5; their bandwidth
terms are the factors between algorithm and bus bandwidth in nccl-tests, doc/PERFORMANCE.md. ``size_bytes`` has the
meaning that nccl-tests gives it: the whole vector, which for an all-gather is the gathered result, for a
reduce-scatter the input of one rank, and for an all-to-all what one rank sends, its own share included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from hwprof.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What one device gets from a network: bandwidth one way, and the time of an empty message.

    Raises:
        InputError: the bandwidth is not positive or the latency is negative.
    """

    bandwidth_byte_per_s: float
    latency_s: float

    def __post_init__(self) -> None:
        if not self.bandwidth_byte_per_s > 0 or self.latency_s < 0:
            raise InputError(
                f"a link has bandwidth {self.bandwidth_byte_per_s} byte/s and latency {self.latency_s} s",
                expectation="expected a bandwidth above 0 and a latency of 0 or more",
                remedy="correct the link in the hardware file",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The ranks of one collective: ``inside`` of them in each node (scale-up domain), on each of ``nodes`` nodes."""

    inside: int
    nodes: int
    inside_link: Link
    between_link: Link

    @property
    def ranks(self) -> int:
        """All ranks of the group."""
        return self.inside * self.nodes


def group_of(*, ranks: int, stride: int, domain: int, inside_link: Link, between_link: Link) -> Group:
    """The group of every ``stride``-th device, ``ranks`` of them, where ``domain`` neighbours share a node.

    Nodes hold equally many ranks of a group; where the numbers do not divide, the greatest common divisor stays inside.
    """
    inside = math.gcd(ranks, max(domain // stride, 1))
    return Group(inside=inside, nodes=ranks // inside, inside_link=inside_link, between_link=between_link)


def _ring_s(size_bytes: float, ranks: int, link: Link) -> float:
    """``ranks - 1`` steps, each moving 1 / ranks of the vector."""
    return (ranks - 1) * (link.latency_s + size_bytes / ranks / link.bandwidth_byte_per_s)


def ring_all_gather_s(size_bytes: float, *, ranks: int, link: Link) -> float:
    """(n - 1)/n x size / bandwidth + (n - 1) x latency, in seconds."""
    return _ring_s(size_bytes, ranks, link)


def ring_reduce_scatter_s(size_bytes: float, *, ranks: int, link: Link) -> float:
    """(n - 1)/n x size / bandwidth + (n - 1) x latency, in seconds; the additions themselves are not counted."""
    return _ring_s(size_bytes, ranks, link)


def ring_all_reduce_s(size_bytes: float, *, ranks: int, link: Link) -> float:
    """2 (n - 1)/n x size / bandwidth + 2 (n - 1) x latency, in seconds: a reduce-scatter, then an all-gather."""
    return 2 * _ring_s(size_bytes, ranks, link)


def pairwise_all_to_all_s(size_bytes: float, *, ranks: int, link: Link) -> float:
    """(n - 1)/n x size / bandwidth + (n - 1) x latency, in seconds: each rank exchanges with one other at a time."""
    return _ring_s(size_bytes, ranks, link)


def point_to_point_s(size_bytes: float, *, link: Link) -> float:
    """Size / bandwidth + latency, in seconds."""
    return link.latency_s + size_bytes / link.bandwidth_byte_per_s


def _two_level_s(ring: Callable[..., float], size_bytes: float, group: Group) -> float:
    """Inside each node on the whole vector, between the nodes on the share that each rank holds by then."""
    inside_s = ring(size_bytes, ranks=group.inside, link=group.inside_link)
    return inside_s + ring(size_bytes / group.inside, ranks=group.nodes, link=group.between_link)


def all_reduce_s(size_bytes: float, group: Group) -> float:
    """Reduce-scatter inside the node, all-reduce of the shares between nodes, all-gather inside the node; seconds."""
    return _two_level_s(ring_all_reduce_s, size_bytes, group)


def all_gather_s(size_bytes: float, group: Group) -> float:
    """All-gather of the shares between nodes, then inside the node; seconds."""
    return _two_level_s(ring_all_gather_s, size_bytes, group)


def reduce_scatter_s(size_bytes: float, group: Group) -> float:
    """Reduce-scatter inside the node, then of the shares between nodes; seconds."""
    return _two_level_s(ring_reduce_scatter_s, size_bytes, group)


def all_to_all_s(size_bytes: float, group: Group) -> float:
    """Seconds of an all-to-all whose messages between nodes leave each rank over its own between-node link.

    Messages inside and between nodes go at the same time, so the slower of the two counts: 1 / ranks of the vector for
    each of the ``inside - 1`` neighbours, and for each of the ``ranks - inside`` others.
    """
    message_bytes = size_bytes / group.ranks
    neighbours, others = group.inside - 1, group.ranks - group.inside
    inside_s = neighbours * point_to_point_s(message_bytes, link=group.inside_link)
    return max(inside_s, others * point_to_point_s(message_bytes, link=group.between_link))
