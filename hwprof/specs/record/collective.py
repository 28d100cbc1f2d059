"""How long does a collective take between these ranks? Measured points over sizes, and the line through them.

Sizes and bandwidths have the meaning that nccl-tests gives them (doc/PERFORMANCE.md): the size is the whole vector,
which for an all-gather is the gathered result, for a reduce-scatter the input of one rank, for an all-to-all what one
rank sends, its own share included, and for a send-receive the message that each rank of a ring sends to the next.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

from pydantic import Field

from hwprof.specs.frozen import Record

CollectiveName = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send_recv"]
COLLECTIVES: tuple[CollectiveName, ...] = get_args(CollectiveName)

Scope = Literal["node", "network", "world"]
"""Between the ranks of one node, between ranks of different nodes (one in each), or between all of several nodes."""


def bus_factor(collective: CollectiveName, ranks: int) -> float:
    """Bus bandwidth over algorithm bandwidth: what share of the vector leaves each rank (nccl-tests).

    2 (n - 1) / n for an all-reduce, (n - 1) / n for all-gather, reduce-scatter and all-to-all, 1 for the others.
    """
    if collective in {"broadcast", "send_recv"}:
        return 1.0
    passes = 2 if collective == "all_reduce" else 1
    return passes * (ranks - 1) / ranks


def collective_factor(op: str, ranks: int) -> float | None:
    """``bus_factor`` of any operation; 1 where one rank is the root or the only receiver, None for what is none."""
    if op in COLLECTIVES:
        return next(bus_factor(name, ranks) for name in COLLECTIVES if name == op)
    return 1.0 if op in {"send", "recv", "reduce"} else None


class CollectivePoint(Record):
    """One size of a collective.

    Attributes:
        size_bytes: as nccl-tests counts it.
        samples_s: time of one call on the slowest rank, one value a sample.
        time_s: their median.
        algorithm_byte_per_s: size over time.
        bus_byte_per_s: that times ``bus_factor``, to be held against the link.
        spread: interquartile range over median, a fraction.
    """

    size_bytes: int = Field(gt=0)
    samples_s: tuple[float, ...] = Field(min_length=1)
    time_s: float = Field(gt=0)
    algorithm_byte_per_s: float
    bus_byte_per_s: float
    spread: float
    calls_per_sample: int = Field(default=1, gt=0)


class AlphaBeta(Record):
    """The line ``time = latency_s + size / byte_per_s`` through the points of a collective.

    Attributes:
        latency_s: alpha, the time of an empty vector.
        byte_per_s: 1 / beta, the algorithm bandwidth of an endless vector.
        latency_error_s: standard error of alpha.
        byte_per_s_error: standard error of 1 / beta.
        typical_error: root mean square of (line - measured) / measured, a fraction.
        worst_error: the largest of them, a fraction without sign.
        worst_size_bytes: where that is.
        smallest_bytes: the fit holds from this size,
        largest_bytes: up to this one.
    """

    latency_s: float = Field(ge=0)
    byte_per_s: float = Field(gt=0)
    latency_error_s: float
    byte_per_s_error: float
    typical_error: float
    worst_error: float
    worst_size_bytes: int
    smallest_bytes: int
    largest_bytes: int

    def time_s(self, size_bytes: float) -> float:
        """The line at a size, in seconds."""
        return self.latency_s + size_bytes / self.byte_per_s


class CollectiveCurve(Record):
    """One collective between one group of ranks, over sizes.

    ``fit`` is None where one size alone was measured, or larger vectors took no longer.
    """

    collective: CollectiveName
    scope: Scope
    backend: str
    ranks: int = Field(gt=1)
    nodes: int = Field(gt=0)
    points: tuple[CollectivePoint, ...] = Field(min_length=1)
    fit: AlphaBeta | None
    stable: bool
    conditions: dict[str, str | int | float] = Field(default_factory=dict)

    @property
    def best_bus_byte_per_s(self) -> float:
        """The highest bus bandwidth of all sizes."""
        return max(point.bus_byte_per_s for point in self.points)

    def time_s(self, size_bytes: float) -> float:
        """Seconds at a size: between two measured ones by interpolation, beyond them along the line of the fit."""
        points = sorted(self.points, key=lambda point: point.size_bytes)
        if size_bytes <= points[0].size_bytes:
            return points[0].time_s
        for low, high in pairwise(points):
            if size_bytes <= high.size_bytes:
                share = (size_bytes - low.size_bytes) / (high.size_bytes - low.size_bytes)
                return low.time_s + share * (high.time_s - low.time_s)
        last = points[-1]
        rate = self.fit.byte_per_s if self.fit else last.algorithm_byte_per_s
        return last.time_s + (size_bytes - last.size_bytes) / rate


class PairRate(Record):
    """One message from one rank to another, all others silent; ``byte_per_s`` is one way."""

    source: int
    target: int
    latency_s: float
    byte_per_s: float
    size_bytes: int


class Slowdown(Record):
    """What two kinds of work do to each other when they run at the same time: seconds alone and together.

    Attributes:
        ranks: between how many; 0 in files that do not say it.
        beside_cpu_s: what the other work takes of the host's processors on each rank, alone; None where nobody read it.
    """

    ranks: int = Field(default=0, ge=0)
    beside_cpu_s: float | None = Field(default=None, ge=0)
    work: str
    beside: str
    work_alone_s: float
    work_together_s: float
    beside_alone_s: float
    beside_together_s: float

    @property
    def work_factor(self) -> float:
        """How many times longer the work takes beside the other."""
        return self.work_together_s / self.work_alone_s

    @property
    def beside_factor(self) -> float:
        """How many times longer the other takes beside the work."""
        return self.beside_together_s / self.beside_alone_s


class Meetings(Record):
    """Equal work on all ranks, in pieces: seconds of a piece where each rank goes on by itself, and where all meet.

    ``piece_s`` is that of the middle between the fastest and the slowest rank, ``met_s`` is without the meeting itself.
    """

    piece_s: float
    met_s: float
    pieces: int

    @property
    def factor(self) -> float:
        """How many times longer work takes between meetings; at least 1."""
        return max(self.met_s / self.piece_s, 1.0)
