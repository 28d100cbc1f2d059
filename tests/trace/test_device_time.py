"""Where did a device's time go? Small traces by hand, laws on larger ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import kineto
import pytest

from hwprof.errors import InputError
from hwprof.specs.record.trace import TraceDevice
from hwprof.trace.analysis import analyse

Write = Callable[..., Path]
US = 1e-6
MAIN, SIDE = 7, 20


class Hand(kineto.KinetoFile):
    """Kernels and launches at times in microseconds."""

    def kernel(
        self, start: int, end: int, *, called: int | None = None, name: str = "gemm", stream: int = MAIN
    ) -> None:
        ident = len(self.events) + 1
        if called is not None:
            self.complete("cuda_runtime", "cudaLaunchKernel", 1, 1, called * 1000, 1000, correlation=ident)
        cat = "gpu_memcpy" if name.startswith("Memcpy") else "kernel"
        self.complete(
            cat, name, 0, stream, start * 1000, (end - start) * 1000, stream=stream, device=0, correlation=ident
        )

    def host(self, name: str, start: int, end: int, cat: str = "cpu_op") -> None:
        self.complete(cat, name, 1, 1, start * 1000, (end - start) * 1000)


def _one(path: Path) -> TraceDevice:
    (device,) = analyse([path]).devices
    return device


def test_computation_hides_communication_and_both_hide_copies(written: Write):
    """0-10 gemm, 5-20 all-reduce, 15-25 copy, 30-40 gemm: 20 compute, 10 exposed, 5 copies, 5 idle."""
    hand = Hand()
    hand.kernel(0, 10)
    hand.kernel(5, 20, name="ncclDevKernel_AllReduce", stream=SIDE)
    hand.kernel(15, 25, name="Memcpy HtoD (Pinned -> Device)", stream=13)
    hand.kernel(30, 40)
    device = _one(written(hand))
    times = device.breakdown
    parts = (times.compute_s, times.exposed_communication_s, times.exposed_copy_s, times.idle_s)
    assert parts == pytest.approx((20 * US, 10 * US, 5 * US, 5 * US))
    assert times.span_s == pytest.approx(40 * US)
    assert device.overlap.communication_fraction == pytest.approx(5 / 15)
    assert device.overlap.copy_fraction == pytest.approx(0)


def test_idle_by_cause(written: Write):
    """Gaps: 10-30 called at 22 while the host read a batch 12-18; 40-50 launched before; 60-70 not in the trace."""
    hand = Hand()
    hand.kernel(0, 10, called=-5)
    hand.host("enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__", 12, 18, "user_annotation")
    hand.kernel(30, 40, called=22)
    hand.kernel(50, 60, called=35)
    hand.kernel(70, 80)
    idle = _one(written(hand)).breakdown.idle
    assert idle.input_s == pytest.approx(6 * US)
    assert idle.host_s == pytest.approx(6 * US)
    assert idle.launch_s == pytest.approx(8 * US)
    assert idle.queued_s == pytest.approx(10 * US)
    assert idle.unknown_s == pytest.approx(10 * US)
    assert idle.synchronisation_s == 0


def test_a_gap_that_begins_while_the_host_waits_is_a_synchronisation(written: Write):
    hand = Hand()
    hand.kernel(0, 10, called=-5)
    hand.host("cudaStreamSynchronize", 2, 11, "cuda_runtime")
    hand.host("aten::linear", 14, 24)
    hand.kernel(22, 30, called=20)
    device = _one(written(hand))
    assert device.breakdown.idle.synchronisation_s == pytest.approx(10 * US)
    assert device.breakdown.idle.launch_s == pytest.approx(2 * US)
    (cause,) = device.causes
    assert (cause.what, cause.gaps) == ("aten::linear", 1)
    assert cause.time_s == pytest.approx(10 * US)


@pytest.mark.parametrize("world_size", [1, 2])
def test_parts_add_up_in_every_step_and_in_all(written: Write, world_size: int):
    for file in kineto.simulate(kineto.Loop(rows=4096), world_size):
        device = _one(written(file))
        for step in device.steps:
            parts = step.compute_s + step.exposed_communication_s + step.exposed_copy_s + step.idle_s
            assert parts == pytest.approx(step.duration_s)
        assert sum(step.duration_s for step in device.steps) == pytest.approx(device.breakdown.span_s)
        assert sum(device.shares.values()) == pytest.approx(1)
        assert device.path is not None
        assert sum(part.time_s for part in device.path.parts) == pytest.approx(device.path.span_s)
        assert sum(row.share for row in device.kernels) == pytest.approx(1)
        assert sum(row.time_s for row in device.ops) == pytest.approx(sum(row.time_s for row in device.kernels))


def test_a_step_is_what_was_launched_in_it(written: Write):
    """The second step's first kernel starts late; the first step lasts until then."""
    hand = Hand()
    hand.host("ProfilerStep#8", 0, 20, "user_annotation")
    hand.host("ProfilerStep#9", 20, 40, "user_annotation")
    hand.kernel(10, 30, called=5)
    hand.kernel(30, 50, called=15)
    hand.kernel(50, 60, called=25)
    hand.kernel(60, 66, called=45)
    device = _one(written(hand))
    assert [(step.name, round(step.duration_s / US)) for step in device.steps] == [
        ("ProfilerStep#8", 40),
        ("ProfilerStep#9", 10),
    ]
    assert [row.calls for row in device.kernels] == [3]


