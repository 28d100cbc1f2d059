"""Claims about the collectives of a trace: on written spans of gloo and NCCL, and on real ranks."""

import pytest
import torch
from made_up_spans import attributed, made_up_span
from torch.profiler import record_function

from hwprof.measure.attribute.attribution import attribute
from hwprof.measure.watch.trace_file import read_whole
from hwprof.spans.marks import PHASE, WINDOW


def _calls(*spans, compute=(), phase="backward", device="cpu", whole_axis="data"):
    marks = [made_up_span(mark, 0, 100, category="user_annotation") for mark in (WINDOW, PHASE + phase)]
    category = "cpu_op" if device == "cpu" else "kernel"
    working = [made_up_span("mm", start, end, category=category, thread=50) for start, end in compute]
    summary = attributed([*marks, *working, *spans], device=device, steps=1, whole_axis=whole_axis)
    return [
        (call.collective, call.axis, call.size_bytes, call.start_s, call.end_s, call.exposed_s)
        for call in summary.calls
    ]


def _gloo(name, start, end, sizes, thread=9):
    return made_up_span(f"gloo:{name}", start, end, category="user_annotation", thread=thread, operand_bytes=sizes)


def test_all_reduce_of_gloo_is_the_span_of_its_thread_with_the_size_of_its_operator():
    spans = (made_up_span("c10d::allreduce_", 0, 1, operand_bytes=(400,)), _gloo("all_reduce", 0.5, 6, (400,)))
    assert _calls(*spans, compute=[(2, 4)]) == [("all_reduce", "data", 400.0, 0.5, 6, 3.5)]


def test_sizes_are_those_of_nccl_tests_also_where_gloo_reduces_all_and_keeps_a_part():
    spans = (
        made_up_span("c10d::_allgather_base_", 0, 1, operand_bytes=(800, 400)),
        _gloo("all_gather", 1, 2, (400,)),
        made_up_span("c10d::_reduce_scatter_base_", 3, 4, operand_bytes=(400, 800)),
        _gloo("all_reduce", 4, 5, (800,)),
    )
    assert [call[:3] for call in _calls(*spans)] == [("all_gather", "data", 800.0), ("reduce_scatter", "data", 800.0)]


def test_each_operator_takes_the_first_span_of_its_size_after_it():
    spans = (
        made_up_span("c10d::allreduce_", 0, 1, operand_bytes=(8,)),
        made_up_span("c10d::allreduce_", 1, 2, operand_bytes=(400,)),
        _gloo("all_reduce", 2, 3, (400,), thread=9),
        _gloo("all_reduce", 3, 4, (8,), thread=10),
    )
    assert [(call[2], call[3]) for call in _calls(*spans)] == [(8.0, 3), (400.0, 2)]


def test_messages_count_where_they_are_received_and_lie_along_the_pipeline():
    spans = (
        made_up_span("c10d::send", 0, 1, operand_bytes=(64,)),
        _gloo("send", 0, 2, (64,), thread=1),
        made_up_span("c10d::recv_", 3, 4, operand_bytes=(64,)),
        _gloo("recv", 3, 7, (64,), thread=1),
    )
    assert _calls(*spans) == [("send_recv", "pipeline", 64.0, 3, 7, 4)]


def test_collectives_inside_functional_ones_are_those_of_tensor_parallelism():
    spans = (
        made_up_span("_c10d_functional::all_reduce", 0, 3, operand_bytes=(64,)),
        made_up_span("c10d::allreduce_", 1, 2, operand_bytes=(64,)),
        _gloo("all_reduce", 2, 4, (64,)),
        made_up_span("c10d::allreduce_", 5, 6, operand_bytes=(64,)),
        _gloo("all_reduce", 6, 7, (64,)),
    )
    assert [call[1] for call in _calls(*spans)] == ["tensor", "data"]


def test_norm_of_the_gradient_goes_over_all_axes():
    spans = (made_up_span("c10d::allreduce_", 0, 1, operand_bytes=(8,)), _gloo("all_reduce", 1, 2, (8,)))
    assert _calls(*spans, phase="clip")[0][1] == "all"


