"""What are the arguments of torch's operators called? Names in order, for those whose cost functions ask for them.

A profile records arguments by place. The tables are held against torch's own schemas by tests.
"""

from __future__ import annotations

_MATMUL = {
    "mm _int_mm": "self mat2",
    "bmm": "self mat2",
    "_scaled_mm": "self mat2 scale_a scale_b bias",
    "_grouped_mm": "self mat2 offs bias",
    "_scaled_grouped_mm": "self mat2 scale_a scale_b offs bias",
    "addmm": "self mat1 mat2",
    "baddbmm addbmm": "self batch1 batch2",
    "mv": "self vec",
    "dot": "self tensor",
    "vdot": "self other",
    "addmv": "self mat vec",
    "convolution _convolution convolution_overrideable": (
        "input weight bias stride padding dilation transposed output_padding groups"
    ),
    "convolution_backward": (
        "grad_output input weight bias_sizes stride padding dilation transposed output_padding groups output_mask"
    ),
    "convolution_backward_overrideable": (
        "grad_output input weight stride padding dilation transposed output_padding groups output_mask"
    ),
}
_ATTENTION = {
    "_scaled_dot_product_flash_attention": "query key value dropout_p is_causal",
    "_scaled_dot_product_flash_attention_for_cpu": "query key value dropout_p is_causal attn_mask",
    "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention": (
        "query key value attn_bias compute_log_sumexp dropout_p is_causal"
    ),
    "_scaled_dot_product_fused_attention_overrideable": "query key value attn_bias dropout_p is_causal",
    "_flash_attention_forward": "query key value cum_seq_q cum_seq_k max_q max_k dropout_p is_causal",
    "_efficient_attention_forward": (
        "query key value bias cu_seqlens_q cu_seqlens_k max_seqlen_q max_seqlen_k dropout_p custom_mask_type"
    ),
    "_scaled_dot_product_flash_attention_backward _flash_attention_backward": (
        "grad_out query key value out logsumexp cum_seq_q cum_seq_k max_q max_k dropout_p is_causal"
    ),
    "_scaled_dot_product_flash_attention_for_cpu_backward": (
        "grad_out query key value out logsumexp dropout_p is_causal attn_mask"
    ),
    "_scaled_dot_product_efficient_attention_backward": (
        "grad_out_ query key value attn_bias out logsumexp philox_seed philox_offset dropout_p grad_input_mask "
        "is_causal"
    ),
    "_scaled_dot_product_cudnn_attention_backward": (
        "grad_out query key value out logsumexp philox_seed philox_offset attn_bias cum_seq_q cum_seq_k max_q max_k "
        "dropout_p is_causal"
    ),
    "_scaled_dot_product_fused_attention_overrideable_backward": (
        "grad_out query key value attn_bias grad_input_mask out logsumexp cum_seq_q cum_seq_k max_q max_k dropout_p "
        "is_causal"
    ),
    "_efficient_attention_backward": (
        "grad_out_ query key value bias out cu_seqlens_q cu_seqlens_k max_seqlen_q max_seqlen_k logsumexp dropout_p"
    ),
}
_MEMORY = {
    "embedding": "weight indices",
    "embedding_dense_backward": "grad_output indices num_weights",
    "index _unsafe_index": "self indices",
    "index_select": "self dim index",
    "gather": "self dim index",
    "take": "self index",
    "index_put _unsafe_index_put _index_put_impl": "self indices values accumulate",
    "index_add index_copy": "self dim index source",
    "scatter_add scatter_reduce": "self dim index src",
    "masked_scatter": "self mask source",
    "slice_backward select_backward diagonal_backward": "grad_output input_sizes",
    "nll_loss_forward nll_loss2d_forward": "self target weight",
    "nll_loss_backward nll_loss2d_backward": "grad_output self target weight reduction ignore_index total_weight",
    "native_layer_norm": "input normalized_shape weight bias",
    "_fused_rms_norm": "input normalized_shape weight",
    "native_batch_norm _native_batch_norm_legit": "input weight bias running_mean running_var",
    "native_group_norm": "input weight bias",
    "native_layer_norm_backward": "grad_out input normalized_shape mean rstd weight bias",
    "native_group_norm_backward": "grad_out input mean rstd weight",
    "native_batch_norm_backward": "grad_out input weight running_mean running_var save_mean save_invstd",
    "_fused_rms_norm_backward": "grad_out input normalized_shape rstd weight",
    "max_pool2d_with_indices max_pool3d_with_indices": "self kernel_size stride padding",
    "avg_pool2d avg_pool3d": "self kernel_size stride padding",
    "_fused_adam _fused_adamw": "self grads exp_avgs exp_avg_sqs max_exp_avg_sqs state_steps",
    "_fused_sgd": "self grads momentum_buffer_list",
}

SIGNATURES: dict[str, tuple[str, ...]] = {
    f"aten::{name}": tuple(arguments.split())
    for table in (_MATMUL, _ATTENTION, _MEMORY)
    for names, arguments in table.items()
    for name in names.split()
}
"""Operator -> names of its first arguments; the others matter to no cost."""

WRITTEN: dict[str, tuple[str, ...]] = {
    "aten::_fused_adam_": ("self", "exp_avgs", "exp_avg_sqs"),
    "aten::_fused_adamw_": ("self", "exp_avgs", "exp_avg_sqs"),
    "aten::_fused_sgd_": ("self", "momentum_buffer_list"),
}
"""What an in-place operator changes besides ``self``."""

NEEDS_VALUES = frozenset(
    name
    for name, arguments in SIGNATURES.items()
    if set(arguments)
    & {
        "stride",
        "kernel_size",
        "output_mask",
        "input_sizes",
        "num_weights",
        "accumulate",
        "max_q",
        "max_seqlen_q",
        "dim",
        "is_causal",
        "custom_mask_type",
    }
)
"""Operators whose cost depends on the value of an argument that is no tensor."""
