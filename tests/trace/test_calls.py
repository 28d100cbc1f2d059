"""Who called whom, for which module? Against what a real program did."""

from __future__ import annotations

import kineto
import numpy as np

from hwprof.spans.columns import HostKind, Trace
from hwprof.spans.nesting import nearest
from hwprof.spans.read.file import read_trace
from hwprof.trace.calls import DIRECTIONS, calls_of


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
    operator = nearest(calls.parent, torch_trace.host.kind == HostKind.OPERATOR)
    for place in np.flatnonzero(torch_trace.host.name == torch_trace.names.index("aten::copy_")):
        owner = torch_trace.names[torch_trace.host.name[calls.owner[place]]]
        around = torch_trace.names[torch_trace.host.name[operator[calls.parent[place]]]]
        assert owner == ("aten::addmm" if around == "aten::addmm" else owner)
    addmm = np.flatnonzero(torch_trace.host.name == torch_trace.names.index("aten::addmm"))
    assert (calls.owner[addmm] == addmm).all()
