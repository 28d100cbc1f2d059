"""Claims about who owns a kernel: by hand on written spans, and on a real profile."""

import pytest
import torch
from made_up_spans import attributed, made_up_span, made_up_trace
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.checkpoint import checkpoint

from hwprof.measure.attribute.attribution import attribute, host_events
from hwprof.measure.watch.trace_file import read_whole
from hwprof.spans.marks import MODULE, PHASE, WINDOW


def _mark(name, start, end):
    return made_up_span(name, start, end, category="user_annotation")


CPU_STEP = [
    _mark(WINDOW, 0, 100),
    _mark(PHASE + "data", 0, 10),
    made_up_span("aten::stack", 2, 5),
    _mark(PHASE + "host_to_device", 10, 12),
    _mark(PHASE + "forward", 12, 40),
    _mark(MODULE + "layers.0.ffn.up", 13, 30),
    made_up_span("aten::linear", 14, 29, sequence=7),
    made_up_span("aten::addmm", 15, 28, sequence=7),
    made_up_span("aten::add", 32, 36, sequence=8),
    _mark(PHASE + "backward", 40, 80),
    made_up_span("autograd::engine::evaluate_function: AddBackward0", 41, 44, sequence=8, in_backward=True),
    made_up_span("AddBackward0", 41, 44, sequence=8, in_backward=True),
    made_up_span("autograd::engine::evaluate_function: AddmmBackward0", 45, 70, sequence=7, in_backward=True),
    made_up_span("AddmmBackward0", 45, 70, sequence=7, in_backward=True),
    made_up_span("aten::mm", 46, 69),
    made_up_span("autograd::engine::evaluate_function: torch::autograd::AccumulateGrad", 70, 72),
    made_up_span("torch::autograd::AccumulateGrad", 70, 72),
    _mark(PHASE + "optimizer", 82, 98),
    made_up_span("aten::_fused_adamw_", 83, 97),
]


def test_backward_time_belongs_to_the_module_whose_forward_has_its_sequence_number():
    summary = attributed(CPU_STEP, device="cpu", steps=1)
    times = {(op.label, op.direction): op.time_s for op in summary.ops}
    assert times["layers.*.ffn.up", "forward"] == 15
    assert times["layers.*.ffn.up", "backward"] == 25 + 2  # and the gradient accumulated right after it
    assert times["model", "forward"] == 4
    assert times["model", "backward"] == 3
    assert times["optimizer", "update"] == 14


def test_events_that_the_profiler_wrote_are_counted_inside_the_window_but_not_those_of_the_device():
    """The window, five phases, a module, twelve operators; not the kernel, nor what came before."""
    more = [made_up_span("aten::early", -5, -1), made_up_span("kernel", 20, 30, category="kernel", correlation=1)]
    assert host_events(made_up_trace([*CPU_STEP, *more])) == len(CPU_STEP) == 19


def test_parts_of_a_cpu_step_add_up_to_it():
    attribution = attributed(CPU_STEP, device="cpu", steps=1).attribution
    assert attribution.compute_s == 15 + 4 + 3 + 25 + 2 + 14
    assert attribution.idle_input_s == 10
    assert attribution.exposed_copy_s == 2
    assert attribution.residue_s == 2 + 2
    assert attribution.idle_host_s == 100 - 63 - 10 - 2 - 4
    assert attribution.explained_fraction == pytest.approx(1 - (4 + 4 + 3) / 100)


def _with_gloo(*spans):
    return [*CPU_STEP, *spans]


def test_gloo_collective_is_exposed_only_where_no_operator_computes_beside_it():
    gloo = made_up_span("gloo:all_reduce", 65, 78, category="user_annotation", thread=2)
    copy_of_gloo = made_up_span("aten::copy_", 76, 77, thread=2)
    attribution = attributed(_with_gloo(gloo, copy_of_gloo), device="cpu", steps=1).attribution
    assert attribution.exposed_communication_s == 78 - 72
    assert attribution.compute_s == 63
    assert attribution.idle_host_s == 100 - 63 - 10 - 2 - 4 - 6


