"""Claims about ranks that die, fail or hang: who is blamed by hand, and three real ranks that lose one."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch.distributed as dist
from rank_pool import RankPool

from hwprof.measure import lifeline
from hwprof.measure.lifeline import Lifeline, blame, trouble, whereabouts
from hwprof.measure.signs import Fault, Sign, kind_of


def _sign(rank, *, silent=0.1, still=1.0, moves=5, stage="step 3", where="mm in a.py:1", waiting=False, done=False):
    return Sign(
        rank=rank, silent_s=silent, still_s=still, moves=moves, stage=stage, where=where, waiting=waiting, done=done
    )


def _blame(signs, faults=(), *, terminated=False):
    return blame(signs, faults, terminated=terminated, stuck_s=30)


def test_ranks_that_beat_and_move_are_in_no_trouble():
    assert not trouble([_sign(0), _sign(1, still=100)], [], terminated=False, stuck_s=30)


@pytest.mark.parametrize(
    ("signs", "faults", "terminated"),
    [
        ([_sign(0), _sign(1, silent=61)], (), False),
        ([_sign(0, still=31), _sign(1, still=31)], (), False),
        ([_sign(0)], (Fault(rank=1, kind="error", text="x"),), False),
        ([_sign(0)], (), True),
    ],
)
def test_silence_standstill_fault_and_signal_are_trouble(signs, faults, terminated):
    assert trouble(signs, faults, terminated=terminated, stuck_s=30)


def test_rank_at_its_end_is_missed_by_nobody():
    assert not trouble([_sign(0), _sign(1, silent=900, still=900, done=True)], [], terminated=False, stuck_s=30)


def test_own_error_is_blamed_before_the_errors_that_follow_from_it():
    faults = (
        Fault(rank=0, kind="connection", text="Connection closed by peer"),
        Fault(rank=2, kind="error", text="out of memory"),
    )
    found = _blame([_sign(0), _sign(1), _sign(2, silent=9)], faults)
    assert (found.ranks, found.text, found.exit_code) == ((2,), "rank 2 failed: out of memory", 1)


def test_silent_rank_is_blamed_for_the_connections_that_the_others_lost():
    found = _blame([_sign(0), _sign(1, silent=5)], (Fault(rank=0, kind="connection", text="closed by peer"),))
    assert found.ranks == (1,)
    assert "rank 1 died or was stopped" in found.text
    assert "last seen: step 3" in found.text


def test_of_ranks_that_hang_the_one_that_came_least_far_is_blamed():
    signs = [_sign(0, still=40, moves=9, waiting=True), _sign(1, still=40, moves=8, where="sleep in b.py:7")]
    found = _blame(signs)
    assert found.ranks == (1,)
    assert "rank 1 made no progress for 40 s (stage: step 3; at sleep in b.py:7)" in found.text
    assert "waiting for it: rank 0" in found.text


def test_of_ranks_equally_far_the_one_that_waits_for_nobody_is_blamed():
    signs = [_sign(0, still=40, waiting=True), _sign(1, still=40, waiting=False), _sign(2, still=40, waiting=True)]
    assert _blame(signs).ranks == (1,)


def test_ranks_that_all_wait_for_each_other_are_all_blamed():
    found = _blame([_sign(0, still=40, waiting=True), _sign(1, still=40, waiting=True)])
    assert found.ranks == (0, 1)
    assert found.text.startswith("ranks 0, 1 made no progress")


def test_interrupt_and_signal_have_the_exit_codes_of_shells():
    interrupted = _blame([_sign(0)], (Fault(rank=0, kind="interrupted", text=""),))
    assert interrupted.exit_code == 130
    assert _blame([_sign(0)], terminated=True).exit_code == 143


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:5"), "connection"),
        (dist.DistBackendError("NCCL communicator was aborted on rank 1"), "connection"),
        (RuntimeError("Timed out waiting 1800000ms for recv operation to complete"), "connection"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "error"),
        (ValueError("connection"), "error"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_errors_that_follow_from_another_ranks_end_are_told_apart(error, kind):
    assert kind_of(error) == kind


def test_whereabouts_name_function_file_and_line():
    import sys

    place, waiting = whereabouts(sys._getframe())
    assert place.startswith("test_whereabouts_name_function_file_and_line in test_lifeline.py:")
    assert not waiting
    assert whereabouts(None) == ("nowhere", False)


def live(world, folder, ending):
    """Each rank measures something and meets the others again and again; rank 1 comes to a bad end."""
    lifeline.PERIOD_S, lifeline.SETTLE_S = 0.1, 0.8

    def report(found, handed_in):
        text = json.dumps([found.ranks, found.text, found.exit_code, handed_in])
        with open(f"{folder}/report-{world.rank}.json", "w") as file:  # noqa: PTH123
            file.write(text)

    watch = Lifeline(world, salvage=lambda: f"measured by {world.rank}", report=report, stuck_s=1.5)
    watch.start()
    try:
        for step in range(1000):
            watch.stage(f"step {step}")
            if world.rank == 1 and step == 3:
                _ENDINGS[ending]()
            world.barrier()
    except BaseException as error:  # noqa: BLE001
        watch.fail(error)


def _raise():
    raise ValueError("the loss is no number\nand more")


_ENDINGS = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hung": lambda: time.sleep(600),
    "failed": _raise,
}


@pytest.mark.parametrize(
    ("ending", "says", "codes", "survivors"),
    [
        ("killed", "rank 1 died or was stopped", [1, -9, 1], ["0", "2"]),
        ("hung", "rank 1 made no progress", [1, 1, 1], ["0", "1", "2"]),
        ("failed", "rank 1 failed: the loss is no number", [1, 1, 1], ["0", "1", "2"]),
    ],
)
def test_rank_that_ends_badly_is_named_once_with_what_the_others_measured(tmp_path, ending, says, codes, survivors):
    pool = RankPool(3)
    try:
        pool.start(live, str(tmp_path), ending)
        assert pool.exit_codes() == codes
    finally:
        pool.close()
    assert [path.name for path in tmp_path.iterdir()] == ["report-0.json"]
    ranks, text, exit_code, handed_in = json.loads((tmp_path / "report-0.json").read_text())
    assert (ranks, exit_code) == ([1], 1)
    assert says in text
    assert "\n" not in text
    assert handed_in == {rank: f"measured by {rank}" for rank in survivors}


def hand_over(world, folder, stage):
    """All ranks measured; rank 0 dies while it collects, or while it reports."""
    lifeline.PERIOD_S, lifeline.SETTLE_S, lifeline.SILENT_S = 0.1, 0.8, 2.0

    def report(found, handed_in):
        with open(f"{folder}/report-{world.rank}.json", "w") as file:  # noqa: PTH123
            file.write(json.dumps([found.text, handed_in]))

    watch = Lifeline(world, salvage=lambda: f"measured by {world.rank}", report=report, stuck_s=30.0)
    watch.start()
    try:
        if world.rank == 0 and stage == "handing in":
            os.kill(os.getpid(), signal.SIGKILL)
        watch.hand_in(f"measured by {world.rank}")
        if world.rank:
            watch.await_report()
        else:
            watch.collect()
            os.kill(os.getpid(), signal.SIGKILL)
    except BaseException as error:  # noqa: BLE001
        watch.fail(error)


@pytest.mark.parametrize("stage", ["handing in", "reporting"])
def test_rank_0_that_dies_at_the_end_is_stood_in_for_by_the_lowest_that_lives(tmp_path, stage):
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun's agent has it
    pool = RankPool(3, store_port=store.port)
    try:
        pool.start(hand_over, str(tmp_path), stage)
        assert pool.exit_codes() == [-9, 1, 1]
    finally:
        pool.close()
    assert [path.name for path in tmp_path.iterdir()] == ["report-1.json"]
    text, handed_in = json.loads((tmp_path / "report-1.json").read_text())
    assert "rank 0 died or was stopped" in text
    assert handed_in | {"0": ""} == {"0": "", "1": "measured by 1", "2": "measured by 2"}


def test_rank_0_that_dies_and_takes_the_store_with_it_leaves_what_the_next_measured(tmp_path):
    pool = RankPool(2)
    try:
        pool.start(hand_over, str(tmp_path), "reporting")
        assert pool.exit_codes() == [-9, 1]
    finally:
        pool.close()
    text, handed_in = json.loads((tmp_path / "report-1.json").read_text())
    assert "meeting point is gone" in text
    assert handed_in == {"1": "measured by 1"}


def end_beside_the_report(world, folder, begun):
    """All ranks measured; the launcher ends one of them when rank 0 has begun to write the report, or just before."""
    lifeline.PERIOD_S, lifeline.SETTLE_S, lifeline.REPORT_S = 0.1, 0.5, 10.0

    def report(found, _handed_in):
        Path(folder, f"left-{world.rank}").write_text(found.text)

    watch = Lifeline(world, salvage=str, report=report, stuck_s=30.0)
    watch.start()
    watch.hand_in("")
    if world.rank:
        watch.await_report()
    else:
        watch.collect()
        if not begun:
            os.kill(os.getpid(), signal.SIGTERM)
            while not world.store.check(["trouble"]):
                time.sleep(0.01)
        with watch.whole():
            if begun:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(2.0)  # longer than what ranks take to settle who is to blame
            Path(folder, "whole").touch()
    watch.finish()
    os._exit(0)


@pytest.mark.parametrize(("begun", "codes", "written"), [(True, [0, 0], ["whole"]), (False, [143, 1], ["left-0"])])
def test_report_of_all_ranks_once_begun_is_written_whole_and_by_one(tmp_path, begun, codes, written):
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun's agent has it
    pool = RankPool(2, store_port=store.port)
    try:
        pool.start(end_beside_the_report, str(tmp_path), begun)
        assert pool.exit_codes() == codes
    finally:
        pool.close()
    assert [path.name for path in tmp_path.iterdir()] == written


def finish(world):
    watch = Lifeline(world, salvage=str, report=lambda *_: None, stuck_s=30.0)
    watch.start()
    if world.rank == 1:
        time.sleep(0.2)
    watch.hand_in(f"result of {world.rank}")
    found = watch.collect() if world.rank == 0 else None
    watch.finish()
    return found


def test_results_of_all_ranks_come_to_rank_0(ranks):
    assert ranks(2).run(finish) == [{0: "result of 0", 1: "result of 1"}, None]
