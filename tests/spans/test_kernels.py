"""Are kernels of known libraries told apart, and unknown ones called unknown? By names from their own sources."""

import pytest

from hwprof.spans.kernels import category_of, library_of


@pytest.mark.parametrize(
    ("kernel", "library", "category"),
    [
        ("triton_poi_fused_silu_mul_3", "inductor (Triton)", "elementwise"),
        ("triton_red_fused__to_copy_native_layer_norm_2", "inductor (Triton)", "norm"),
        ("triton_per_fused__softmax_4", "inductor (Triton)", "reduction"),
        ("triton_tem_fused_mm_2", "inductor (Triton)", "product"),
        ("triton_tem_fused_flex_attention_1", "inductor (Triton)", "attention"),
        ("_rms_norm_forward_kernel", "Liger", "norm"),
        ("_swiglu_forward_kernel", "Liger", "elementwise"),
        ("liger_cross_entropy_kernel", "Liger", "reduction"),
        ("_triton_rope", "Liger", "elementwise"),
        ("void vllm::rms_norm_kernel<c10::BFloat16, float>", "vLLM", "norm"),
        ("void vllm::act_and_mul_kernel<c10::BFloat16, &vllm::silu_kernel>", "vLLM", "elementwise"),
        ("void vllm::rotary_embedding_kernel<c10::BFloat16, true>", "vLLM", "elementwise"),
        ("void vllm::cross_device_reduce_1stage<c10::BFloat16, 8>", "vLLM", "collective"),
        ("kernel_unified_attention_2d", "vLLM", "attention"),
        ("fused_moe_kernel", "vLLM", "product"),
        ("void flashinfer::BatchPrefillWithPagedKVCacheKernel<>", "FlashInfer", "attention"),
        ("void flashinfer::norm::FusedAddRMSNormKernel<8u, __half>", "FlashInfer", "norm"),
        ("void flashinfer::activation::act_and_mul_kernel<>", "FlashInfer", "elementwise"),
        ("void flashinfer::sampling::TopKTopPSamplingFromProbKernel<>", "FlashInfer", "reduction"),
        ("_ZN5aiter30fmha_fwd_hd128_bf16_causal_rtneE", "aiter", "attention"),
        ("void aiter::add_rmsnorm_quant_kernel<>", "aiter", "norm"),
        ("void ck_tile::kentry<256, 2, ck_tile::FmhaFwdKernel<>>", "Composable Kernel", "attention"),
        ("Cijk_Alik_Bljk_SB_Bias_AS", "hipBLASLt (Tensile)", "product"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NNT", "cuBLAS", "product"),
        ("ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x3_nn", "cuBLAS", "product"),
        ("void cudnn::bn_bw_1C11_kernel_new<float>", "cuDNN", "norm"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<>>", "torch", "reduction"),
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL", "NCCL", "collective"),
        ("Memcpy HtoD (Pageable -> Device)", "driver", "copy"),
        ("my_own_kernel<float>", "", "unknown"),
    ],
)
def test_a_kernel_by_its_name(kernel, library, category):
    assert (library_of(kernel), category_of(kernel)) == (library, category)


@pytest.mark.parametrize(
    ("operator", "category"),
    [
        ("aten::addmm", "product"),
        ("aten::convolution_backward", "product"),
        ("aten::_scaled_dot_product_flash_attention", "attention"),
        ("aten::native_layer_norm_backward", "norm"),
        ("aten::linalg_vector_norm", "reduction"),
        ("aten::normal_", "elementwise"),
        ("aten::_softmax", "reduction"),
        ("aten::embedding", "gather"),
        ("aten::_fused_adamw_", "optimizer"),
        ("aten::_foreach_add_", "elementwise"),
        ("aten::threshold_backward", "elementwise"),
        ("LigerFusedLinearCrossEntropyFunction", "product"),
        ("mine::secret", "unknown"),
    ],
)
def test_an_operator_by_its_name(operator, category):
    assert category_of(operator) == category
