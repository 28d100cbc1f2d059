"""Who called whom, for which module? Against a direct search, and against what a real program did."""

from __future__ import annotations

import random

import kineto
import numpy as np
import pytest

from hwprof.trace import calls
from hwprof.trace.calls import DIRECTIONS, calls_of
from hwprof.trace.read.columns import HostKind, Trace
from hwprof.trace.read.file import read_trace


def _nested(file: kineto.KinetoFile, rng: random.Random, start: int, end: int, depth: int, thread: int) -> None:
    file.complete("cpu_op", f"op{depth}", 1, thread, start, end - start)
    while depth < 5 and end - start > 40:
        start += rng.randint(0, 10)
        stop = min(start + rng.randint(10, 60), end)
        if stop <= start:
            return
        _nested(file, rng, start, stop, depth + 1, thread)
        start = stop


def test_parents_equal_the_smallest_span_around(written):
    file, rng = kineto.KinetoFile(), random.Random(3)
    for thread in (1, 2):
        for start in range(0, 3000, 500):
            _nested(file, rng, 10**6 + start, 10**6 + start + 400, 0, thread)
    trace = read_trace(written(file))
    host, parent = trace.host, calls_of(trace).parent
    for place in range(len(host)):
        around = [
            other
            for other in range(place)
            if host.thread[other] == host.thread[place]
            and host.start_ns[other] <= host.start_ns[place]
            and host.end_ns[other] >= host.end_ns[place]
        ]
        expected = max(around, default=-1, key=lambda other: (-(host.end_ns[other] - host.start_ns[other]), other))
        assert parent[place] == expected


def _labels_of(trace: Trace, op: str) -> set[tuple[str, str]]:
    calls = calls_of(trace)
    named = np.flatnonzero(trace.host.name == trace.names.index(op))
    return {(calls.labels[calls.label[place]], DIRECTIONS[calls.direction[place]]) for place in named}


def test_operators_of_torch_belong_to_the_modules_that_called_them(torch_trace: Trace):
    layer = "TransformerEncoder.TransformerEncoderLayer"
    assert _labels_of(torch_trace, "aten::native_layer_norm") == {(f"{layer}.LayerNorm", "forward")}
    assert _labels_of(torch_trace, "aten::native_layer_norm_backward") == {(f"{layer}.LayerNorm", "backward")}
    assert _labels_of(torch_trace, "aten::addcdiv_") == {("Optimizer.step#AdamW.step", "update")}
    assert (f"{layer}.Linear", "forward") in _labels_of(torch_trace, "aten::addmm")
    assert _labels_of(torch_trace, "aten::threshold_backward") == {(layer, "backward")}


def test_the_same_operators_run_forward_in_each_step(torch_trace: Trace):
    calls = calls_of(torch_trace)
    forward = (calls.direction == DIRECTIONS.index("forward")) & (torch_trace.host.kind == HostKind.OPERATOR)
    names = [torch_trace.names[name] for name in torch_trace.host.name[forward]]
    assert names.count("aten::native_layer_norm") == 3 * 2 * 2
    assert "aten::native_layer_norm_backward" not in names


def test_recompute_is_a_module_inside_backward(written):
    file = kineto.KinetoFile()
    numbers = {"Sequence__number": 4, "Fwd__thread__id": 1}
    file.complete("cpu_op", "autograd::engine::evaluate_function: CheckpointBackward", 1, 2, 1000, 900, **numbers)
    file.complete("python_function", "nn.Module: Block_3", 1, 2, 1100, 300)
    file.complete("cpu_op", "aten::mm", 1, 2, 1150, 100, Sequence__number=9)
    file.complete("cpu_op", "aten::mul", 1, 2, 1500, 100)
    trace = read_trace(written(file))
    calls = calls_of(trace)
    found = {
        trace.names[name]: (calls.labels[label], DIRECTIONS[direction])
        for name, label, direction in zip(trace.host.name, calls.label, calls.direction, strict=True)
    }
    assert found["aten::mm"] == ("Block", "recompute")
    assert found["aten::mul"] == ("", "backward")


def test_work_is_counted_at_the_outermost_operator_with_a_formula(torch_trace: Trace):
    calls = calls_of(torch_trace)
    for place in np.flatnonzero(torch_trace.host.name == torch_trace.names.index("aten::copy_")):
        owner = torch_trace.names[torch_trace.host.name[calls.owner[place]]]
        around = torch_trace.names[torch_trace.host.name[calls.operator[calls.parent[place]]]]
        assert owner == ("aten::addmm" if around == "aten::addmm" else owner)
    addmm = np.flatnonzero(torch_trace.host.name == torch_trace.names.index("aten::addmm"))
    assert (calls.owner[addmm] == addmm).all()


@pytest.mark.parametrize("portion", [1, 2, 7, 64])
def test_the_nearest_event_is_found_across_portions(monkeypatch: pytest.MonkeyPatch, portion: int):
    rng = random.Random(portion)
    parent = [-1, *(rng.randint(max(-1, place - 9), place - 1) for place in range(1, 200))]
    marked = [rng.random() < 0.2 for _ in parent]
    expected = []
    for place in range(len(parent)):
        while place >= 0 and not marked[place]:
            place = parent[place]  # noqa: PLW2901 (the walk up)
        expected.append(place)
    monkeypatch.setattr(calls, "_AT_A_TIME", portion)
    column = np.array(parent, dtype=np.int32)
    found = calls.nearest(column, np.array(marked))
    assert found.tolist() == expected
    assert calls.at(column, found).tolist() == [parent[place] if place >= 0 else -1 for place in expected]
