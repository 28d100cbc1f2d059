"""Why does the device idle? Real traces with one long call, and each cause by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import kineto
import pytest

from hwprof.report.trace.tables import gap_words
from hwprof.specs.record.trace import TraceDevice
from hwprof.trace.analysis import analyse

REAL = Path(__file__).parent / "real"
Write = Callable[..., Path]
US = 1e-6


def _one(path: Path) -> TraceDevice:
    (device,) = analyse([path]).devices
    return device


def test_one_call_of_463_ms_is_not_a_wait_for_launches():
    """The kernel was launched 42 µs in; then the host was in one copy for 463 ms."""
    device = _one(REAL / "tl_sglang_decode.json.gz")
    with gzip.open(REAL / "tl_sglang_decode.json.gz") as file:
        events = json.load(file)["traceEvents"]
    longest = max((event for event in events if event.get("cat") == "cuda_runtime"), key=lambda event: event["dur"])
    assert device.breakdown.idle.call_s == pytest.approx(longest["dur"] * US, rel=1e-3)
    assert device.breakdown.idle.launch_s < 1e-3
    gap = device.largest_gap
    assert gap is not None
    assert (gap.cause, gap.host[-2:]) == ("call", ("aten::copy_", "hipMemcpyWithStream"))
    assert gap.duration_s == pytest.approx(0.4633, abs=1e-4)
    assert device.findings[0].title == "waits inside single long calls"
    assert "463.3 ms" in gap_words(device)


def test_the_first_use_of_a_kernel_is_the_call_that_loads_it():
    device = _one(REAL / "hta_mi250.json.gz")
    assert device.breakdown.idle.call_s == pytest.approx(6.543109e-3)
    assert device.largest_gap is not None
    assert device.largest_gap.host[-2:] == ("aten::add_", "hipLaunchKernel")


def test_older_rocm_is_linked_by_its_external_numbers():
    """All 20 kernels belong to their products: 2·256·131072·512 FLOP, ten times."""
    device = _one(REAL / "tlu_gemm_01_compute_few_tiles.json.gz")
    assert device.launches is not None
    assert (device.launches.kernels, device.launches.launched) == (20, 20)
    (product,) = device.ops
    assert (product.op, product.calls, product.matmul_flop) == ("aten::mm", 10, 10 * 2 * 256 * 131072 * 512)
    assert not any("no shapes" in note for note in device.notes)


class Hand(kineto.KinetoFile):
    """Events at times in microseconds."""

    def kernel(self, start: int, end: int, called: int, call_end: int) -> None:
        ident = len(self.events) + 1
        self.host("cuda_runtime", "cudaLaunchKernel", called, call_end, correlation=ident)
        span = (start * 1000, (end - start) * 1000)
        self.complete("kernel", "gemm", 0, 7, *span, stream=7, device=0, correlation=ident)

    def host(self, cat: str, name: str, start: int, end: int, **args: int) -> None:
        self.complete(cat, name, 1, 1, start * 1000, (end - start) * 1000, **args)


def test_each_cause_by_its_evidence(written: Write):
    """A gap 10-6000, called at 4000: 1000 compiling, 500 allocating, 2490 for the host, 1800 inside the call."""
    hand = Hand()
    hand.kernel(0, 10, -5, -4)
    hand.host("cpu_op", "_compile.compile_inner (dynamo_timed)", 100, 1100)
    hand.host("cuda_runtime", "cudaMalloc", 2000, 2500)
    hand.kernel(6000, 6100, 4000, 5800)
    device = _one(written(hand))
    idle = device.breakdown.idle
    assert idle.recompilation_s == pytest.approx(1000 * US)
    assert idle.allocation_s == pytest.approx(500 * US)
    assert idle.host_s == pytest.approx(2490 * US)
    assert idle.call_s == pytest.approx(1800 * US)
    assert idle.launch_s == pytest.approx(200 * US)
    assert sum(device.shares.values()) == pytest.approx(1)
    gap = device.largest_gap
    assert gap is not None
    assert (gap.cause, gap.then, round(gap.duration_s / US)) == ("host", "gemm", 5990)
    assert {finding.title for finding in device.findings} >= {
        "waits for compilations",
        "waits for memory from the driver",
    }


def test_a_call_that_only_starts_work_is_a_launch(written: Write):
    hand = Hand()
    hand.kernel(0, 10, -5, -4)
    hand.kernel(600, 700, 100, 550)
    device = _one(written(hand))
    assert device.breakdown.idle.call_s == 0
    assert device.breakdown.idle.launch_s == pytest.approx(500 * US)
    assert "Longest gap: 590 µs, waiting for a launch to arrive" in gap_words(device)
