"""Which small configurations stand for the types that hwprof has no reader for? One for each kind of layer."""

from __future__ import annotations

from typing import Any

from small_transformers import DECODER, MOE, NARROW_MOE, OWN_HEADS, SIDES, T5, TOKENS

_MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 16, "mamba_chunk_size": 8, "mamba_n_groups": 1}
_LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_IMAGES = {"image_size": 16, "patch_size": 4, "num_channels": 3}

OTHER_TYPES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "state space 2": (
        "mamba2",
        "Mamba2ForCausalLM",
        {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 16, "num_heads": 8, "head_dim": 8}
        | {"n_groups": 1, "chunk_size": 8},
    ),
    "state space beside attention": (
        "falcon_h1",
        "FalconH1ForCausalLM",
        DECODER | _MAMBA2 | {"mamba_d_ssm": 64, "num_hidden_layers": 2},
    ),
    "state space, attention, experts": (
        "jamba",
        "JambaForCausalLM",
        MOE | {"num_experts": 4, "num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1},
    ),
    "gated delta": (
        "qwen3_next",
        "Qwen3NextForCausalLM",
        NARROW_MOE
        | _LINEAR
        | {"num_hidden_layers": 4, "head_dim": 16, "num_experts": 4, "shared_expert_intermediate_size": 24},
    ),
    "lightning attention": (
        "minimax",
        "MiniMaxForCausalLM",
        MOE | {"num_local_experts": 4, "head_dim": 8, "block_size": 8},
    ),
    "short convolution": (
        "lfm2",
        "Lfm2ForCausalLM",
        DECODER | {"layer_types": ["conv", "conv", "full_attention"]},
    ),
    "parallel blocks": ("cohere2", "Cohere2ForCausalLM", DECODER),
    "experts chosen by sorting": (
        "jetmoe",
        "JetMoeForCausalLM",
        {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_key_value_heads": 2, "kv_channels": 8}
        | {"intermediate_size": 24, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "disentangled attention": (
        "deberta-v2",
        "DebertaV2ForMaskedLM",
        OWN_HEADS | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 16},
    ),
    "shared layers": ("albert", "AlbertForMaskedLM", OWN_HEADS | {"embedding_size": 16}),
    "bias in every layer": ("umt5", "UMT5ForConditionalGeneration", T5),
    "experts in an encoder": (
        "switch_transformers",
        "SwitchTransformersForConditionalGeneration",
        T5 | {"num_experts": 4, "encoder_sparse_step": 1, "decoder_sparse_step": 2, "expert_capacity": 64},
    ),
    "encoder-decoder with embeddings of its own": (
        "blenderbot",
        "BlenderbotForConditionalGeneration",
        SIDES | TOKENS | {"encoder_attention_heads": 4, "max_position_embeddings": 64},
    ),
    "windows of images": (
        "swin",
        "SwinForImageClassification",
        _IMAGES | {"embed_dim": 16, "depths": [1, 2], "num_heads": [2, 4], "window_size": 2},
    ),
    "convolutions": (
        "convnext",
        "ConvNextForImageClassification",
        {"num_channels": 3, "hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2, "image_size": 32},
    ),
    "attention within convolutions": (
        "mobilevit",
        "MobileViTForImageClassification",
        {"image_size": 64, "hidden_sizes": [8, 12, 16], "neck_hidden_sizes": [4, 8, 8, 8, 8, 16, 24]},
    ),
    "pair of towers": (
        "clip",
        "CLIPModel",
        {
            "text_config": OWN_HEADS,
            "vision_config": _IMAGES
            | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
            "projection_dim": 24,
        },
    ),
    "pair of towers, images as patches": (
        "siglip2",
        "Siglip2Model",
        {
            "text_config": OWN_HEADS | {"projection_size": 32},
            "vision_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
            | {"num_attention_heads": 4, "patch_size": 4, "num_patches": 16},
        },
    ),
}
"""Kind of layer -> ``model_type``, class, and keys of a small configuration."""
