"""Claims about kernels of compiled graphs, on spans as torch.profiler writes them: they belong to the right modules."""

import pytest
from made_up_spans import attributed, made_up_span
from msgspec.structs import replace

from hwprof.measure.attribute.graph_calls import CompiledGraph, GraphCall
from hwprof.measure.watch.compiled import graph_of
from hwprof.spans.marks import MODULE, PHASE, WINDOW


def _mark(name, start, end):
    return made_up_span(name, start, end, category="user_annotation")


def _graph(*calls):
    return CompiledGraph(calls=tuple(GraphCall(name=name, shares=shares) for name, shares in calls))


def _times(summary):
    return {op.label: op.time_s for op in summary.ops}


LAYERS = _graph(
    ("mm", {"layers.0.query": 1.0}),
    ("cpp_fused_add_mean_1", {"layers.0.norm": 0.75, "layers.0": 0.25}),
    ("mm", {"layers.1.key": 1.0}),
    ("cpp_fused_add_2", {}),
)
CPU = (
    _mark(WINDOW, 0, 100),
    _mark(PHASE + "forward", 0, 100),
    made_up_span("Torch-Compiled Region: 0/0", 5, 95),
    made_up_span("CompiledFunction", 8, 92),
    made_up_span("## Call CompiledFxGraph abc ##", 10, 90),
    made_up_span("aten::mm", 12, 22),
    made_up_span("aten::resolve_conj", 13, 14),
    made_up_span("graph_0_cpp_fused_add_mean_1", 30, 38),
    made_up_span("aten::empty", 39, 40),
    made_up_span("aten::mm", 50, 70),
    made_up_span("graph_0_cpp_fused_add_2", 80, 82),
)


def test_calls_of_a_graph_belong_to_the_modules_on_its_list_in_order():
    times = _times(attributed(CPU, device="cpu", steps=1, graphs=[LAYERS]))
    assert times == pytest.approx(
        {
            "layers.*.query": 10,  # with what it calls itself
            "layers.*.norm": 6,
            "layers.*": 2,
            "layers.*.key": 20,
            "model": 1 + 2,  # not on the list, and of no module
        }
    )


def test_graph_may_be_marked_as_an_annotation():
    marked = [replace(each, cat="user_annotation") if each.name.startswith("## Call") else each for each in CPU]
    summary = attributed(marked, device="cpu", steps=1, graphs=[LAYERS])
    assert _times(summary) == _times(attributed(CPU, device="cpu", steps=1, graphs=[LAYERS]))
    assert summary.attribution.compute_s == 41


def test_kernel_that_spans_modules_is_one_row_that_says_so():
    summary = attributed(CPU, device="cpu", steps=1, graphs=[LAYERS])
    row = next(kernel for kernel in summary.kernels if kernel.name == "graph_0_cpp_fused_add_mean_1")
    assert (row.label, row.time_s, row.calls) == ("layers.*.norm + layers.* (fused)", 8, 1)
    assert {op.label: op.calls for op in summary.ops}["layers.*.norm"] == 0.75


def test_python_around_the_kernels_is_no_compute():
    attribution = attributed(CPU, device="cpu", steps=1, graphs=[LAYERS]).attribution
    assert attribution.compute_s == 10 + 8 + 1 + 20 + 2
    assert attribution.idle_host_s == 100 - 41
    assert attribution.attributed_op_fraction == pytest.approx(1 - 3 / 41)


def test_note_says_how_much_is_booked_and_how_much_of_it_by_the_rule():
    note = attributed(CPU, device="cpu", steps=1, graphs=[LAYERS]).attribution.note
    assert "92.7 % of the time of compiled graphs' kernels is booked to modules" in note
    assert "19.5 % is that of kernels that span several modules" in note


def test_unknown_graph_is_computed_as_a_whole_as_without_a_list():
    blind = attributed(CPU, device="cpu", steps=1)
    other = attributed(CPU, device="cpu", steps=1, graphs=[_graph(("bmm", {"elsewhere": 1.0}))])
    assert _times(other) == _times(blind) == {"model": 90}
    assert other.attribution.compute_s == 90


def test_of_two_graphs_the_one_that_agrees_better_is_met():
    shorter = _graph(("mm", {"wrong": 1.0}), ("cpp_fused_add_mean_1", {"wrong": 1.0}))
    assert _times(attributed(CPU, device="cpu", steps=1, graphs=[shorter, LAYERS]))["layers.*.query"] == 10


def test_two_graphs_that_agree_equally_leave_open_what_they_say_differently():
    twin = _graph(
        ("mm", {"decoder.query": 1.0}),
        ("cpp_fused_add_mean_1", {"layers.7.norm": 0.75, "layers.7": 0.25}),
        ("mm", {"layers.9.key": 1.0}),
        ("cpp_fused_add_2", {}),
    )
    times = _times(attributed(CPU, device="cpu", steps=1, graphs=[LAYERS, twin]))
    assert times == pytest.approx({"layers.*.norm": 6, "layers.*": 2, "layers.*.key": 20, "model": 3 + 10})


def test_code_shared_by_several_parts_stays_inside_the_part_that_runs_it():
    """One piece of code runs two parts; its list names the modules of the part that was compiled first."""
    inner = [span for span in CPU if not span.name.startswith("hwprof")]
    marks = _mark(WINDOW, 0, 100), _mark(PHASE + "forward", 0, 100), _mark(MODULE + "decoder.layers.0", 1, 99)
    assert _times(attributed([*marks, *inner], device="cpu", steps=1, graphs=[LAYERS])) == {"decoder.layers.*": 41}


