"""Do the kernels of a replayed graph get the operators and shapes of its capture? By hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import kineto
import pytest

from hwprof.specs.record.trace import TraceDevice
from hwprof.trace.analysis import Asked, analyse

Write = Callable[..., Path]
SMALL, LARGE = [[64, 32], [32, 16]], [[128, 32], [32, 16]]


class Hand(kineto.KinetoFile):
    """Events at times in microseconds."""

    def at(self, cat: str, name: str, start: int, end: int, **args: object) -> None:
        self.complete(cat, name, 1, 1, start * 1000, (end - start) * 1000, **args)

    def op(self, start: int, name: str, dims: object, *, correlation: int = 0) -> None:
        self.at("cpu_op", name, start, start + 8, Input__Dims=dims, Input__type=["float", "float"])
        self.at("cuda_runtime", "cudaLaunchKernel", start + 2, start + 4, correlation=correlation)

    def kernel(self, start: int, name: str, correlation: int, time: int = 10) -> None:
        span = (start * 1000, time * 1000)
        self.complete("kernel", name, 0, 7, *span, stream=7, device=0, correlation=correlation)

    def capture(self, start: int, dims: object, *, second: str = "aten::add") -> None:
        self.at("cuda_runtime", "cudaStreamBeginCapture", start, start + 1)
        self.op(start + 10, "aten::mm", dims)
        self.op(start + 20, second, [[64, 16], [64, 16]])
        self.at("cuda_runtime", "cudaStreamEndCapture_v2", start + 40, start + 41)

    def replay(self, start: int, correlation: int) -> None:
        self.at("cuda_runtime", "cudaGraphLaunch", start, start + 5, correlation=correlation)
        self.kernel(start + 10, "sm90_xmma_gemm", correlation)
        self.kernel(start + 20, "vectorized_elementwise_kernel", correlation)


def _replays() -> Hand:
    hand = Hand()
    hand.replay(1000, 101)
    hand.replay(2000, 102)
    return hand


def _one(path: Path, *captures: Path) -> TraceDevice:
    (device,) = analyse([path], Asked(captures=captures)).devices
    return device


def test_kernels_of_a_graph_are_at_the_operators_that_were_captured(written: Write, tmp_path: Path):
    capture = Hand()
    capture.capture(0, SMALL)
    device = _one(written(_replays()), capture.write(tmp_path / "capture.json"))
    product, add = sorted(device.ops, key=lambda op: op.op, reverse=True)
    assert (product.op, product.shapes, product.calls, product.kernels) == ("aten::mm", "64x32, 32x16", 2, 2)
    assert product.matmul_flop == 2 * 2 * 64 * 32 * 16
    assert (add.op, add.calls, add.category) == ("aten::add", 2, "elementwise")
    assert "4 kernels of graphs were joined" in device.notes


def test_a_capture_in_the_trace_itself_needs_no_other(written: Write):
    hand = _replays()
    hand.capture(100, SMALL)
    assert {op.op for op in _one(written(hand)).ops} == {"aten::mm", "aten::add"}


def test_an_eager_run_of_the_same_kernels_tells_as_much(written: Write):
    hand = _replays()
    hand.op(100, "aten::mm", SMALL, correlation=1)
    hand.op(120, "aten::add", [[64, 16], [64, 16]], correlation=2)
    hand.kernel(110, "sm90_xmma_gemm", 1)
    hand.kernel(130, "vectorized_elementwise_kernel", 2)
    (product,) = [op for op in _one(written(hand)).ops if op.op == "aten::mm"]
    assert product.calls == 3


@pytest.mark.parametrize("wrong", ["other shapes", "other count", "other work"])
def test_what_does_not_fit_or_is_not_sure_is_not_joined(written: Write, wrong: str):
    """Two captures of as many nodes and different shapes; one of more nodes; attention where a product was."""
    hand = _replays()
    hand.capture(100, SMALL, second="aten::add" if wrong != "other work" else "aten::mm")
    if wrong == "other shapes":
        hand.capture(200, LARGE)
    if wrong == "other count":
        hand.op(130, "aten::add", SMALL)
    if wrong == "other work":
        hand.events = [event.replace("vectorized_elementwise_kernel", "flash_fwd_kernel") for event in hand.events]
    device = _one(written(hand))
    assert not any(op.matmul_flop for op in device.ops)
    assert any("captured graphs have no operators" in note for note in device.notes)
