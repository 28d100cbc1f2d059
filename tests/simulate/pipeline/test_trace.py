"""The trace of a small pipeline, byte for byte, and what every trace viewer needs of it."""

from __future__ import annotations

import json

from hwprof.simulate.pipeline.engine import simulate_pipeline
from hwprof.simulate.pipeline.trace import chrome_trace, chrome_trace_json

STAGE = {"before_s": 0.0005, "reduce_s": 0.001, "optimizer_s": 0.0015, "fixed_bytes": 1000.0}
COSTS = {
    "forward_s": 0.002,
    "backward_input_s": 0.003,
    "backward_weight_s": 0.001,
    "send_s": 0.00025,
    "kept_bytes": 100.0,
    "forward_communication_s": 0.0004,
}


def test_trace_of_two_stages(uniform, golden):
    work = uniform("1f1b", stages=2, micro_batches=2, overlap_send=False, stage=STAGE, **COSTS)
    text = chrome_trace_json(simulate_pipeline(work))
    golden("pipeline_trace.json", text)
    assert json.loads(text) == chrome_trace(simulate_pipeline(work))


def test_slices_of_a_stage_nest_and_cover_what_the_timeline_says(sizes, varied):
    timeline = simulate_pipeline(varied(2, overlap_send=False, **sizes))
    events = chrome_trace(timeline)["traceEvents"]
    times = timeline.stage_times
    for stage in range(sizes["stages"]):
        slices = [event for event in events if event["ph"] == "X" and event["tid"] == stage]
        outer = [event for event in slices if event["cat"] != "communication"]
        ends = [event["ts"] + event["dur"] for event in outer]
        assert all(end <= later["ts"] + 2e-3 for end, later in zip(ends, outer[1:], strict=False))
        busy_s = timeline.step_s - times.bubble_s[stage] - times.message_s[stage]
        assert abs(sum(event["dur"] for event in outer) / 1e6 - busy_s) < 1e-8 * len(outer)
        for inner in (event for event in slices if event["cat"] == "communication"):
            around = max((event for event in outer if event["ts"] <= inner["ts"]), key=lambda event: event["ts"])
            assert inner["ts"] + inner["dur"] <= around["ts"] + around["dur"] + 2e-3


def test_tracks_have_names_and_counters_have_bytes(uniform):
    events = chrome_trace(simulate_pipeline(uniform("zb-h1", stages=3, micro_batches=4)))["traceEvents"]
    threads = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert threads == {0: "stage 0", 1: "stage 1", 2: "stage 2"}
    peaks = {event["tid"]: 0 for event in events if event["ph"] == "C"}
    for event in events:
        if event["ph"] == "C":
            peaks[event["tid"]] = max(peaks[event["tid"]], event["args"]["bytes"])
    assert peaks == {0: 3, 1: 3, 2: 3}


def test_passes_that_run_together_are_one_slice(uniform):
    events = chrome_trace(simulate_pipeline(uniform("dualpipe", stages=2, chunks=2, micro_batches=4)))["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") == "together" and event["tid"] == 0]
    assert names[0] == "forward 3 + backward 0"