def test_waiting_for_a_collective_inside_a_torch_operator_is_no_compute():
    gloo = made_up_span("gloo:all_reduce", 15, 28, category="user_annotation", thread=2)
    wait = made_up_span("_c10d_functional::wait_tensor", 16, 26)
    summary = attributed(_with_gloo(gloo, wait), device="cpu", steps=1)
    assert summary.attribution.exposed_communication_s == 10
    assert summary.attribution.compute_s == 63 - 10
    assert sum(op.time_s for op in summary.ops if op.label != "data") == 63 - 10


def test_what_hooks_of_backward_wait_for_is_exposed_not_computed():
    """FSDP2 gathers weights before a node (45-60) and reduces its gradients after it (64-80), both in its hooks.

    The node computes from 58 to 63, and the reduced gradient is copied from 78 to 79.
    """
    engine = "autograd::engine::evaluate_function: "
    spans = [
        _mark(WINDOW, 0, 100),
        _mark(PHASE + "backward", 40, 90),
        made_up_span(engine + "MmBackward0", 42, 63, sequence=7, in_backward=True),
        made_up_span("c10d::_allgather_base_", 43, 44),
        made_up_span("gloo:all_gather", 45, 60, category="user_annotation", thread=2),
        made_up_span("MmBackward0", 58, 63, sequence=7, in_backward=True),
        made_up_span("aten::mm", 59, 62),
        made_up_span(engine + "RegisterPostBackwardFunctionBackward", 63, 82),
        made_up_span("RegisterPostBackwardFunctionBackward", 63, 82),
        made_up_span("gloo:reduce_scatter", 64, 80, category="user_annotation", thread=2),
        made_up_span("aten::copy_", 78, 79),
    ]
    summary = attributed(spans, device="cpu", steps=1)
    found = summary.attribution
    assert found.compute_s == 5 + 1
    assert found.exposed_communication_s == 1 + (58 - 45) + (80 - 64 - 1)
    assert found.idle_host_s == 50 - 6 - 29
    assert found.residue_s == 100 - 50
    assert sum(op.time_s for op in summary.ops) == 6


def test_collective_does_not_take_the_number_of_the_node_before_it():
    """FSDP2 gathers the next layer's weights while no other node was made after that of a compiled layer."""
    spans = [
        _mark(WINDOW, 0, 100),
        _mark(PHASE + "forward", 0, 50),
        made_up_span("CompiledFunction", 10, 20, sequence=7),
        made_up_span("c10d::_allgather_base_", 21, 22, sequence=7),
        _mark(PHASE + "backward", 50, 100),
        made_up_span(
            "autograd::engine::evaluate_function: CompiledFunctionBackward", 60, 80, sequence=7, in_backward=True
        ),
        made_up_span("aten::mm", 61, 79),
    ]
    times = {(op.label, op.direction): op.time_s for op in attributed(spans, device="cpu", steps=1).ops}
    assert times["model", "backward"] == 18


def test_own_time_of_an_operator_excludes_the_operators_it_calls():
    kernels = {kernel.name: kernel.time_s for kernel in attributed(CPU_STEP, device="cpu", steps=1).kernels}
    assert kernels["aten::addmm"] == 13
    assert kernels["aten::linear"] == 2


def test_recomputed_forward_inside_backward_is_recompute_of_its_own_module():
    spans = [
        *CPU_STEP,
        _mark(MODULE + "layers.0.ffn.gate", 47, 57),
        made_up_span("aten::silu", 48, 56, sequence=20),
    ]
    times = {(op.label, op.direction): op.time_s for op in attributed(spans, device="cpu", steps=1).ops}
    assert times["layers.*.ffn.gate", "recompute"] == 8


def test_times_are_per_step_of_the_window():
    one, two = (attributed(CPU_STEP, device="cpu", steps=steps) for steps in (1, 2))
    assert [op.time_s for op in two.ops] == [op.time_s / 2 for op in one.ops]
    assert two.attribution.step_s == 50


