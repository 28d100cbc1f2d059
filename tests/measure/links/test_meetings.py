"""Claims about work between meetings of real ranks, timed by a clock that one of them reads differently."""

import pytest

from hwprof.measure.links.meetings import PIECES_S, probe_meetings
from hwprof.measure.timing import Mark
from hwprof.specs.record.collective import Meetings

PRODUCT_S = 0.001


class Counted:
    """A clock that moves by a given time for each product, and by 3 ms for each meeting on rank 1."""

    def __init__(self, world):
        self.now_s, self.world, self._barrier = 0.0, world, type(world).barrier

    def mark(self):
        return Mark(self.now_s)

    def elapsed_s(self, start, stop):
        return stop.host_s - start.host_s


def meet(world):
    from unittest import mock

    import torch

    clock = Counted(world)

    def product(*_operands, **_options):
        clock.now_s += PRODUCT_S * (1 + world.rank)

    waits = {"now": False}

    def barrier(self):
        clock._barrier(self)
        if waits["now"]:
            clock.now_s += 0.003 if self.rank == 1 else 0.0

    with mock.patch.object(torch, "mm", product), mock.patch.object(type(world), "barrier", barrier):
        probe_free = probe_meetings(world, clock)
        waits["now"] = True
        probe_waiting = probe_meetings(world, clock)
    return probe_free, probe_waiting


def test_pieces_are_timed_on_all_ranks_and_meetings_themselves_do_not_count(ranks):
    """Rank 0 takes 1 ms a product and rank 1 takes 2: 1, 5 and 50 products are 2, 10 and 100 ms on the slower."""
    results = ranks(2).run(meet)
    free, waiting = results[0]
    assert results[0] == results[1]
    assert len(free) == len(PIECES_S)
    assert [each.met_s for each in free] == pytest.approx([0.002, 0.010, 0.100])
    assert [each.piece_s for each in free] == pytest.approx([0.0015, 0.0075, 0.075])
    assert [each.met_s for each in waiting] == pytest.approx([0.002, 0.010, 0.100])


def test_factor_is_never_below_one():
    assert Meetings(piece_s=2.0, met_s=3.0, pieces=8).factor == 1.5
    assert Meetings(piece_s=2.0, met_s=1.9, pieces=8).factor == 1.0
