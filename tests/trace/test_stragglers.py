"""Who keeps whom waiting?"""

from __future__ import annotations

from pathlib import Path

import kineto
import pytest

from hwprof.trace.analysis import analyse
from hwprof.trace.stragglers import Meeting, stragglers


def test_two_collectives_by_hand():
    """Rank 1 comes last to the first (5 of 9 ns waited), rank 0 to the second."""
    key = ("allreduce",)
    first = [Meeting(key, 0, 9), Meeting(key, 1, 4)]
    second = [Meeting(key, 0, 4), Meeting(key, 1, 6), Meeting(key, 2, 7)]
    found = stragglers([(0, first), (1, second)], span_s=1e-8)
    assert found is not None
    assert (found.collectives, found.unmatched) == (2, 1)
    assert found.transfer_s == pytest.approx(8e-9)
    waits = {rank.rank: (rank.waited_s, rank.caused_s, rank.last) for rank in found.ranks}
    assert waits[0] == (pytest.approx(5e-9), pytest.approx(2e-9), 1)
    assert waits[1] == (pytest.approx(2e-9), pytest.approx(5e-9), 1)


def test_the_slow_rank_of_a_loop_is_found_without_comparing_clocks(tmp_path: Path):
    loop = kineto.Loop(straggler=2, rows=2048)
    files = []
    for rank, file in enumerate(kineto.simulate(loop, 4)):
        text = file.text().replace("4720968", str(4720968 + rank))  # each rank's clock is a second off
        files.append(tmp_path / f"rank{rank}.json")
        files[-1].write_text(text)
    found = analyse(files).stragglers
    assert found is not None
    assert max(found.ranks, key=lambda rank: rank.caused_s).rank == 2
    assert found.transfer_s == pytest.approx(found.collectives * kineto.TRANSFER_NS * 1e-9)


def test_one_rank_waits_for_nobody(gpu_file: Path):
    assert analyse([gpu_file]).stragglers is None


def test_ranks_are_said_by_the_trace_else_by_the_name_else_by_the_order(tmp_path: Path):
    paths = []
    for number, name in enumerate(("a.json", "rank_7.json", "b.json")):
        text = kineto.simulate(kineto.Loop(steps=1))[0].text()
        if number:
            text = text.replace("distributedInfo", "otherInfo")
        paths.append(tmp_path / name)
        paths[-1].write_text(text.replace('"rank": 0', '"rank": 5'))
    assert [device.rank for device in analyse(paths).devices] == [5, 7, 2]


@pytest.mark.parametrize(
    ("shared", "alone", "note"),
    [(0, 2, "no collective is in the traces of all ranks"), (1, 3, "most collectives are not"), (2, 2, "")],
)
def test_traces_of_different_steps_are_said_to_be_so(shared: int, alone: int, note: str):
    both = [Meeting(("allreduce",), number, 5) for number in range(shared)]
    more = [Meeting(("allreduce",), number, 5) for number in range(shared, shared + alone)]
    found = stragglers([(0, both + more), (1, both)], span_s=1.0)
    assert found is not None
    assert (found.collectives, found.unmatched) == (shared, alone)
    assert found.note.startswith(note)
    assert bool(found.note) is bool(note)


def test_files_of_the_same_rank_are_not_compared(tmp_path: Path):
    paths = [kineto.simulate(kineto.Loop(steps=1), 2)[0].write(tmp_path / name) for name in ("a.json", "b.json")]
    found = analyse(paths)
    assert found.stragglers is None
    assert "same rank" in found.notes[0]
