"""Does an emulated rank do what a real one does? The same script, emulated, and on two ranks that talk through gloo."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hwprof.emulate.answer import collective_rows, emulation
from hwprof.emulate.saved import read_recordings, recording_bytes
from hwprof.emulate.start import machine_named, recorded
from hwprof.emulate.timeline import chrome_trace
from hwprof.measure.probes.device import bench_for
from hwprof.measure.probes.played import played
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.record.saved_calls import call_name, saved_calls

HERE = Path(__file__).parent
SCRIPT = HERE / "scripts" / "sharded.py"
RANKS = 2


def _really(what, folder, ranks=RANKS, script=SCRIPT):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = folder / f"{what}.json"
    started = [
        subprocess.Popen(
            [sys.executable, str(HERE / "gloo_run.py"), str(script), "3", what],
            env=os.environ
            | {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank), "FOUND": str(found)}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for rank in range(ranks)
    ]
    for rank in started:
        _, said = rank.communicate(timeout=300)
        assert rank.returncode == 0, said.decode()
    return json.loads(found.read_text(encoding="utf-8"))


def _priced(recordings):
    return emulation(recordings, machine_named("h100-sxm", RANKS), simulator_parameters())


def _rows(found):
    return sorted([row["op"], row["bytes"], row["count"]] for row in collective_rows(found.recording, found.played))


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    return _really("calls", tmp_path_factory.mktemp("calls"))


def test_collectives_are_those_of_real_ranks(emulated, seen):
    found = _priced([emulated])
    assert _rows(found) == seen["collectives"]
    assert {row["ranks"] for row in collective_rows(found.recording, found.played)} == {RANKS}


def test_a_viewer_gets_each_kernel_and_each_collective(emulated, seen):
    found = _priced([emulated])
    events = [event for event in json.loads(chrome_trace(found))["traceEvents"] if event["ph"] == "X"]
    assert sum(event["pid"] == 2 for event in events) == sum(count for _, _, count in seen["collectives"])
    kernels = [event for event in events if event["pid"] == 1]
    assert sum(event["args"]["flop"] for event in kernels) == seen["flop"]
    length_us = max(event["ts"] + event["dur"] for event in events) - min(event["ts"] for event in events)
    assert length_us <= found.played.step_s * 1e6 + 1


def test_flop_are_those_of_torchs_counter(emulated, seen):
    assert emulated.flop == seen["flop"]


def test_flop_are_those_of_the_formula(emulated):
    tokens, blocks, head = 8 * 64, 3 * 8 * 128 * 128, 500 * 128
    assert emulated.flop == 2 * tokens * (blocks * 7 + head * 6)  # blocks run again in backward, up to what it needs


@pytest.fixture(scope="module")
def alone(processor):
    return recorded([str(SCRIPT), "--steps", "3"], replace(processor, devices=1, node=1))[0]


def test_peak_memory_is_within_2_per_cent(alone, tmp_path):
    """Of one rank: what gloo's own threads free, the profiler does not see."""
    peak_bytes = _really("memory", tmp_path, ranks=1)["peak_bytes"]
    assert alone.memory.peak_bytes == pytest.approx(peak_bytes, rel=0.02)


def test_a_processor_plays_each_call_of_the_step_in_its_place(alone, tmp_path):
    (tmp_path / "recording.json.gz").write_bytes(recording_bytes([alone]))
    calls, (step,) = saved_calls(tmp_path)
    kept, made = (
        [[where[1:] for where in each] for each in one.layouts] for one in (read_recordings(tmp_path)[0], alone)
    )
    assert kept == made
    places = [event[1] for event in alone.events if event[0] == 0]
    assert [call.name for call, _ in step] == [alone.calls[place].name for place in places if alone.calls[place].call]
    assert played(bench_for(torch.device("cpu"), quick=True), [step]).keys() == {call_name(call) for call in calls}


def test_each_thread_that_multiplies_has_room_for_cublas(emulated):
    """One of the script and one of the backward pass, 32 MiB each on Hopper."""
    assert emulated.memory.kinds["cuBLAS workspaces"] == 2 * 32 * 2**20


def test_peak_memory_of_two_ranks_is_that_of_their_storages(processor, tmp_path):
    """On a processor the script finds no CUDA, and each rank holds what it really holds."""
    found = recorded([str(SCRIPT), "--steps", "3"], processor)[0]
    assert found.device == "cpu"
    assert found.memory.peak_bytes == pytest.approx(_really("held", tmp_path)["peak_bytes"], rel=1e-3)


def test_the_script_believed_in_cuda(emulated):
    assert emulated.device == "cuda"
    assert emulated.made_up == {"a loss, a norm or another number that was read is 1": emulated.steps}


def test_a_step_of_milliseconds_has_no_fixed_part_of_published_ones(emulated):
    parts = dict(_priced([emulated]).breakdown_s)
    assert 0 < parts.pop("fixed") <= 0.1 * sum(parts.values())


def test_stages_of_a_pipeline_exchange_what_real_ones_do(tmp_path):
    """Four micro-batches of 2 x 64 tokens, 256 numbers of 32 bits each: one message forwards and one back."""
    script = HERE / "scripts" / "pipelined.py"
    stages = recorded([str(script), "--steps", "3"], machine_named("h100-sxm", RANKS))
    rows = _rows(_priced(stages))
    assert rows == [["recv", 131072, 4], ["send", 131072, 4]]
    assert rows == _really("messages", tmp_path, script=script)["collectives"]
    tokens, blocks, head = 8 * 64, 2 * 8 * 256 * 256, 500 * 256
    assert [stage.flop for stage in stages] == [2 * tokens * blocks * 3, 2 * tokens * (blocks + head) * 3]