@pytest.mark.parametrize(
    ("collective", "sizes", "expected"),
    [
        ("allreduce", (400, 400), ("all_reduce", 400.0)),
        ("_allgather_base", (100, 800), ("all_gather", 800.0)),
        ("_reduce_scatter_base", (800, 100), ("reduce_scatter", 800.0)),
        ("alltoall_base", (64, 64), ("all_to_all", 64.0)),
        ("coalesced", (64, 64), ("send_recv", 64.0)),
        ("allgather_into_tensor_coalesced", (100, 800), ("all_gather", 800.0)),
    ],
)
def test_kernel_of_nccl_says_what_it_does_how_much_and_in_which_group(collective, sizes, expected):
    kernel = made_up_span(
        "ncclDevKernel_Generic_4",
        1,
        5,
        category="kernel",
        collective=collective,
        operand_bytes=sizes,
        group="mesh_tensor",
    )
    assert _calls(kernel, compute=[(0, 3)], device="cuda") == [(expected[0], "tensor", expected[1], 1, 5, 2)]


@pytest.mark.parametrize(
    ("kernel", "collective"),
    [
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "all_reduce"),
        ("ncclKernel_AllGather_RING_LL_Sum_int8_t(ncclDevComm*, unsigned long, ncclWork*)", "all_gather"),
        ("ncclDevKernel_ReduceScatter_Sum_f32_RING_LL", "reduce_scatter"),
        ("void two_shot_all_reduce_kernel<c10::BFloat16>", "all_reduce"),
    ],
)
def test_kernel_without_words_of_its_own_does_what_it_is_called(kernel, collective):
    (call,) = _calls(made_up_span(kernel, 1, 5, category="kernel"), device="cuda")
    assert call[:3] == (collective, "data", 0.0)


