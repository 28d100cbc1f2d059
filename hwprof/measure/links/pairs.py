"""How fast is the way from each rank to each other one? A message and its receipt, while all others are silent."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable

from hwprof.measure.links.collectives import ELEMENT_BYTES, RankGroup, one_way
from hwprof.measure.timing import Timer
from hwprof.measure.world import World, sized_as
from hwprof.specs.record.collective import PairRate

MOST_RANKS = 16
"""Pairs grow with the square; beyond this many ranks the matrix is not measured."""
LARGE_BYTES = {"gloo": 4 * 2**20, "nccl": 64 * 2**20}
_WARMUPS = 2
_SAMPLES = 5
_SMALL_CALLS = 10


def probe_pairs(
    world: World, group: RankGroup, timer: Timer, *, report: Callable[[str], None] = lambda _line: None
) -> tuple[PairRate, ...]:
    """Every ordered pair of the group; every rank returns the same.

    The round trip of two single elements is twice the latency; what a large message adds to it is its time on the way.
    """
    rates = []
    for source, target in itertools.permutations(group.ranks, 2):
        report(f"measuring the way from rank {source} to rank {target}")
        small_s = _round_trip_s(world, group, timer, source, target, elements=1, calls=_SMALL_CALLS)
        large_bytes = LARGE_BYTES[sized_as(world.backend)]
        large_s = _round_trip_s(world, group, timer, source, target, elements=large_bytes // ELEMENT_BYTES, calls=1)
        rates.append(
            PairRate(
                source=source,
                target=target,
                latency_s=small_s / 2,
                byte_per_s=large_bytes / max(large_s - small_s, small_s / 100),
                size_bytes=large_bytes,
            )
        )
    return tuple(rates)


def _round_trip_s(
    world: World, group: RankGroup, timer: Timer, source: int, target: int, *, elements: int, calls: int
) -> float:
    """Median seconds from sending until the receipt is here, as the sender sees it."""
    work = one_way(group, source, target, elements, world.device)
    for _ in range(_WARMUPS):
        work()
    own_s = []
    for _ in range(_SAMPLES):
        world.barrier()
        start = timer.mark()
        for _ in range(calls):
            work()
        elapsed_s = timer.elapsed_s(start, timer.mark()) / calls
        own_s.append(elapsed_s if world.rank == source else 0.0)
    return statistics.median(world.largest(own_s))
