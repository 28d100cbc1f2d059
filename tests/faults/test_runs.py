"""A run that is ended, stopped or starved, or one of its ranks, says so in one line; what was measured is kept."""

import gzip
import signal

import pytest
from fault_kinds import SAVED, has_own_disks
from faulty import STRUCK

from hwprof.report.files.run import cleared, read_run

ENDS = {"report.html": b"</html>", ".png": b"IEND\xaeB`\x82", ".csv": b"\n", "run.json": b"}\n"}
INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.fixture(scope="session")
def calls(children, run_words, tmp_path_factory):
    """How many places a run without a fault has."""
    ended = children.run(tmp_path_factory.mktemp("whole"), *run_words, "--output", "run", kind="none")
    assert (ended.codes, ended.err) == ((0,), "")
    return ended.calls


def _complete(directory):
    """Each file is whole, or it is not there; the record, if there is one."""
    for path in directory.iterdir() if directory.is_dir() else ():
        if path.name.startswith("."):
            continue
        if path.suffix == ".gz":
            gzip.decompress(path.read_bytes())
            continue
        end = ENDS.get(path.name) or ENDS[path.suffix]
        assert path.read_bytes().rstrip(b"\n").endswith(end.rstrip(b"\n")), path.name
    return read_run(directory) if (directory / "run.json").is_file() else None


def _said(ended):
    """What stands on stderr: a line at most, and the empty one with which click goes on after a terminal's ``^C``."""
    lines = [line for line in ended.err.splitlines() if line]
    assert len(lines) <= 1, ended.err
    assert all(line.startswith("hwprof: ") for line in lines), ended.err
    return "".join(lines)


def _steps(record):
    return len(record.step.samples_s) if record and record.step else 0