GPU_STEP = [
    _mark(WINDOW, 0, 100),
    _mark(PHASE + "data", 0, 8),
    _mark(PHASE + "forward", 8, 20),
    _mark(MODULE + "head", 9, 12),
    made_up_span("aten::mm", 10, 11, sequence=3),
    made_up_span("cudaLaunchKernel", 10.2, 10.4, category="cuda_runtime", correlation=1),
    made_up_span("gemm", 12, 40, category="kernel", thread=7, correlation=1),
    _mark(PHASE + "backward", 20, 98),
    made_up_span("autograd::engine::evaluate_function: MmBackward0", 21, 23, thread=2, sequence=3, in_backward=True),
    made_up_span("cudaLaunchKernel", 21.5, 22, thread=2, category="cuda_runtime", correlation=2),
    made_up_span("gemm_grad", 50, 70, category="kernel", thread=7, correlation=2),
    made_up_span("ncclDevKernel_AllReduce", 60, 80, category="kernel", thread=8, correlation=3),
    made_up_span("Memcpy HtoD (Pinned -> Device)", 76, 84, category="gpu_memcpy", thread=9, correlation=4),
]


def test_gpu_kernel_belongs_to_the_operator_that_launched_it():
    times = {(op.label, op.direction): op.time_s for op in attributed(GPU_STEP, device="cuda", steps=1).ops}
    assert times["head", "forward"] == 28
    assert times["head", "backward"] == 20


COMPILED_STEP = [
    _mark(WINDOW, 0, 100),
    _mark(PHASE + "forward", 0, 20),
    _mark("Torch-Compiled Region: 0/0", 1, 19),
    made_up_span("CompiledFunction", 2, 18, sequence=5),
    made_up_span("cuLaunchKernel", 3, 4, category="cuda_driver", correlation=1),
    made_up_span("triton_poi_fused_add_mul_native_layer_norm_0", 5, 35, category="kernel", thread=7, correlation=1),
    _mark(PHASE + "backward", 20, 70),
    made_up_span(
        "autograd::engine::evaluate_function: CompiledFunctionBackward", 21, 40, thread=2, sequence=5,
        in_backward=True,
    ),
    made_up_span("cuLaunchKernel", 22, 23, thread=2, category="cuda_driver", correlation=2),
    made_up_span("triton_red_fused_sum_1", 40, 60, category="kernel", thread=7, correlation=2),
    _mark(PHASE + "optimizer", 70, 100),
    made_up_span("cuLaunchKernel", 71, 72, category="cuda_driver", correlation=3),
    made_up_span("triton_for_fused_adamw_2", 72, 92, category="kernel", thread=7, correlation=3),
]  # fmt: skip


def test_fused_kernels_of_a_compiled_model_belong_to_the_model_by_direction_and_count_as_unexplained():
    summary = attributed(COMPILED_STEP, device="cuda", steps=1)
    assert {(op.label, op.phase, op.direction): op.time_s for op in summary.ops} == {
        ("model", "forward", "forward"): 30,
        ("model", "backward", "backward"): 20,
        ("optimizer", "optimizer", "update"): 20,
    }
    assert {kernel.name: kernel.label for kernel in summary.kernels} == {
        "triton_poi_fused_add_mul_native_layer_norm_0": "model",
        "triton_red_fused_sum_1": "model",
        "triton_for_fused_adamw_2": "optimizer",
    }
    assert summary.attribution.attributed_op_fraction == pytest.approx(20 / 70)
    assert summary.attribution.explained_fraction == pytest.approx(1 - 50 / 100)


