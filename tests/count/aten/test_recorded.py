"""Is an operator that a profile recorded priced as when it is captured with its results? Against torch itself."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from hwprof.count.aten.recorded import recorded_cost, recorded_dtype
from hwprof.count.aten.registry import aten_cost
from hwprof.count.aten.signatures import SIGNATURES, WRITTEN
from hwprof.measure.capture.mode import CallRecorder
from hwprof.spans.arguments import Recorded
from hwprof.trace.analysis import analyse

_NOT_HERE = {"_scaled_grouped_mm", "_grouped_mm", "_fused_rms_norm", "_fused_rms_norm_backward"}
"""Operators that old releases of torch do not have."""


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_signatures_are_those_of_torch(name: str):
    plain = name.removeprefix("aten::")
    packet = getattr(torch.ops.aten, plain, None)
    if packet is None:
        pytest.skip(f"this torch has no {plain}")
    schemas = [getattr(packet, overload)._schema for overload in packet.overloads()]
    mine = SIGNATURES[name]
    assert any([argument.name for argument in schema.arguments][: len(mine)] == list(mine) for schema in schemas)


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_what_is_written_is_what_torch_says(name: str):
    packet = getattr(torch.ops.aten, name.removeprefix("aten::"))
    arguments = packet.default._schema.arguments
    changed = {each.name for each in arguments if each.alias_info is not None and each.alias_info.is_write}
    assert set(WRITTEN[name]) <= changed


def _operators() -> None:
    """Products, norms, lookups, convolutions, attention and elementwise work, each on shapes of its own."""
    x, w, b = torch.randn(6, 5), torch.randn(5, 7), torch.randn(7)
    torch.mm(x, w)
    torch.addmm(b, x, w)
    torch.bmm(torch.randn(3, 4, 5), torch.randn(3, 5, 2))
    torch.baddbmm(torch.randn(3, 4, 2), torch.randn(3, 4, 5), torch.randn(3, 5, 2))
    torch.mv(x, torch.randn(5))
    torch.ops.aten.native_layer_norm(torch.randn(4, 8, 16), [16], torch.ones(16), torch.zeros(16), 1e-5)
    torch.embedding(torch.randn(50, 16), torch.randint(50, (3, 9)))
    torch.ops.aten._softmax(torch.randn(4, 9), -1, False)
    torch.nn.functional.gelu(torch.randn(11, 13))
    torch.randn(4, 1, 6).add(torch.randn(5, 1))
    torch.randn(9, 9).mul_(torch.randn(9, 9))
    torch.randn(8, 8).copy_(torch.randn(8, 8))
    torch.ops.aten.native_layer_norm_backward(
        torch.randn(4, 16), torch.randn(4, 16), [16], torch.randn(4, 1), torch.randn(4, 1), torch.ones(16),
        torch.zeros(16), [True, True, True],
    )  # fmt: skip
    torch.ops.aten.index_select(torch.randn(20, 6), 0, torch.randint(20, (7,)))
    torch.ops.aten.gather(torch.randn(5, 6), 1, torch.randint(6, (5, 3)))


def test_costs_of_recorded_operators_equal_those_of_captured_ones(tmp_path: Path):
    """The same calls under the profiler, which knows no results, and under dispatch, which does."""
    _operators()
    with CallRecorder() as recorder:
        _operators()
    captured: dict[str, list] = defaultdict(list)
    for placed in recorder.calls:
        captured[placed.call.name].append(aten_cost(placed.call))
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as prof:
        _operators()
    path = tmp_path / "t.json"
    prof.export_chrome_trace(str(path))
    recorded: dict[str, list] = defaultdict(list)
    for event in json.loads(path.read_text())["traceEvents"]:
        if event.get("cat") == "cpu_op" and "Input Dims" in event["args"]:
            args = event["args"]
            own = Recorded(
                args["Input Dims"], args["Input type"], args.get("Input Strides", ()), args["Concrete Inputs"]
            )
            recorded[event["name"]].append(recorded_cost(event["name"], own))
    names = ["mm", "addmm", "bmm", "baddbmm", "embedding", "_softmax", "gelu", "add", "mul_", "copy_", "gather"]
    for name in (f"aten::{name}" for name in names):
        assert captured[name], name
        mine = [(cost.matmul_flop, cost.vector_flop, cost.moved_bytes) for cost in captured[name]]
        theirs = [(cost.matmul_flop, cost.vector_flop, cost.moved_bytes) for cost in recorded[name] if cost]
        assert set(mine) <= set(theirs), name
    for name in ("aten::native_layer_norm", "aten::native_layer_norm_backward"):
        (mine,), (theirs,) = captured[name], recorded[name]
        assert theirs.flop == pytest.approx(mine.flop, rel=0.15)  # the statistics of rows are left out
        assert theirs.moved_bytes == pytest.approx(mine.moved_bytes, rel=0.15)


def test_flop_of_a_trained_module_equal_the_flop_counter(tmp_path: Path):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 64, 10)
    )
    x = torch.randn(4, 3, 16, 16)
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as prof:
        model(x).sum().backward()
    path = tmp_path / "t.json"
    prof.export_chrome_trace(str(path))
    (device,) = analyse([path]).devices
    assert sum(op.matmul_flop or 0 for op in device.ops) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("name", "recorded"),
    [
        ("aten::mm", Recorded([[3, 4]], ["float"])),
        ("aten::mm", Recorded([[3], [4]], ["float", "float"])),
        ("aten::mm", Recorded([[-3, 4], [4, 5]], ["float", "float"])),
        ("aten::mm", Recorded([["a", 4], [4, 5]], ["float", "float"])),
        ("aten::mm", Recorded([[10**400, 10**400], [10**400, 5]], ["float", "float"])),
        ("aten::add", Recorded([[3], [4]], ["float", "float"])),
        ("aten::convolution", Recorded([[1, 2], [3, 4]], ["float", "float"])),
        ("aten::embedding", Recorded([], [])),
        ("mylib::unknown", Recorded([[3]], ["float"])),
        ("aten::linalg_qr", Recorded([[3, 3]], ["float"])),
    ],
)
def test_what_does_not_fit_has_no_cost(name: str, recorded: Recorded):
    assert recorded_cost(name, recorded) is None


def test_the_element_type_is_that_of_the_first_numbers():
    assert recorded_dtype(Recorded([[3], [3]], ["long int", "c10::BFloat16"])) == "bfloat16"
    assert recorded_dtype(Recorded([[3]], ["long int"])) == ""


def test_a_product_by_hand():
    cost = recorded_cost("aten::addmm", Recorded([[7], [6, 5], [5, 7]], ["c10::Half"] * 3))
    assert cost is not None
    assert cost.matmul_flop == 2 * 6 * 5 * 7
    assert cost.vector_flop == 6 * 7
    assert (cost.read_bytes, cost.write_bytes) == (2 * (7 + 30 + 35), 2 * 42)
