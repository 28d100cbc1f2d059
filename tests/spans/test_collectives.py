"""Which names are communication? Those of every library that is known, one by one."""

import pytest

from hwprof.spans.collectives import ISSUES, KERNEL, LIBRARY, MESSAGE, OPERATOR, PREPARES, collective_named


@pytest.mark.parametrize(
    "kernel",
    [
        "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
        "ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t",
        "rcclGenericKernel<1, false>",
        "oneccl_allreduce_kernel",
        "hcclAllReduce",
        "nvshmemi_transfer_rma_block",
        "mscclKernel_Sum_half_Simple_false",
        "void deep_ep::internode_ll::dispatch<true, false, 7168>(void*, void*)",
        "void one_shot_all_reduce_kernel<c10::BFloat16, 16, 8, true>",
        "void two_shot_all_reduce_kernel<c10::BFloat16, 16, 8>",
        "void multimem_all_reduce_kernel<c10::BFloat16, 16>",
        "void multimem_one_shot_reduce_kernel<float, 16>",
        "void vllm::cross_device_reduce_1stage<__nv_bfloat16, 8>",
        "void c10d::symm_mem::barrier_kernel(unsigned int**)",
        "allgather_kernel",
        "reduce_scatter_kernel",
        "alltoall_kernel",
        "all_to_all_vdev_kernel",
    ],
)
def test_kernels_that_talk_to_other_devices(kernel):
    assert KERNEL.search(kernel)


@pytest.mark.parametrize(
    "kernel",
    [
        "nvjet_tst_128x256_64x4_2x1_v_bz_coopA_NNT",
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float> > >",
        "void at::native::vectorized_gather_kernel<16, long>",
        "triton_red_fused_add_mul_0",
        "Memcpy DtoD (Device -> Device)",
    ],
)
def test_kernels_that_talk_to_nobody(kernel):
    assert not KERNEL.search(kernel)


@pytest.mark.parametrize("kernel", ["void at::native::elementwise_kernel<128, 2>", "CatArrayBatchedCopy", "Memset"])
def test_kernels_that_prepare_a_buffer_are_known_by_name(kernel):
    assert PREPARES.search(kernel)


@pytest.mark.parametrize("library", ["nccl", "rccl", "gloo", "mpi", "ucc", "xccl", "hccl"])
def test_annotations_of_all_libraries_are_communication(library):
    assert LIBRARY.match(f"{library}:all_reduce")


@pytest.mark.parametrize("name", ["c10d::allreduce_", "_c10d_functional::wait_tensor", "_dtensor::shard_dim_alltoall"])
def test_operators_of_torch_distributed_are_communication(name):
    assert OPERATOR.match(name)
    assert not ISSUES.search(name)


def test_only_what_stands_around_a_launch_issues_it():
    assert ISSUES.search("record_param_comms")
    assert ISSUES.search("nccl:all_reduce")
    assert not ISSUES.search("gloo:all_reduce")


def test_messages_are_told_from_collectives():
    assert MESSAGE.match("gloo:send")
    assert not MESSAGE.match("gloo:all_reduce")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("allreduce", "all_reduce"),
        ("all_reduce", "all_reduce"),
        ("c10d::allreduce_", "all_reduce"),
        ("allreduce_coalesced", "all_reduce"),
        ("_allgather_base", "all_gather"),
        ("allgather_base", "all_gather"),
        ("allgather", "all_gather"),
        ("all_gather", "all_gather"),
        ("allgather_into_tensor_coalesced", "all_gather"),
        ("_reduce_scatter_base", "reduce_scatter"),
        ("reduce_scatter", "reduce_scatter"),
        ("reduce_scatter_tensor_coalesced", "reduce_scatter"),
        ("alltoall_base", "all_to_all"),
        ("alltoall", "all_to_all"),
        ("all_to_all", "all_to_all"),
        ("broadcast", "broadcast"),
        ("recv", "send_recv"),
        ("c10d::recv_", "send_recv"),
        ("c10d::recv_any_source_", "send_recv"),
        ("ncclDevKernel_ReduceScatter_Sum_f32_RING_LL", "reduce_scatter"),
        ("ncclKernel_AllReduce_RING_LL_Sum_float", "all_reduce"),
        ("send", None),
        ("c10d::send", None),
        ("ncclDevKernel_SendRecv", None),
        ("c10d::barrier", None),
        ("c10d::reduce_", None),
    ],
)
def test_what_a_collective_is_called_says_what_it_does(text, name):
    assert collective_named(text) == name