def test_kernels_of_a_cuda_graph_belong_to_where_it_is_launched_and_the_note_says_so():
    """The forward pass of one module is a graph of three kernels; one kernel beside it is launched by itself."""
    spans = [
        _mark(WINDOW, 0, 100),
        _mark(PHASE + "forward", 0, 100),
        _mark(MODULE + "layers.0.ffn", 1, 9),
        made_up_span("cudaGraphLaunch", 2, 4, category="cuda_runtime", correlation=1),
        *(
            made_up_span(f"gemm_{at}", 10 * at, 10 * at + 10, category="kernel", thread=7, correlation=1)
            for at in (1, 2, 3)
        ),
        made_up_span("cudaLaunchKernel", 20, 21, category="cuda_runtime", correlation=2),
        made_up_span("softmax", 50, 60, category="kernel", thread=7, correlation=2),
    ]
    summary = attributed(spans, device="cuda", steps=1)
    assert {op.label: (op.calls, op.time_s) for op in summary.ops} == {"layers.*.ffn": (3, 30), "model": (1, 10)}
    assert "75 % of the kernels' time is that of CUDA graphs" in summary.attribution.note
    assert summary.attribution.compute_s == 40
    assert "CUDA graphs" not in attributed(GPU_STEP, device="cuda", steps=1).attribution.note


def test_gpu_step_splits_into_compute_then_exposed_collectives_then_exposed_copies_then_idle():
    attribution = attributed(GPU_STEP, device="cuda", steps=1).attribution
    assert attribution.compute_s == 28 + 20
    assert attribution.exposed_communication_s == 10
    assert attribution.exposed_copy_s == 4
    assert attribution.idle_input_s == 8
    assert attribution.idle_host_s == 4 + 10 + (98 - 84)
    assert attribution.late_host_s == pytest.approx((10.2 - 8) + (98 - 84))  # until the call, and after the last kernel
    assert attribution.dependency_s == 10  # its kernel had been called for at 21.5
    assert attribution.other_s == pytest.approx(12 - 10.2)
    assert attribution.residue_s == 2


def test_recompute_in_the_thread_of_backward_does_not_take_the_numbers_of_forward():
    # that thread counts by itself, so that its 3 is another operator than the 3 of forward
    again = [
        _mark(MODULE + "head", 9, 12),
        made_up_span("aten::mm", 10, 11, sequence=3),
        made_up_span(
            "autograd::engine::evaluate_function: NormBackward0", 30, 40, thread=2, sequence=9, in_backward=True
        ),
        made_up_span(MODULE + "layers.0.ffn.up", 31, 39, thread=2, category="user_annotation"),
        made_up_span("aten::mm", 32, 38, thread=2, sequence=3),
        made_up_span("cudaLaunchKernel", 33, 34, thread=2, category="cuda_runtime", correlation=1),
        made_up_span("gemm_again", 50, 60, category="kernel", thread=7, correlation=1),
        made_up_span(
            "autograd::engine::evaluate_function: MmBackward0", 41, 49, thread=2, sequence=3, in_backward=True
        ),
        made_up_span("cudaLaunchKernel", 42, 43, thread=2, category="cuda_runtime", correlation=2),
        made_up_span("gemm_grad", 60, 80, category="kernel", thread=7, correlation=2),
    ]
    phases = [_mark(WINDOW, 0, 100), _mark(PHASE + "forward", 8, 20), _mark(PHASE + "backward", 20, 98)]
    summary = attributed([*phases, *again], device="cuda", steps=1)
    times = {(op.label, op.direction): op.time_s for op in summary.ops}
    assert times == {("layers.*.ffn.up", "recompute"): 10, ("head", "backward"): 20}


def test_launch_that_seems_to_outlast_its_operator_owns_nothing_after_it():
    spans = [
        _mark(WINDOW, 0, 100),
        _mark(PHASE + "forward", 8, 90),
        _mark(MODULE + "head", 9, 12),
        made_up_span("cudaLaunchKernel", 11.5, 12.5, category="cuda_runtime", correlation=1),
        made_up_span("gemm", 20, 40, category="kernel", thread=7, correlation=1),
        made_up_span("aten::add", 12.2, 14, sequence=4),
        made_up_span("cudaLaunchKernel", 13, 13.5, category="cuda_runtime", correlation=2),
        made_up_span("add", 40, 43, category="kernel", thread=7, correlation=2),
    ]
    times = {op.label: op.time_s for op in attributed(spans, device="cuda", steps=1).ops}
    assert times == {"head": 20, "model": 3}


