"""Claims about the collectives of a trace: on written spans of gloo and NCCL, and on real ranks."""

import pytest
import torch
from made_up_spans import made_up_span
from torch.profiler import record_function

from hwprof.measure.attribute.attribution import PHASE, WINDOW, attribute
from hwprof.measure.attribute.communication import calls_of
from hwprof.measure.attribute.trace import spans_of
from hwprof.specs.intervals import of_pairs


def _calls(*spans, compute=(), phase="backward", whole_axis="data"):
    found = calls_of(spans, of_pairs(compute), phase_at=lambda _time: phase, whole_axis=whole_axis)
    return [(call.collective, call.axis, call.size_bytes, call.start_s, call.end_s, call.exposed_s) for call in found]


def _gloo(name, start, end, sizes, thread=9):
    return made_up_span(f"gloo:{name}", start, end, category="user_annotation", thread=thread, operand_bytes=sizes)


def test_all_reduce_of_gloo_is_the_span_of_its_thread_with_the_size_of_its_operator():
    spans = (made_up_span("c10d::allreduce_", 0, 1, operand_bytes=(400.0,)), _gloo("all_reduce", 0.5, 6, (400.0,)))
    assert _calls(*spans, compute=[(2, 4)]) == [("all_reduce", "data", 400.0, 0.5, 6, 3.5)]


def test_sizes_are_those_of_nccl_tests_also_where_gloo_reduces_all_and_keeps_a_part():
    spans = (
        made_up_span("c10d::_allgather_base_", 0, 1, operand_bytes=(800.0, 400.0)),
        _gloo("all_gather", 1, 2, (400.0,)),
        made_up_span("c10d::_reduce_scatter_base_", 3, 4, operand_bytes=(400.0, 800.0)),
        _gloo("all_reduce", 4, 5, (800.0,)),
    )
    assert [call[:3] for call in _calls(*spans)] == [("all_gather", "data", 800.0), ("reduce_scatter", "data", 800.0)]


def test_each_operator_takes_the_first_span_of_its_size_after_it():
    spans = (
        made_up_span("c10d::allreduce_", 0, 1, operand_bytes=(8.0,)),
        made_up_span("c10d::allreduce_", 1, 2, operand_bytes=(400.0,)),
        _gloo("all_reduce", 2, 3, (400.0,), thread=9),
        _gloo("all_reduce", 3, 4, (8.0,), thread=10),
    )
    assert [(call[2], call[3]) for call in _calls(*spans)] == [(8.0, 3), (400.0, 2)]


def test_messages_count_where_they_are_received_and_lie_along_the_pipeline():
    spans = (
        made_up_span("c10d::send", 0, 1, operand_bytes=(64.0,)),
        _gloo("send", 0, 2, (64.0,), thread=1),
        made_up_span("c10d::recv_", 3, 4, operand_bytes=(64.0,)),
        _gloo("recv", 3, 7, (64.0,), thread=1),
    )
    assert _calls(*spans) == [("send_recv", "pipeline", 64.0, 3, 7, 4)]


def test_collectives_inside_functional_ones_are_those_of_tensor_parallelism():
    spans = (
        made_up_span("_c10d_functional::all_reduce", 0, 3, operand_bytes=(64.0,)),
        made_up_span("c10d::allreduce_", 1, 2, operand_bytes=(64.0,)),
        _gloo("all_reduce", 2, 4, (64.0,)),
        made_up_span("c10d::allreduce_", 5, 6, operand_bytes=(64.0,)),
        _gloo("all_reduce", 6, 7, (64.0,)),
    )
    assert [call[1] for call in _calls(*spans)] == ["tensor", "data"]


def test_norm_of_the_gradient_goes_over_all_axes():
    spans = (made_up_span("c10d::allreduce_", 0, 1, operand_bytes=(8.0,)), _gloo("all_reduce", 1, 2, (8.0,)))
    assert _calls(*spans, phase="clip")[0][1] == "all"


@pytest.mark.parametrize(
    ("collective", "sizes", "expected"),
    [
        ("allreduce", (400.0, 400.0), ("all_reduce", 400.0)),
        ("_allgather_base", (100.0, 800.0), ("all_gather", 800.0)),
        ("_reduce_scatter_base", (800.0, 100.0), ("reduce_scatter", 800.0)),
        ("alltoall_base", (64.0, 64.0), ("all_to_all", 64.0)),
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
    assert _calls(kernel, compute=[(0, 3)]) == [(expected[0], "tensor", expected[1], 1, 5, 2)]


def test_sizes_of_nccl_kernels_are_elements_times_their_type():
    event = {
        "ph": "X",
        "cat": "kernel",
        "name": "ncclDevKernel_AllReduce_Sum_bf16_RING_LL",
        "ts": 0,
        "dur": 5,
        "tid": 7,
        "args": {
            "Collective name": "allreduce",
            "In msg nelems": 1000,
            "Out msg nelems": 1000,
            "dtype": "BFloat16",
            "Process Group Description": "mesh_data",
        },
    }
    (span,) = spans_of([event])
    assert (span.operand_bytes, span.collective, span.group) == ((2000.0, 2000.0), "allreduce", "mesh_data")


def _step(*spans):
    marks = [
        made_up_span(WINDOW, 0, 100, category="user_annotation"),
        made_up_span(PHASE + "backward", 0, 100, category="user_annotation"),
    ]
    return sorted([*marks, *spans], key=lambda span: (span.start_s, -span.end_s))


def test_communication_of_a_cpu_is_hidden_where_an_operator_runs_beside_it():
    spans = _step(
        made_up_span("c10d::allreduce_", 10, 11, operand_bytes=(400.0,)),
        _gloo("all_reduce", 11, 60, (400.0,)),
        made_up_span("aten::mm", 20, 50),
    )
    found = attribute(spans, device="cpu", steps=1).attribution
    assert (found.compute_s, found.communication_s, found.exposed_communication_s) == (30, 50, 20)
    assert found.idle_host_s == 50


def test_operator_beside_a_message_of_its_own_thread_is_still_compute():
    spans = _step(_gloo("send", 10, 60, (64.0,), thread=1), made_up_span("aten::mm", 20, 50))
    found = attribute(spans, device="cpu", steps=1)
    assert found.attribution.compute_s == 30
    assert [kernel.name for kernel in found.kernels] == ["aten::mm"]


def test_operator_that_waits_for_a_collective_computes_nothing():
    spans = _step(
        made_up_span("aten::outer", 10, 60),
        made_up_span("_c10d_functional::wait_tensor", 20, 50),
        _gloo("all_reduce", 20, 50, (64.0,)),
    )
    found = attribute(spans, device="cpu", steps=1).attribution
    assert (found.compute_s, found.exposed_communication_s) == (20, 30)


def real_calls(world):
    """One all-reduce with a product beside it, one without."""
    import json
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
    events = json.loads(path.read_text())["traceEvents"]
    path.unlink()
    summary = attribute(spans_of(events), device="cpu", steps=1)
    return [(call.collective, call.size_bytes) for call in summary.calls], summary.attribution


def test_real_collectives_are_found_with_their_sizes(ranks):
    for calls, attribution in ranks(2).run(real_calls):
        assert calls == [("all_reduce", 800_000.0), ("all_reduce", 4_000.0)]
        assert 0 < attribution.exposed_communication_s <= attribution.communication_s
