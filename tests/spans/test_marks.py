"""What do names mark?"""

import pytest

from hwprof.spans.marks import LOADER, made_kernel, runs_hooks


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("triton_poi_fused_gelu_1", "triton_poi_fused_gelu_1"),
        ("graph_0_cpp_fused_add_mean_1", "cpp_fused_add_mean_1"),
        ("aten::mm", ""),
        ("nvjet_tst_128x256", ""),
    ],
)
def test_kernels_that_inductor_made_are_called_as_in_its_list(name, made):
    assert made_kernel(name) == made


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("autograd::engine::evaluate_function: MmBackward0", True),
        ("RegisterPostBackwardFunctionBackward", True),
        ("MmBackward0", False),
    ],
)
def test_hooks_run_in_the_engine_and_in_the_node_of_fsdp(name, runs):
    assert runs_hooks(name) is runs


@pytest.mark.parametrize(
    ("name", "loads"),
    [
        ("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", True),
        ("hwprof:phase:data", True),
        ("hwprof:phase:data_too", False),
    ],
)
def test_input_pipeline_is_the_loader_and_the_recorders_own_phase(name, loads):
    assert bool(LOADER.match(name)) is loads