def test_a_renamed_kernel_communicates_if_it_was_launched_so(written: Write):
    loop = kineto.Loop(rows=2048, comm_kernel="acme_ring_v2(args)")
    (device, *_) = analyse([written(file, f"{n}.json") for n, file in enumerate(kineto.simulate(loop, 2))]).devices
    kinds = {row.name: row.kind for row in device.kernels}
    assert kinds["acme_ring_v2(args)"] == "communication"
    silent = replace(loop, comm_args=False)
    (device, *_) = analyse([written(file, f"{n}.json") for n, file in enumerate(kineto.simulate(silent, 2))]).devices
    assert {row.name: row.kind for row in device.kernels}["acme_ring_v2(args)"] == "communication"


def test_kernels_of_a_graph_share_its_launch(written: Write):
    (file,) = kineto.simulate(kineto.Loop(graph=True, layers=4))
    device = _one(written(file))
    assert device.launches is not None
    assert device.launches.graph_kernels == 3 * 8
    assert device.launches.calls == device.launches.launched - 3 * 8 + 3
    assert device.breakdown.idle.unknown_s == 0


def test_kernels_of_triton_go_by_their_own_name(written: Write):
    hand = Hand()
    hand.host("Torch-Compiled Region: 0/0", 0, 100, "user_annotation")
    hand.kernel(10, 30, called=5, name="triton_poi_fused_gelu_0")
    (op,) = _one(written(hand)).ops
    assert (op.op, op.module, op.calls) == ("triton_poi_fused_gelu_0", "", 1)


def test_a_compiled_model_on_the_cpu_is_its_operators(compiled_file: Path):
    device = _one(compiled_file)
    assert not [row for row in device.ops if "Compiled Region" in row.module]
    products = [row for row in device.ops if row.matmul_flop]
    assert {row.direction for row in products} == {"forward", "backward"}
    assert sum(row.matmul_flop for row in products) == 2 * (2 * 8 * 16 * 16) * (3 + 2)  # steps, layers; no first input


def test_the_queue_of_a_stream(written: Write):
    """Called at 0, 1, 2; started at 10, 20, 30: three wait from 2 to 10, two until 20, one until 30."""
    hand = Hand()
    for number in range(3):
        hand.kernel(10 * (number + 1), 10 * (number + 2), called=number)
    device = _one(written(hand))
    (queue,) = device.queues
    assert queue.longest == 3
    assert queue.mean == pytest.approx((1 * 1 + 1 * 2 + 8 * 3 + 10 * 2 + 10 * 1) / 30)
    assert device.launches is not None
    assert device.launches.delay_median_s == pytest.approx(19 * US)
    assert device.launches.short_kernels == 0


def test_a_program_on_the_cpu_alone_is_its_operators(torch_file: Path):
    device = _one(torch_file)
    assert device.kind == "cpu"
    assert [step.name for step in device.steps] == ["step 1", "step 2", "step 3"]
    assert device.breakdown.compute_s == pytest.approx(sum(row.time_s for row in device.kernels))
    assert device.breakdown.compute_s + device.breakdown.idle.host_s == pytest.approx(device.breakdown.span_s)
    assert {memory.device for memory in device.memory} == {"cpu"}
    assert device.memory[0].peak_allocated_bytes > 0
    assert device.path is not None
    assert sum(part.time_s for part in device.path.parts) == pytest.approx(device.path.span_s)