def _cuda(*host, kernels):
    return (
        _mark(WINDOW, 0, 100),
        _mark(PHASE + "backward", 0, 100),
        made_up_span("## Call CompiledFxGraph abc ##", 10, 40),
        *host,
        *(
            made_up_span(name, start, end, category="kernel", thread="stream 7", correlation=correlation)
            for name, start, end, correlation in kernels
        ),
    )


TRITON = _graph(
    ("triton_red_fused_mul_0", {"layers.0.norm": 1.0}),
    ("mm", {"layers.0.up": 1.0}),
    ("triton_poi_fused_gelu_1", {"layers.0.up": 0.5, "layers.0.act": 0.5}),
    ("addmm", {"layers.0.down": 1.0}),
    ("mm", {"head": 1.0}),
    ("triton_poi_fused_gelu_1", {"layers.1.act": 1.0}),
)


def test_gpu_kernels_belong_to_the_call_that_launched_them():
    spans = _cuda(
        made_up_span("triton_red_fused_mul_0", 11, 13),
        made_up_span("cuLaunchKernel", 12, 13, category="cuda_driver", correlation=1),
        made_up_span("aten::mm", 14, 18),
        made_up_span("cudaLaunchKernel", 15, 16, category="cuda_runtime", correlation=2),
        made_up_span("cudaLaunchKernel", 16, 17, category="cuda_runtime", correlation=3),
        made_up_span("cuLaunchKernelEx", 20, 21, category="cuda_driver", correlation=4),  # with no operator around it
        kernels=[
            ("triton_red_fused_mul_0", 20, 22, 1),
            ("nvjet_tst_128x256", 22, 30, 2),
            ("splitKreduce_kernel", 30, 31, 3),
            ("triton_poi_fused_gelu_1", 40, 44, 4),
        ],
    )
    summary = attributed(spans, device="cuda", steps=1, graphs=[TRITON])
    assert _times(summary) == pytest.approx({"layers.*.norm": 2, "layers.*.up": 9 + 2, "layers.*.act": 2})
    assert summary.attribution.compute_s == 2 + 8 + 1 + 4
    assert {op.direction for op in summary.ops} == {"backward"}


def test_kernels_of_a_cuda_graph_are_told_apart_by_the_names_between_which_they_lie():
    """Between the two pointwise kernels lie two products and three kernels, so which is whose is left open."""
    spans = _cuda(
        made_up_span("cudaGraphLaunch", 12, 14, category="cuda_runtime", correlation=5),
        kernels=[
            ("triton_red_fused_mul_0", 20, 22, 5),
            ("nvjet_tst_128x256", 22, 30, 5),
            ("splitKreduce_kernel", 30, 31, 5),
            ("triton_poi_fused_gelu_1", 31, 33, 5),
            ("nvjet_a", 33, 34, 5),
            ("splitKreduce_kernel", 34, 35, 5),
            ("nvjet_b", 35, 36, 5),
            ("triton_poi_fused_gelu_1", 40, 45, 5),
        ],
    )
    summary = attributed(spans, device="cuda", steps=1, graphs=[TRITON])
    assert _times(summary) == pytest.approx(
        {"layers.*.norm": 2, "layers.*.up": 9 + 1, "layers.*.act": 1 + 5, "model": 3}
    )
    assert "14.3 % of the kernels' time is that of CUDA graphs" in summary.attribution.note


def test_as_many_products_as_kernels_are_met_one_by_one():
    spans = _cuda(
        made_up_span("cudaGraphLaunch", 12, 14, category="cuda_runtime", correlation=5),
        kernels=[
            ("triton_poi_fused_gelu_1", 31, 33, 5),
            ("nvjet_a", 33, 34, 5),
            ("nvjet_b", 34, 37, 5),
            ("triton_poi_fused_gelu_1", 40, 45, 5),
        ],
    )
    assert _times(attributed(spans, device="cuda", steps=1, graphs=[TRITON])) == pytest.approx(
        {"layers.*.up": 1, "layers.*.act": 1 + 5, "layers.*.down": 1, "head": 3}
    )


def test_kernel_is_split_by_the_elements_that_each_module_computes_in_it():
    """What a product computes counts in no other kernel but in one that lays it out, a sum of gradients nowhere."""
    graph = graph_of(
        {
            "triton_poi_fused_add_mul_0:10": ["add", "mul", "mm", "view", "sum_of_gradients"],
            "extern_kernels.mm:2": ["mm"],
            "torch.ops.aten._flash.default:3": ["flash"],
            "triton_poi_fused_view_1:11": ["view"],
            "triton_poi_fused_flash_3:13": ["flash"],
            "triton_poi_fused_add_2:12": ["sum_of_gradients"],
        },
        {
            "add": ("layers.0", 100.0),
            "mul": ("layers.0.norm", 300.0),
            "mm": ("layers.0.up", 1e6),
            "view": ("layers.0.down", 0.0),
            "flash": ("layers.0.attention", 5.0),
            "sum_of_gradients": (None, 700.0),
        },
    )
    assert [(call.name, call.shares) for call in graph.calls] == [
        ("mm", {"layers.0.up": 1.0}),
        ("_flash", {"layers.0.attention": 1.0}),
        ("triton_poi_fused_add_mul_0", {"layers.0": 0.25, "layers.0.norm": 0.75}),
        ("triton_poi_fused_view_1", {"layers.0.down": 1.0}),
        ("triton_poi_fused_add_2", {}),
        ("triton_poi_fused_flash_3", {"layers.0.attention": 1.0}),
    ]
