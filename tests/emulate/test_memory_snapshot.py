"""Do snapshots of memory say what happened, torch's own readers read ours, and hostile pickles stay shut?"""

import gzip
import pickle

import pytest
from click.testing import CliRunner
from torch.cuda import _memory_viz

from hwprof.cli.trace import command
from hwprof.emulate.folder import snapshot
from hwprof.emulate.start import machine_named, recorded
from hwprof.errors import InputError
from hwprof.trace.snapshot import HeldByLine, MemoryRefusal, read_story

SCRIPT = """
import torch
weight = torch.nn.Parameter(torch.empty(1024, 1024, device="cuda"))
optimizer = torch.optim.SGD([weight], lr=0.1)
for _ in range(2):
    big = torch.empty(6 * 2**30, device="cuda", dtype=torch.uint8)
    (weight * weight).sum().backward()
    del big
    optimizer.step()
    optimizer.zero_grad()
huge = torch.empty(70 * 2**30, device="cuda", dtype=torch.uint8)
more = torch.empty(20 * 2**30, device="cuda", dtype=torch.uint8)
"""


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    found = recorded([str(folder / "train.py")], machine_named("h100-sxm", 1), steps=9, history=True)[0]
    file = folder / "memory_snapshot.pickle"
    file.write_bytes(pickle.dumps(snapshot(found.history)))
    return found, file


def test_an_emulated_snapshot_says_what_the_recording_says(emulated):
    found, file = emulated
    (story,) = read_story(file)
    assert story.peak_bytes == found.memory.peak_bytes
    assert story.at_peak[0] == HeldByLine("train.py:11", 70 * 2**30, 1)
    assert {held.line for held in story.at_peak} == {"train.py:11", "train.py:12", "train.py:3"}
    assert story.refusal is not None
    assert (story.refusal.line, story.refusal.asked_bytes) == ("train.py:12", 20 * 2**30)
    refusal = found.memory.refusal
    assert story.refusal.allocated_bytes == refusal.allocated_bytes
    assert story.refusal.reserved_bytes == refusal.reserved_bytes


def test_torchs_own_readers_read_it(emulated):
    content = pickle.loads(emulated[1].read_bytes())
    assert "70.0GiB" in _memory_viz.segsum(content)
    told = _memory_viz.trace(content)
    assert "= a[0:4.0MiB]" in told  # the weight, the first block of the first segment


def _entry(action, size, addr=0, line=0, **more):
    frames = [{"filename": "/usr/lib/python3/site-packages/torch/x.py", "line": 1, "name": "empty"}]
    frames += [{"filename": "/home/me/train.py", "line": line, "name": "main"}]
    return {"action": action, "addr": addr, "size": size, "stream": 0, "frames": frames} | more


def test_a_history_is_replayed_to_its_peak_and_to_what_failed(tmp_path):
    """5 bytes from before, then 10 and 20, of which 10 go before 15 more come and 100 do not."""
    trace = [
        _entry("segment_alloc", 64),
        _entry("alloc", 10, 100, 7),
        _entry("alloc", 20, 110, 8),
        _entry("free_requested", 10, 100),
        _entry("free_completed", 10, 100),
        _entry("alloc", 15, 200, 9),
        _entry("oom", 100, line=12, device_free=3),
    ]
    blocks = [
        {"address": 0, "size": 5, "state": "active_allocated", "frames": []},
        {"address": 5, "size": 95, "state": "inactive", "frames": []},
        {"address": 110, "size": 20, "state": "active_allocated", "frames": []},
        {"address": 200, "size": 15, "state": "active_allocated", "frames": []},
    ]
    segment = {"device": 0, "address": 0, "total_size": 135, "blocks": blocks}
    file = tmp_path / "snapshot.pickle"
    file.write_bytes(pickle.dumps({"segments": [segment], "device_traces": [trace]}))
    (story,) = read_story(file)
    assert story.peak_bytes == 5 + 20 + 15
    assert story.at_peak == (
        HeldByLine("train.py:8", 20, 1), HeldByLine("train.py:9", 15, 1), HeldByLine("before the history begins", 5, 1)
    )  # fmt: skip
    assert story.refusal == MemoryRefusal(
        line="train.py:12", asked_bytes=100, allocated_bytes=40, reserved_bytes=135, free_bytes=3
    )
    assert (story.free_bytes, story.largest_free_bytes) == (95, 95)
    said = CliRunner().invoke(command, [str(file)]).stdout
    assert "OUT OF MEMORY at train.py:12: 100 B more beside 40 B" in said


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit('it ran')",))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Hostile()),
        pickle.dumps({"segments": [Hostile()], "device_traces": []}),
        pickle.dumps({"segments": [{}], "device_traces": []}),
        pickle.dumps({"segments": 3}),
        pickle.dumps([1, 2]),
        pickle.dumps({"segments": [{"blocks": [1] * 1000}] * 100_000, "device_traces": []}),
        b"\x80\x04cut short",
        gzip.compress(b"", mtime=0),
    ],
)
def test_what_is_no_snapshot_is_refused_in_a_line(tmp_path, content):
    file = tmp_path / "snapshot.pickle"
    file.write_bytes(content)
    with pytest.raises(InputError, match="is no snapshot of memory") as refused:
        read_story(file)
    assert "\n" not in str(refused.value)