@pytest.mark.parametrize(
    ("around", "kernel", "collective"),
    [
        ("nccl:all_reduce", "ncclDevKernel_Generic_4(ncclDevKernelArgsStorage<4096ul>)", "all_reduce"),
        ("nccl:all_to_all", "ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclDevComm*, unsigned long)", "all_to_all"),
        ("nccl:recv 0<-1", "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "send_recv"),
        ("nccl:coalesced", "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "send_recv"),
        ("nccl:coalesced", "ncclDevKernel_Generic(ncclDevKernelArgsStorage<4096ul>)", "send_recv"),
        ("nccl:coalesced", "ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "all_gather"),
        ("rccl:reduce_scatter", "rcclGenericKernel<1>", "reduce_scatter"),
        ("c10d::alltoall_base_", "ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclDevComm*)", "all_to_all"),
        ("c10d::allreduce_", "ncclAllReduceRingLLKernel_sum_f32(ncclColl)", "all_reduce"),
        ("aten::add_", "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "send_recv"),
    ],
)
def test_kernel_without_words_of_its_own_does_what_it_was_launched_for(around, kernel, collective):
    category = "user_annotation" if around.startswith(("nccl:", "rccl:")) else "cpu_op"
    spans = (
        made_up_span(around, 1, 3, category=category),
        made_up_span("cudaLaunchKernelExC", 1.5, 2, category="cuda_runtime", correlation=7),
        made_up_span(kernel, 4, 6, category="kernel", correlation=7),
    )
    (call,) = _calls(*spans, device="cuda")
    assert (call[0], call[3:]) == (collective, (4, 6, 2))


def test_message_that_nccl_only_sends_is_no_call():
    spans = (
        made_up_span("nccl:send 0->1", 1, 3, category="user_annotation"),
        made_up_span("cudaLaunchKernelExC", 1.5, 2, category="cuda_runtime", correlation=7),
        made_up_span("ncclDevKernel_SendRecv", 4, 6, category="kernel", correlation=7),
    )
    assert _calls(*spans, device="cuda") == []


def test_collective_is_of_the_phase_that_asked_for_it_though_the_device_runs_it_in_another():
    """The host runs ahead: gradients are reduced while it clips, and the norm while it updates."""
    spans = [
        made_up_span(WINDOW, 0, 100, category="user_annotation"),
        *(
            made_up_span(PHASE + name, start, start + 10, category="user_annotation")
            for name, start in (("backward", 10), ("clip", 20), ("optimizer", 30))
        ),
        made_up_span("gemm", 12, 22, category="kernel", thread=50),
        *(
            made_up_span("cudaLaunchKernelExC", start, start + 1, category="cuda_runtime", correlation=number)
            for number, start in ((1, 15), (2, 25))
        ),
        *(
            made_up_span("ncclDevKernel_AllReduce_Sum_f32", start, start + 5, category="kernel", correlation=number)
            for number, start in ((1, 22), (2, 32))
        ),
    ]
    calls = attributed(spans, device="cuda", steps=1, whole_axis="data").calls
    assert [(call.phase, call.axis) for call in calls] == [("backward", "data"), ("clip", "all")]


def test_group_of_a_mesh_is_the_axis_also_of_what_is_asked_for_while_clipping():
    kernel = made_up_span(
        "ncclDevKernel_Generic",
        1,
        5,
        category="kernel",
        collective="allreduce",
        operand_bytes=(4, 4),
        group="mesh_tensor",
    )
    assert _calls(kernel, phase="clip", device="cuda")[0][1] == "tensor"


def test_message_of_nccl_counts_where_it_is_received():
    sent, received = (
        made_up_span(
            "ncclDevKernel_SendRecv", start, start + 1, category="kernel", collective=word, operand_bytes=(64, 64)
        )
        for start, word in ((1, "send"), (3, "recv"))
    )
    assert _calls(sent, received, device="cuda") == [("send_recv", "pipeline", 64.0, 3, 4, 1)]


def _step(*spans):
    return [made_up_span(mark, 0, 100, category="user_annotation") for mark in (WINDOW, PHASE + "backward")] + [*spans]


def test_communication_of_a_cpu_is_hidden_where_an_operator_runs_beside_it():
    spans = _step(
        made_up_span("c10d::allreduce_", 10, 11, operand_bytes=(400,)),
        _gloo("all_reduce", 11, 60, (400,)),
        made_up_span("aten::mm", 20, 50),
    )
    found = attributed(spans, device="cpu", steps=1).attribution
    assert (found.compute_s, found.communication_s, found.exposed_communication_s) == (30, 50, 20)
    assert found.idle_host_s == 50


def test_operator_beside_a_message_of_its_own_thread_is_still_compute():
    spans = _step(_gloo("send", 10, 60, (64,), thread=1), made_up_span("aten::mm", 20, 50))
    found = attributed(spans, device="cpu", steps=1)
    assert found.attribution.compute_s == 30
    assert [kernel.name for kernel in found.kernels] == ["aten::mm"]


def test_operator_that_waits_for_a_collective_computes_nothing():
    spans = _step(
        made_up_span("aten::outer", 10, 60),
        made_up_span("_c10d_functional::wait_tensor", 20, 50),
        _gloo("all_reduce", 20, 50, (64,)),
    )
    found = attributed(spans, device="cpu", steps=1).attribution
    assert (found.compute_s, found.exposed_communication_s) == (20, 30)


def real_calls(world):
    """One all-reduce with a product beside it, one without."""
    import tempfile
    from pathlib import Path

    import torch.distributed as dist

    from hwprof.measure.watch.annotate import phase_range, profiler

    vector, left = torch.ones(200_000), torch.randn(300, 300)
    with profiler(world.device, shapes=True) as session, record_function(WINDOW), phase_range("backward"):
        work = dist.all_reduce(vector, async_op=True)
        left @ left
        work.wait()
        dist.all_reduce(torch.ones(1000))
    path = Path(tempfile.mkdtemp()) / "trace.json"
    session.export_chrome_trace(str(path))
    trace = read_whole(path)
    path.unlink()
    summary = attribute(trace, device="cpu", steps=1)
    return [(call.collective, call.size_bytes) for call in summary.calls], summary.attribution


def test_real_collectives_are_found_with_their_sizes(ranks):
    for calls, attribution in ranks(2).run(real_calls):
        assert calls == [("all_reduce", 800_000.0), ("all_reduce", 4_000.0)]
        assert 0 < attribution.exposed_communication_s <= attribution.communication_s