def test_what_a_hook_of_autograd_waits_for_is_exposed(written: Write):
    """Engine 0-100 with a product 10-30 and an all-gather 20-90 on another thread: 20 compute, 60 exposed, 20 idle."""
    hand = Hand()
    hand.host("FSDP::pre_backward (0)", 0, 100, "user_annotation")
    hand.host("autograd::engine::evaluate_function: MmBackward0", 0, 100)
    hand.host("aten::mm", 10, 30)
    hand.complete("user_annotation", "gloo:all_gather", 1, 2, 20 * 1000, 70 * 1000)
    hand.host("aten::add", 99, 100)
    device = _one(written(hand))
    times = device.breakdown
    assert times.exposed_communication_s == pytest.approx(60 * US)
    assert times.compute_s == pytest.approx(21 * US)
    assert times.idle_s == pytest.approx(9 * US)
    assert {row.module for row in device.ops} == {""}


def test_operator_beside_a_message_of_its_own_thread_computes(written: Write):
    """The message 0-90, a product beside it 20-50: 30 compute, 60 exposed."""
    hand = Hand()
    hand.host("gloo:send", 0, 90, "user_annotation")
    hand.host("aten::mm", 20, 50)
    times = _one(written(hand)).breakdown
    assert times.compute_s == pytest.approx(30 * US)
    assert times.exposed_communication_s == pytest.approx(60 * US)


def test_modules_that_the_recorder_marked_are_those_of_its_own_report(written: Write):
    hand = Hand()
    hand.host("hwprof:window", 0, 100, "user_annotation")
    hand.host("hwprof:module:layers.3.ffn.up", 10, 40, "user_annotation")
    hand.host("aten::mm", 20, 30)
    hand.host("Optimizer.step#AdamW.step", 50, 60, "user_annotation")
    device = _one(written(hand))
    assert [row.module for row in device.ops] == ["layers.*.ffn.up"]
    assert [(step.name, round(step.duration_s / US)) for step in device.steps] == [("step 1", 60)]
    assert "40 µs after the last are no step" in device.notes[0]


def test_what_fsdp_waits_for_after_backward_is_exposed(written: Write):
    """Its own node 0-100 with a copy 10-20 and a reduce-scatter 30-90: 10 compute, 60 exposed; the add after it 1."""
    hand = Hand()
    hand.host("autograd::engine::evaluate_function: RegisterPostBackwardFunctionBackward", 0, 100)
    hand.host("RegisterPostBackwardFunctionBackward", 0, 100)
    hand.host("aten::copy_", 10, 20)
    hand.complete("user_annotation", "gloo:reduce_scatter", 1, 2, 30 * 1000, 60 * 1000)
    hand.host("aten::add", 100, 101)
    times = _one(written(hand)).breakdown
    assert times.exposed_communication_s == pytest.approx(60 * US)
    assert times.compute_s == pytest.approx(11 * US)


def test_memory_that_grows_from_step_to_step_is_a_finding(written: Write):
    hand = Hand()
    for step in range(3):
        hand.host(f"ProfilerStep#{step}", 100 * step, 100 * step + 100, "user_annotation")
        hand.kernel(100 * step + 10, 100 * step + 20, called=100 * step + 5)
        hand.instant(
            "[memory]", 1, (100 * step + 50) * 1000, Total__Allocated=1000 * (step + 1), Total__Reserved=4096,
            Bytes=1000, Device__Id=0, Device__Type=1, Addr=1,
        )  # fmt: skip
    device = _one(written(hand))
    (memory,) = device.memory
    assert (memory.device, memory.peak_allocated_bytes, memory.peak_reserved_bytes) == ("cuda:0", 3000, 4096)
    assert memory.growth_bytes_per_step == 1000
    assert any("more memory in every step" in finding.title for finding in device.findings)


@pytest.mark.parametrize("gpus", [1, 2])
def test_each_gpu_of_a_file_is_a_device(written: Write, gpus: int):
    hand = Hand()
    for device in range(gpus):
        hand.complete("kernel", "gemm", device, 7, 1000, 500, stream=7, device=device, correlation=device)
    assert len(analyse([written(hand)]).devices) == gpus


def test_a_trace_without_work_is_refused(written: Write):
    with pytest.raises(InputError, match="no operators and no kernels"):
        analyse([written(kineto.KinetoFile())])
