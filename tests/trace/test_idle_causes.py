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
_LOCK = "<built-in method acquire of _thread.lock object at 0x7fb14f4637c0>"


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

    def kernel(self, start: int, end: int, called: int, call_end: int, *, call: str = "cudaLaunchKernel") -> int:
        ident = len(self.events) + 1
        self.host("cuda_runtime", call, called, call_end, correlation=ident)
        self.piece(start, end, ident)
        return ident

    def piece(self, start: int, end: int, ident: int) -> None:
        span = (start * 1000, (end - start) * 1000)
        self.complete("kernel", "gemm", 0, 7, *span, stream=7, device=0, correlation=ident)

    def host(self, cat: str, name: str, start: int, end: int, *, thread: int = 1, **args: int) -> None:
        self.complete(cat, name, 1, thread, start * 1000, (end - start) * 1000, **args)

    def idle_us(self, written: Write) -> dict[str, float]:
        """What causes of idle time there are, in microseconds."""
        device = _one(written(self))
        assert sum(device.shares.values()) == pytest.approx(1)
        found = {name: round(value / US, 3) for name, value in device.breakdown.idle.model_dump().items()}
        assert sum(found.values()) == pytest.approx(device.breakdown.idle_s / US)
        return {name.removesuffix("_s"): value for name, value in found.items() if value}


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


def test_garbage_collection_and_a_lock_of_the_thread_that_launches(written: Write):
    """A gap 10-6000, called at 5990: torch's own event of 700, a call of the collector of 300, 2000 for a lock.

    Another thread's lock holds nothing up; a frame around the lock is the same waiting.
    """
    hand = Hand()
    hand.kernel(0, 10, -5, -4)
    hand.host("python_function", "Python GC", 100, 800)
    hand.host("python_function", "<built-in function collect>", 1000, 1300)
    hand.host("python_function", "loader.py(12): next_one", 1900, 5900)
    hand.host("python_function", "threading.py(295): wait", 2000, 4000)
    hand.host("python_function", _LOCK, 2100, 3900)
    hand.host("python_function", "threading.py(295): wait", 4000, 5900, thread=2)
    hand.kernel(6000, 6100, 5990, 5995)
    assert hand.idle_us(written) == {"garbage_collection": 1000, "lock": 2000, "host": 2980, "launch": 10}
    gap = _one(written(hand)).largest_gap
    assert gap is not None
    assert gap.host == ("loader.py(12): next_one", "threading.py(295): wait", _LOCK)


def test_python_of_some_length_is_named_where_no_operator_is(written: Write):
    hand = Hand()
    hand.kernel(0, 10, -5, -4)
    hand.host("python_function", "train.py(40): log_everything", 20, 5900)
    hand.host("python_function", "train.py(41): a_short_one", 2950, 3040)
    hand.kernel(6000, 6100, 5990, 5995)
    device = _one(written(hand))
    assert [(cause.what, cause.cause) for cause in device.causes] == [("train.py(40): log_everything", "host")]
    assert "train.py(40): log_everything" in gap_words(device)


def test_a_long_launch_behind_another_thread_in_the_driver_waits_for_its_lock(written: Write):
    """A launch of 5000, through 3000 of which another thread allocates pinned memory."""
    hand = Hand()
    hand.kernel(0, 10, -5, -4)
    hand.host("cuda_runtime", "cudaHostAlloc", 500, 4000, thread=2)
    hand.kernel(6010, 6100, 1000, 6000)
    assert hand.idle_us(written) == {"allocation": 500, "host": 490, "lock": 3000, "call": 2000, "launch": 10}


def test_a_copy_that_the_host_waited_for_is_told_from_other_waiting(written: Write):
    """Gaps after .item() (a synchronisation inside a copy), after cudaMemcpy, after a synchronisation by itself."""
    hand = Hand()
    hand.kernel(0, 10, -9, -8)
    hand.host("cpu_op", "aten::_local_scalar_dense", -5, 40)
    hand.host("cuda_runtime", "cudaStreamSynchronize", 0, 30)
    hand.kernel(110, 200, 100, 101)
    hand.host("cuda_runtime", "cudaMemcpy", 150, 220)
    hand.kernel(300, 400, 300, 301)
    hand.host("cuda_runtime", "cudaDeviceSynchronize", 302, 450)
    hand.kernel(500, 600, 500, 501)
    assert hand.idle_us(written) == {"blocking_copy": 190, "synchronisation": 100, "launch": 10}


def test_graph_replays_are_told_from_launches_and_queues(written: Write):
    """10-60: launched at 50 as a graph; 70-75 between its kernels; 80-90 a kernel that was queued behind it."""
    hand = Hand()
    hand.kernel(0, 10, -5, -4)
    ident = hand.kernel(60, 70, 50, 55, call="cudaGraphLaunch")
    hand.piece(75, 80, ident)
    hand.kernel(90, 99, 56, 57)
    assert hand.idle_us(written) == {"host": 40, "graph": 15, "queued": 10}


def test_a_wait_for_a_kernel_is_no_long_call(written: Write):
    hand = Hand()
    hand.kernel(0, 10, -5, -4)
    hand.kernel(6000, 6100, 100, 105)
    hand.host("cuda_runtime", "cudaStreamSynchronize", 106, 6110)
    assert hand.idle_us(written) == {"host": 90, "launch": 5900}


def test_loaders_of_other_libraries_are_the_input_pipeline(written: Write):
    hand = Hand()
    hand.kernel(0, 10, -5, -4)
    hand.host("user_annotation", "[pl][profile][_TrainingEpochLoop].train_dataloader_next", 100, 200)
    hand.host("python_function", "torch/utils/data/dataloader.py(708): __next__", 300, 500)
    hand.host("cpu_op", "enumerate(DataPipe)#Batcher", 600, 700)
    hand.kernel(1000, 1100, 1000, 1001)
    assert hand.idle_us(written) == {"input": 400, "host": 590}


def test_a_gap_of_a_cpu_is_named_too(written: Write):
    hand = Hand()
    hand.host("cpu_op", "aten::mm", 0, 100)
    hand.host("python_function", "train.py(7): sleepy", 110, 5000)
    hand.host("python_function", "Python GC", 200, 900)
    hand.host("cpu_op", "aten::mm", 5100, 5200)
    device = _one(written(hand))
    assert device.breakdown.idle.garbage_collection_s == pytest.approx(700 * US)
    gap = device.largest_gap
    assert gap is not None
    assert (gap.host, gap.then) == (("train.py(7): sleepy",), "aten::mm")
