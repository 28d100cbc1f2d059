"""How much longer does work take when all ranks meet after each piece of it, than when each goes on by itself?

Ranks that share cores, with each other or with other programs, do not end equal work at the same time: who is early
waits, and the cores that it leaves stand idle for a while. Rates that are probed while all ranks compute hold what they
take from each other on average, but not this.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

from hwprof.measure.timing import Timer
from hwprof.measure.world import World
from hwprof.specs.record.collective import Meetings

PIECES_S = (0.001, 0.01, 0.1)
"""How long each piece of work takes, about."""

_SIDE = 256
_WHOLE_S = 1.0
_LEAST_PIECES, _MOST_PIECES = 8, 200


def probe_meetings(world: World, timer: Timer) -> tuple[Meetings, ...]:
    """Products with and without meetings, for short and for long pieces; every rank returns the same. CPUs only."""
    left, right = (torch.randn(_SIDE, _SIDE) for _ in range(2))
    out = torch.empty_like(left)

    def compute(products: int) -> None:
        for _ in range(products):
            torch.mm(left, right, out=out)

    meeting_s = _meeting_s(world, timer)
    one_s = _products_s(world, timer, compute)
    found = []
    for piece_s in PIECES_S:
        products = max(1, round(piece_s / one_s))
        pieces = min(max(_LEAST_PIECES, round(_WHOLE_S / piece_s)), _MOST_PIECES)
        world.barrier()
        start = timer.mark()
        compute(pieces * products)
        own_s = timer.elapsed_s(start, timer.mark())
        world.barrier()
        start = timer.mark()
        for _ in range(pieces):
            compute(products)
            world.barrier()
        met_s = timer.elapsed_s(start, timer.mark()) - pieces * meeting_s
        least_s, longest_s = -world.largest([-own_s])[0], world.largest([own_s])[0]
        found.append(
            Meetings(
                piece_s=(least_s + longest_s) / 2 / pieces,
                met_s=max(world.largest([met_s])[0], least_s) / pieces,
                pieces=pieces,
            )
        )
    return tuple(found)


def _products_s(world: World, timer: Timer, compute: Callable[[int], None]) -> float:
    """Seconds of one product on the slowest rank while all compute."""
    compute(5)
    own_s = []
    for _ in range(5):
        world.barrier()
        start = timer.mark()
        compute(20)
        own_s.append(timer.elapsed_s(start, timer.mark()) / 20)
    return statistics.median(world.largest(own_s))


def _meeting_s(world: World, timer: Timer) -> float:
    """What a meeting itself takes, with nothing to wait for."""
    own_s = []
    for _ in range(20):
        start = timer.mark()
        world.barrier()
        own_s.append(timer.elapsed_s(start, timer.mark()))
    return statistics.median(world.largest(own_s))