def _linked(*, correlations=(-1, -1), externals=(-1, -1), category="cuda_runtime"):
    """A kernel of 40 s that an operator of a module asked for, in a window of 100 s; numbers of call and kernel."""
    return attributed(
        [
            made_up_span("hwprof:window", 0, 100, category="user_annotation"),
            made_up_span("hwprof:phase:forward", 0, 100, category="user_annotation"),
            made_up_span("hwprof:module:layers.0.ffn.up", 10, 30, category="user_annotation"),
            made_up_span("aten::mm", 11, 20, external=5),
            made_up_span(
                "hipLaunchKernel", 12, 13, category=category, correlation=correlations[0], external=externals[0]
            ),
            made_up_span("gemm", 40, 80, category="kernel", correlation=correlations[1], external=externals[1]),
        ],
        device="cuda",
        steps=1,
    )


@pytest.mark.parametrize(
    "numbers",
    [
        {"correlations": (7, 7)},
        {"externals": (25, 25)},
        {"correlations": (-1, 9), "externals": (-1, 5), "category": "none"},
        {"correlations": (0, 0), "externals": (25, 25)},
    ],
    ids=["correlation", "external id of the call", "external id of the operator", "external id beside no correlation"],
)
def test_kernel_belongs_to_its_call_by_whichever_number_links_the_two(numbers):
    found = _linked(**numbers)
    assert [(op.label, op.time_s) for op in found.ops] == [("layers.*.ffn.up", 40)]
    assert found.attribution.explained_fraction == pytest.approx(1.0)


@pytest.mark.parametrize("correlations", [(-1, -1), (0, 0), (1, 2)])
def test_kernel_that_nothing_links_to_a_call_is_not_explained_nor_is_the_time_before_it(correlations):
    found = _linked(correlations=correlations)
    assert found.ops == ()
    assert found.attribution.compute_s == 40
    assert found.attribution.explained_fraction == pytest.approx(0.2)  # the 20 s after it: the host called for nothing
    assert "for 100 % of the kernels' time the trace has no call" in found.attribution.note


def test_gpu_trace_without_any_kernel_is_not_called_idle():
    blind = [span for span in GPU_STEP if span.cat not in {"kernel", "gpu_memcpy"}]
    assert attributed(blind, device="cuda", steps=1) is None


def _real_profile(path):
    torch.manual_seed(0)
    inner = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.GELU(), torch.nn.Linear(64, 32))
    head = torch.nn.Linear(32, 8)
    tokens = torch.randn(16, 32)

    def module(name, layer, value):
        with record_function(MODULE + name):
            return layer(value)

    def block(value):
        for index, layer in enumerate(inner):
            value = module(f"layers.{index}", layer, value)
        return value

    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler, record_function(WINDOW):
        with record_function(PHASE + "forward"):
            out = module("head", head, checkpoint(block, tokens, use_reentrant=False))
        with record_function(PHASE + "loss"):
            loss = out.pow(2).mean()
        with record_function(PHASE + "backward"):
            loss.backward()
    profiler.export_chrome_trace(str(path))


def test_real_checkpointed_profile_is_booked_to_modules_and_directions(tmp_path):
    path = tmp_path / "trace.json.gz"
    _real_profile(path)
    summary = attribute(read_whole(path), device="cpu", steps=1)
    booked = {(op.label, op.direction) for op in summary.ops}
    assert {
        ("layers.*", "forward"),
        ("layers.*", "recompute"),
        ("layers.*", "backward"),
        ("head", "backward"),
        ("loss", "forward"),
        ("loss", "backward"),
    } <= booked
    assert not {("head", "recompute")} & booked
    assert summary.attribution.attributed_op_fraction > 0.9
