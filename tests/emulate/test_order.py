"""Who waits for whom? Steps of a few events, their times added up by hand."""

import numpy as np
import pytest

from hwprof.emulate import order
from hwprof.emulate.order import play
from hwprof.emulate.prices import Prices
from hwprof.emulate.recording import Memory, Recording
from hwprof.emulate.tape import BEHIND, COLLECTIVE, HOST_WAITS, KERNEL, RECORD, WAIT, Collective
from hwprof.errors import WorkError

GATHER = Collective(op="all_gather", ranks=(0, 1), size_bytes=8, peer=-1, group=0)
SHORT, LONG = 0, 1
"""Calls of 1 and of 3 seconds."""


def _recording(events, rank=0, collectives=(GATHER,)):
    nothing = {
        "steps": 2,
        "device": "cuda",
        "software": "torch",
        "tf32": False,
        "made_up": {},
        "notes": (),
        "failure": "",
        "line": "",
    }
    memory = Memory(peak_bytes=0, reserved_bytes=0, kinds={}, refusal=None)
    return Recording(
        rank=rank,
        devices=2,
        calls=(),
        collectives=collectives,
        events=tuple(events),
        call_count=0,
        memory=memory,
        **nothing,
    )


def _prices(host_s=0.0, launch_s=0.0):
    return Prices(
        device_s=np.array([1.0, 3.0]),
        host_s=np.array([host_s, host_s]),
        launch_s=launch_s,
        assumed=np.zeros(2, dtype=bool),
        memory_bound=np.zeros(2, dtype=bool),
        collective_s=np.array([2.0]),
        basis=(),
    )


def _played(*events, host_s=0.0, synchronous=False):
    return play([_recording(events)], [_prices(host_s)], synchronous=synchronous)[0]


def test_a_stream_is_a_queue():
    assert _played((KERNEL, SHORT, 0), (KERNEL, LONG, 0)).step_s == 4


def test_a_host_that_is_slower_than_its_kernels_sets_the_pace():
    played = _played((KERNEL, SHORT, 0), (KERNEL, SHORT, 0), host_s=5.0)
    assert played.step_s == 10
    assert played.idle_s == pytest.approx(8)


def test_a_collective_beside_a_kernel_is_hidden():
    played = _played((COLLECTIVE, 0, 0, 1, 1), (KERNEL, LONG, 0), (WAIT, 1, 0), (HOST_WAITS, -1))
    assert (played.step_s, played.exposed_s, played.hidden_s) == (3, 0, 2)
    assert played.bare_s == (0,)


def test_a_collective_that_is_waited_for_at_once_is_exposed():
    played = _played((COLLECTIVE, 0, 0, 1, 1), (WAIT, 1, 0), (KERNEL, LONG, 0), (HOST_WAITS, -1))
    assert (played.step_s, played.exposed_s, played.hidden_s) == (5, 2, 0)
    assert played.bare_s == (2,)


def test_a_collective_costs_the_host_a_launch_whatever_its_own_work_takes():
    """Two collectives of 2 s behind one second of launching each; the host's calls of 5 s are others."""
    twice = [(COLLECTIVE, 0, 0, number, 1) for number in (1, 2)]
    played = play([_recording([*twice, (HOST_WAITS, -1)])], [_prices(host_s=5.0, launch_s=1.0)], synchronous=False)[0]
    assert played.step_s == 5


def test_an_event_holds_another_stream_back():
    together = _played((KERNEL, LONG, 0), (KERNEL, LONG, 1), (HOST_WAITS, -1))
    apart = _played((KERNEL, LONG, 0), (RECORD, 7, 0), (BEHIND, 7, 1), (KERNEL, LONG, 1), (HOST_WAITS, -1))
    assert (together.step_s, apart.step_s) == (3, 6)


def test_parts_of_a_step_add_up():
    played = _played((COLLECTIVE, 0, 0, 1, 1), (KERNEL, SHORT, 0), (WAIT, 1, 0), (KERNEL, SHORT, 0), (HOST_WAITS, -1))
    assert played.compute_s + played.exposed_s + played.idle_s == pytest.approx(played.step_s)


def test_a_stage_waits_for_the_one_before():
    sends = Collective(op="send", ranks=(0, 1), size_bytes=8, peer=1, group=0)
    gets = Collective(op="recv", ranks=(0, 1), size_bytes=8, peer=0, group=0)
    first = _recording([(KERNEL, LONG, 0), (COLLECTIVE, 0, 0, 1, 1), (WAIT, 1, 0)], rank=0, collectives=(sends,))
    second = _recording([(COLLECTIVE, 0, 0, 1, 1), (WAIT, 1, 0), (KERNEL, LONG, 0)], rank=1, collectives=(gets,))
    ends = [each.step_s for each in play([first, second], [_prices(), _prices()], synchronous=False)]
    assert ends == [5, 5]  # 3 s of work and 2 s of message each step; the stages overlap from the second step on


def test_ranks_that_wait_for_each_other_for_ever_are_refused(monkeypatch):
    monkeypatch.setattr(order, "MOST_TURNS", 10)
    gets = [Collective(op="recv", ranks=(0, 1), size_bytes=8, peer=peer, group=0) for peer in (1, 0)]
    ranks = [
        _recording([(COLLECTIVE, 0, 0, 1, 1), (WAIT, 1, 0)], rank=rank, collectives=(one,))
        for rank, one in enumerate(gets)
    ]
    with pytest.raises(WorkError, match="for ever"):
        play(ranks, [_prices(), _prices()], synchronous=False)
