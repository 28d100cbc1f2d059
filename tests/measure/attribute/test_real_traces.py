"""What does a run's attribution say of traces that GPUs really left? Held against sums over the file's own JSON.

Each trace gets the recorder's marks around all of it, in one phase; V100, MI250, MI300X, H100, old and new Kineto.
"""

import gzip
import json
from pathlib import Path

import pytest
from made_up_spans import made_up_span

from hwprof.measure.attribute.attribution import attribute
from hwprof.spans.marks import PHASE, WINDOW
from hwprof.spans.read.file import read_trace

REAL = Path(__file__).parents[2] / "trace" / "real"
DEVICE = {"kernel", "Kernel", "gpu_memcpy", "Memcpy", "gpu_memset", "Memset"}
HOST = {"cpu_op", "Operator", "cuda_runtime", "cuda_driver", "Runtime"}
FILES = {
    "hta_mi250": 16,
    "hta_stepbased": 140,
    "kin_rn50_w4_two_steps": 3016,
    "tl_h100_Qwen_kernels": 1198,
    "tl_sglang_decode": 558,
    "tlu_gemm_01_compute_few_tiles": 20,
    "dlrm_8_ranks/rank0": 261,
    "dlrm_8_ranks/rank1": 262,
}
"""File -> pieces of device work for which it has a call; of the others the call came before the profiler began."""


def _spans(name):
    with gzip.open(REAL / f"{name}.json.gz", "rt") as file:
        content = json.load(file)
    return content, [event for event in content["traceEvents"] if event.get("cat") in DEVICE | HOST]


@pytest.fixture(scope="module", params=FILES)
def found(request, tmp_path_factory):
    """Name of the file, its spans, where the window begins and ends (µs), and what is said of it."""
    content, spans = _spans(request.param)
    start = min(span["ts"] for span in spans) - 1
    end = max(span["ts"] + span["dur"] for span in spans) + 1
    for mark in (WINDOW, PHASE + "forward"):
        span = made_up_span(mark, start / 1e6, end / 1e6, category="user_annotation")
        content["traceEvents"].append(
            {"ph": "X", "cat": span.cat, "name": mark, "pid": "marks", "tid": 0, "ts": start, "dur": end - start}
        )
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    path.write_text(json.dumps(content))
    return request.param, spans, end - start, attribute(read_trace(path), device="cuda", steps=1)


def _covered(spans):
    """How long at least one of some spans runs, µs: the ends of all, swept in order."""
    ends = sorted([(span["ts"], 1) for span in spans] + [(span["ts"] + span["dur"], -1) for span in spans])
    covered, running, since = 0.0, 0, 0.0
    for moment, change in ends:
        covered += (moment - since) * (running > 0)
        running, since = running + change, moment
    return covered


def _kinds(spans):
    device = [span for span in spans if span["cat"] in DEVICE]
    talks = [span for span in device if span["name"].startswith("nccl")]
    copies = [span for span in device if span["name"].startswith("Memcpy") and "DtoD" not in span["name"]]
    return [span for span in device if span not in talks and span not in copies], talks, copies


def test_parts_of_the_time_are_unions_of_intervals(found):
    _, spans, length, summary = found
    compute, talks, copies = _kinds(spans)
    busy = [_covered(compute), _covered(compute + talks), _covered(compute + talks + copies)]
    said = summary.attribution
    assert said.step_s * 1e6 == pytest.approx(length, rel=1e-6)
    assert said.compute_s * 1e6 == pytest.approx(busy[0], rel=1e-5)
    assert said.exposed_communication_s * 1e6 == pytest.approx(busy[1] - busy[0], rel=1e-5, abs=0.01)
    assert said.exposed_copy_s * 1e6 == pytest.approx(busy[2] - busy[1], rel=1e-5, abs=0.01)
    assert said.communication_s * 1e6 == pytest.approx(_covered(talks), rel=1e-6)
    assert said.idle_host_s * 1e6 == pytest.approx(length - busy[2], rel=1e-4)


def test_every_piece_of_device_work_whose_call_is_there_has_a_place(found):
    name, spans, _, summary = found
    pieces = sum(span["cat"] in DEVICE for span in spans)
    assert sum(kernel.calls for kernel in summary.kernels) == FILES[name]
    assert ("the trace has no call" in summary.attribution.note) == (pieces > FILES[name])


def test_no_time_is_explained_by_kernels_of_no_module(found):
    """None of these has the recorder's modules in it: all that is explained is idle time, copies and messages."""
    _, spans, length, summary = found
    compute = _covered(_kinds(spans)[0])
    assert summary.attribution.attributed_op_fraction == pytest.approx(0.0, abs=1e-9)
    assert summary.attribution.explained_fraction <= 1 - compute / length + 1e-6


@pytest.mark.parametrize("found", ["dlrm_8_ranks/rank0", "dlrm_8_ranks/rank1"], indirect=True)
def test_kernels_of_nccl_without_words_of_their_own_are_what_they_were_launched_for(found):
    _, spans, _, summary = found
    talks = sorted((span for span in spans if span["name"].startswith("nccl")), key=lambda span: span["ts"])
    wanted = ["all_to_all" if "SendRecv" in span["name"] else "all_reduce" for span in talks]
    assert [call.collective for call in sorted(summary.calls, key=lambda call: call.start_s)] == wanted
    assert (wanted.count("all_to_all"), wanted.count("all_reduce")) == (5, 3)
    apart_us = sum((call.end_s - call.start_s) * 1e6 for call in summary.calls)
    assert apart_us == pytest.approx(sum(span["dur"] for span in talks), abs=4)  # of a clock in s since 1970