SIGNALS = {
    "Ctrl-C": (INT, 1, 50),
    "a scheduler's signal": (TERM, 1, 50),
    "Ctrl-C twice": (INT, 2, 25),
    "a scheduler's signal twice": (TERM, 2, 50),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_signal_loses_no_timed_step(children, run_words, calls, each_try, name):
    number, count, share = SIGNALS[name]
    with each_try(name, share) as (tries, ends):
        for random, folder in tries:
            at = [random.randint(1, calls), *(random.randint(1, 400) for _ in range(count - 1))]
            ended = children.run(folder, *run_words, "--output", "run", kind="signal", number=number, at=at)
            _said(ended)
            record = _complete(folder / "run")
            assert ended.codes[0] in {0, 130}, (at, ended)
            assert (ended.codes[0] == 130) == ("interrupted" in ended.err), (at, ended)
            assert _steps(record) >= ended.timed_before(STRUCK), (at, ended)
            assert record is None or record.status in {"complete", "interrupted", "partial"}, at
            ends["stopped" if ended.codes[0] else "at its end already"] += 1


def test_kill_leaves_the_steps_that_were_saved_and_whole_files(children, run_words, calls, each_try):
    with each_try("kill", 25) as (tries, ends):
        for random, folder in tries:
            at, kill = [random.randint(1, calls)], {"kind": "signal", "number": signal.SIGKILL}
            ended = children.run(folder, *run_words, "--output", "run", at=at, save_every_s=0.0, **kill)
            assert ended.codes[0] in {0, -signal.SIGKILL}, (at, ended)
            record = _complete(folder / "run")
            assert (record is not None) >= (SAVED in ended.notes), at
            assert _steps(record) >= ended.timed_before(SAVED, last=True), (at, ended)
            ends[record.status if record else "nothing measured yet"] += 1
            if (folder / "run").is_dir():
                (folder / "run" / "mine.txt").write_text("kept")
                cleared(folder / "run")
                assert [path.name for path in (folder / "run").iterdir()] == ["mine.txt"], at


def test_stopped_run_goes_on_as_if_nothing_had_been(children, run_words, calls, each_try):
    with each_try("stop", 50) as (tries, ends):
        for random, folder in tries:
            at = [random.randint(1, calls)]
            ended = children.run(folder, *run_words, "--output", "run", kind="stop", at=at)
            assert (ended.codes, ended.err) == ((0,), ""), at
            assert _complete(folder / "run").status == "complete"
            ends["went on"] += 1


def test_memory_that_ends_is_said_in_one_line(children, run_words, calls, each_try):
    with each_try("memory", 25) as (tries, ends):
        for random, folder in tries:
            at, room_bytes = [random.randint(1, calls)], random.choice((0, 2**16, 2**20, 2**23, 2**25, 2**27))
            ended = children.run(folder, *run_words, "--output", "run", kind="memory", bytes=room_bytes, at=at)
            where = (at, room_bytes, ended)
            assert "Traceback" not in ended.err, where
            assert ended.codes[0] in {0, 1, 2}, where
            assert (ended.codes[0] > 0) == bool(ended.err), where
            assert _steps(_complete(folder / "run")) >= ended.timed_before(STRUCK), where
            ends[{0: "enough", 1: "too little", 2: "refused"}[ended.codes[0]]] += 1


@pytest.mark.parametrize(("kind", "room_bytes", "share"), [("disk", 4_000_000, 25), ("file size", 0, 50)])
def test_disk_that_fills_up_is_said_in_one_line(children, run_words, calls, each_try, kind, room_bytes, share):
    if kind == "disk" and not has_own_disks():
        pytest.skip("this system gives no process a disk of its own")
    with each_try(kind, share) as (tries, ends):
        for random, folder in tries:
            (folder / "full").mkdir()
            at, left_bytes = [random.randint(1, calls)], random.choice((0, 1, 4096, 8192, 30_000, 100_000, 500_000))
            fault = {"kind": kind, "bytes": left_bytes, "room_bytes": room_bytes}
            ended = children.run(folder, *run_words, "--output", "full/run", at=at, **fault)
            where = (at, left_bytes, ended)
            _said(ended)
            assert ended.codes[0] in {0, 1}, where
            assert ended.codes[0] == 0 or "No space left" in ended.err or "File too large" in ended.err, where
            if kind == "file size":
                _complete(folder / "full" / "run")
            ends["too little" if ended.codes[0] else "enough"] += 1


@pytest.fixture(scope="session")
def rank_words(run_words):
    return (*run_words, "--parallel", "ddp")


@pytest.fixture(scope="session")
def rank_calls(children, rank_words, tmp_path_factory):
    """How many places a rank has once it has met the others; and two ranks without a fault end as one."""
    folder = tmp_path_factory.mktemp("whole")
    ended = children.run(folder, *rank_words, "--output", "run", ranks=2, kind="none")
    assert (ended.codes, ended.err) == ((0, 0), "")
    assert read_run(folder / "run").status == "complete"
    return ended.calls


KILL = {"kind": "signal", "number": signal.SIGKILL}
ENDINGS = {
    "killed": (KILL, ("died or was stopped",)),
    "killed, and rank 0 hosts": (KILL | {"agent": False}, ("died or was stopped", "meeting point is gone")),
    "interrupted": ({"kind": "signal", "number": INT}, ("interrupted",)),
    "terminated": ({"kind": "signal", "number": TERM}, ("SIGTERM",)),
    "stopped for good": ({"kind": "stop", "goes_on": False}, ("died or was stopped",)),
    "stopped for a moment": ({"kind": "stop"}, ()),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_rank_is_named_and_what_was_measured_is_kept(request, children, rank_words, each_try, name):
    fault, says = ENDINGS[name]
    with each_try(f"rank {name}", 150) as (tries, ends):
        calls = request.getfixturevalue("rank_calls")
        for random, folder in tries:
            at, rank = [random.randint(1, calls)], random.randrange(2)
            ended = children.run(folder, *rank_words, "--output", "run", ranks=2, rank=rank, at=at, **fault)
            where = (at, rank, ended)
            line, record = _said(ended), read_run(folder / "run")
            if ended.codes[1 - rank] == 0 or not says:  # it struck when all was done
                assert record.status == "complete", where
                assert not line or (ended.codes[rank], line.split()[-1]) == (130, "run"), where  # it says where all is
            else:
                assert any(words in line for words in says), where
                if fault["kind"] == "stop" and ended.codes[rank] == 0:  # woken later, it had what all had handed in
                    assert (record.status, len(record.ranks.ranks)) == ("complete", 2), where
                else:
                    assert any(words in record.status_note for words in says), where
                    assert record.status in {"failed", "interrupted"}, where
                assert record.step is not None or ended.timed_before(STRUCK) < 4, where  # two steps of each rank
            ends[record.status] += 1


def _disk_of_ranks(children, rank_words, folder, *, rank, at, left_bytes):
    fault = {"kind": "file size", "bytes": left_bytes}
    ended = children.run(folder, *rank_words, "--output", "run", ranks=2, rank=rank, at=[at], **fault)
    line = _said(ended)
    assert set(ended.codes) <= {0, 1}, (at, left_bytes, ended)
    assert not line or "File too large" in line, (at, left_bytes, ended)
    return line


@pytest.mark.parametrize("rank", [0, 1])
def test_disk_of_a_rank_that_fills_up_is_said_in_one_line(request, children, rank_words, each_try, rank):
    with each_try(f"disk of rank {rank}", 150) as (tries, ends):
        calls = request.getfixturevalue("rank_calls")
        for random, folder in tries:
            at, left_bytes = random.randint(1, calls), random.choice((0, 1, 4096, 30_000, 100_000))
            line = _disk_of_ranks(children, rank_words, folder, rank=rank, at=at, left_bytes=left_bytes)
            ends["too little" if line else "enough"] += 1


def test_disk_of_ranks_that_is_full_is_said_in_one_line(tmp_path, children, rank_words):
    assert "File too large" in _disk_of_ranks(children, rank_words, tmp_path, rank=0, at=1, left_bytes=0)


def test_folder_of_ranks_that_can_not_be_made_is_said_once_and_first(tmp_path, children, rank_words):
    (tmp_path / "file").write_text("")
    ended = children.run(tmp_path, *rank_words, "--output", "file/run", ranks=2, kind="none")
    assert ended.codes == (1, 1)
    assert _said(ended) == "hwprof: the folder file/run can't be made (Not a directory); give another with --output"
    assert [note for note in ended.notes if note != "calls 0"] == []
