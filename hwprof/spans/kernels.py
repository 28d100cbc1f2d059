"""Who wrote a kernel, and what sort of work does it do? By the names of kernels and of the operators around them.

The names are those that the libraries' own sources give their kernels and operators; what no row knows is unknown.
"""

from __future__ import annotations

import re

from hwprof.spans.collectives import KERNEL
from hwprof.specs.record.trace_rows import Category

_LIBRARIES: tuple[tuple[str, str], ...] = (
    (r"nccl|rccl", "NCCL"),
    (r"nvshmem|deep_ep", "NVSHMEM"),
    (r"^triton_(poi|red|per|tem|mm|bmm|for|spl|unk|fused)|^triton_\w*_fused_", "inductor (Triton)"),
    (r"liger|_triton_m?rope|_(swiglu|geglu)_(tanh_)?(forward|backward)_kernel|element_mul_kernel", "Liger"),
    (r"_(rms|layer|group)_norm_(forward|backward)_kernel|_(jsd|kldiv|tv_distance)_kernel", "Liger"),
    (r"flashinfer|(Batch|Single)(Prefill|Decode)With", "FlashInfer"),
    (r"aiter|fmha_(fwd|bwd)_hd\d+|^_ZN\d+(fmoe|fmha)_|\bfmoe_|f4gemm_|i8gemm_bf16|bf16gemm_\w+_outf", "aiter"),
    (r"vllm|kernel_unified_attention|paged_attention|^fused_moe_kernel|reshape_and_cache", "vLLM"),
    (r"^_C(_cache_ops)?::|^_moe_C::", "vLLM"),
    (r"sgl_kernel|sglang|sgl_|StoreKVCache|^_fwd_grouped_kernel_stage|^_fwd_kernel_stage", "SGLang"),
    (r"transformer_engine|^te_|tex_ts", "Transformer Engine"),
    (r"tensorrt_llm|trtllm", "TensorRT-LLM"),
    (r"deep_gemm|fp8_gemm_kernel", "DeepGEMM"),
    (r"marlin", "Marlin"),
    (r"kQuantize|kDequantize|kgemm_4bit|bitsandbytes|kOptimizer", "bitsandbytes"),
    (r"flash_(fwd|bwd|attn)|flash::|pytorch_flash|FlashAttn", "FlashAttention"),
    (r"fmha_cutlass|PyTorchMemEffAttention|AttentionKernel|attention_kernel_backward", "xFormers (CUTLASS)"),
    (r"selective_scan|causal_conv1d|chunk_(scan|state)_|mamba", "Mamba"),
    (r"ck_tile|\bck::|_ZN2ck|ck_fmha|kernel_(gemm|grouped_gemm|moe_gemm)_xdl", "Composable Kernel"),
    (r"^Cijk_|Custom_Cijk|tensile|hipblas", "hipBLASLt (Tensile)"),
    (r"cudnn", "cuDNN"),
    (r"miopen|naive_conv|igemm_(fwd|bwd|wrw)", "MIOpen"),
    (r"xmma|cublas|^nvjet|gemv|gemmk1|gemmSN|splitKreduce", "cuBLAS"),
    (r"^(maxwell|volta|turing|ampere|sm\d+)_\w*gemm", "cuBLAS"),
    (r"implicit_convolve|dgrad|wgrad|winograd", "cuDNN"),
    (r"cutlass", "CUTLASS"),
    (r"rocprim", "rocPRIM"),
    (r"at::native|at_cuda_detail|\bc10::|\bat::|^aten::|multi_tensor_apply_kernel|cunn_", "torch"),
    (r"\bcub::|thrust::", "CUB"),
    (r"^Mem(cpy|set)", "driver"),
)
"""What stands in a kernel's name -> the library that has it; the first that fits."""

_CATEGORIES: tuple[tuple[str, Category], ...] = (
    (r"^Mem(cpy|set)|^(hip|cuda)Mem", "copy"),
    (r"aten::normal_?$|rotary|rope\b|_rope|act_and_mul|reshape_and_cache|store_kv|kv_indices", "elementwise"),
    (r"Fused_?Linear_?Cross_?Entropy|marlin", "product"),
    (r"linalg_vector_norm|clip_grad_norm|foreach_norm|lpnorm|aten::(norm|dist)$", "reduction"),
    (r"cross_?entropy|nll_loss|softmax(?!.*(attn|attention|fmha))|logsumexp|topk|argmax|\bsort|sampl", "reduction"),
    (r"(layer|rms|group|batch|instance)_?norm|_norm_(fwd|bwd|fused)|norm2d|bn_(fw|bw)", "norm"),
    (r"attention|attn|fmha|flash(?!infer)|\bmha|sdpa|(Batch|Single)(Prefill|Decode)|\bmla_", "attention"),
    (r"gemm|gemv|matmul|(^|::|_)(add|badd|b|scaled_|grouped_|int_)?(mm|bmm)(_|$)|Cijk_|nvjet|xmma", "product"),
    (r"::(mv|dot|linear|addmv|einsum)$|conv(olution|olve|_fwd|_bwd|1d|2d|3d)|dgrad|wgrad|winograd", "product"),
    (r"^dot\b|dot_general|^convolution fusion|splitKreduce|triton_tem|\bfmoe|fused_moe|_Linear", "product"),
    (r"_fused_(adam|adamw|sgd|adagrad)|adam|optimizer", "optimizer"),
    (r"embedding|index|gather|scatter|::take", "gather"),
    (r"^reduce|^input fusion|reduce_kernel|^triton_(red|per)|::reduce", "reduction"),
    (r"aten::(sum|mean|max|min|amax|amin|prod|std|var|var_mean|cumsum|any|all)$", "reduction"),
    (r"elementwise|^triton_poi|multi_tensor_apply|foreach|vectorized|swiglu|geglu|silu|gelu|relu", "elementwise"),
    (r"quant|cast|copy|catarray|fill|dropout|element_mul|\b(add|mul)_|transpose", "elementwise"),
    (r"^(loop|output|non-fusion) |data formatting|_fusion\b|^fusion", "elementwise"),
)
"""What stands in the name of an operator or a kernel -> its sort of work; the first that fits."""

_LIBRARY = tuple((re.compile(pattern, re.IGNORECASE), library) for pattern, library in _LIBRARIES)
_CATEGORY = tuple((re.compile(pattern, re.IGNORECASE), category) for pattern, category in _CATEGORIES)


def library_of(kernel: str) -> str:
    """The library whose kernel has this name; empty where it is not known."""
    return next((library for pattern, library in _LIBRARY if pattern.search(kernel)), "")


def category_of(name: str) -> Category:
    """The sort of work that the name of an operator or a kernel says; ``unknown`` where it says none.

    torch's own operators that nothing here names work on each element.
    """
    if KERNEL.search(name) and not name.startswith("aten::"):
        return "collective"
    found = next((category for pattern, category in _CATEGORY if pattern.search(name)), None)
    return found or ("elementwise" if name.startswith("aten::") else "unknown")
