"""Models whose code comes with them: their files give the counts of their model cards (number of parameters there)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hwprof.count.blocks.parameters import parameters
from hwprof.errors import SpecError
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.huggingface import model_from_config
from hwprof.specs.huggingface.families import TEXT_WITHIN
from hwprof.specs.huggingface.own_code import READERS_OF_OWN_CODE, in_words_of_transformers

CODE = {"auto_map": {"AutoConfig": "configuration.Config"}, "torch_dtype": "bfloat16", "use_cache": True}


def shaped(kind: str, made: str, *sizes: int, **more: Any) -> dict[str, Any]:
    """Width, width of the network, layers, heads and rows of the table by their usual names."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    return CODE | {"model_type": kind, "architectures": [made]} | dict(zip(names, sizes, strict=True)) | more


PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "internlm/internlm2-7b": (
        shaped("internlm2", "InternLM2ForCausalLM", 4096, 14336, 32, 32, 92544)
        | {"num_key_value_heads": 8, "bias": False, "max_position_embeddings": 32768, "rope_theta": 1000000},
        7_737_708_544,
    ),
    "internlm/internlm-7b": (
        shaped("internlm", "InternLMForCausalLM", 4096, 11008, 32, 32, 103168)
        | {"bias": True, "rotary": {"base": 10000, "type": "dynamic"}, "max_position_embeddings": 2048},
        7_321_948_160,  # 7.32 G
    ),
    "XiaomiMiMo/MiMo-7B-Base": (
        shaped("mimo", "MiMoForCausalLM", 4096, 11008, 36, 32, 151680)
        | {"num_key_value_heads": 8, "head_dim": 128, "attention_bias": True, "num_nextn_predict_layers": 1}
        | {"max_position_embeddings": 32768, "max_window_layers": 36, "sliding_window": 32768, "use_mrope": False},
        7_833_409_536,
    ),
    "openbmb/MiniCPM-2B-sft-bf16": (
        shaped("minicpm", "MiniCPMForCausalLM", 2304, 5760, 40, 36, 122753)
        | {"num_key_value_heads": 36, "scale_emb": 12, "dim_model_base": 256, "scale_depth": 1.4},
        2_724_880_896,
    ),
    "baichuan-inc/Baichuan2-7B-Base": (
        shaped("baichuan", "BaichuanForCausalLM", 4096, 11008, 32, 32, 125696)
        | {"max_position_embeddings": 4096, "model_max_length": 4096, "z_loss_weight": 0},
        7_505_973_248,
    ),
    "baichuan-inc/Baichuan2-13B-Base": (
        shaped("baichuan", "BaichuanForCausalLM", 5120, 13696, 40, 40, 125696) | {"model_max_length": 4096},
        13_896_668_160,
    ),
    "zai-org/chatglm3-6b": (
        CODE
        | {"model_type": "chatglm", "architectures": ["ChatGLMModel"], "add_bias_linear": False, "add_qkv_bias": True}
        | {"apply_query_key_layer_scaling": True, "apply_residual_connection_post_layernorm": False}
        | {"attention_dropout": 0.0, "attention_softmax_in_fp32": True, "bias_dropout_fusion": True}
        | {"ffn_hidden_size": 13696, "fp32_residual_connection": False, "hidden_dropout": 0.0, "hidden_size": 4096}
        | {"kv_channels": 128, "layernorm_epsilon": 1e-5, "multi_query_attention": True, "multi_query_group_num": 2}
        | {"num_attention_heads": 32, "num_layers": 28, "original_rope": True, "padded_vocab_size": 65024}
        | {"post_layer_norm": True, "rmsnorm": True, "seq_length": 8192, "tie_word_embeddings": False},
        6_243_584_000,
    ),
    "Qwen/Qwen-7B": (
        shaped("qwen", "QWenLMHeadModel", 4096, 22016, 32, 32, 151936)
        | {"kv_channels": 128, "no_bias": True, "seq_length": 8192, "rotary_pct": 1.0, "rotary_emb_base": 10000}
        | {"attn_dropout_prob": 0.0, "emb_dropout_prob": 0.0, "max_position_embeddings": 32768, "onnx_safe": None}
        | {"scale_attn_weights": True, "use_dynamic_ntk": True, "use_logn_attn": True, "use_flash_attn": "auto"},
        7_721_324_544,
    ),
    "OrionStarAI/Orion-14B-Base": (
        shaped("orion", "OrionForCausalLM", 5120, 15360, 40, 40, 84608)
        | {"num_key_value_heads": 40, "max_position_embeddings": 4096, "pretraining_tp": 1},
        14_498_703_360,  # 14.5 G
    ),
    "Skywork/Skywork-13B-base": (
        shaped("skywork", "SkyworkForCausalLM", 4608, 12288, 52, 36, 65519) | {"max_position_embeddings": 131072},
        13_854_113_280,  # 13.9 G
    ),
    "deepseek-ai/deepseek-moe-16b-base": (
        shaped("deepseek", "DeepseekForCausalLM", 2048, 10944, 28, 16, 102400)
        | {"num_key_value_heads": 16, "moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2}
        | {"num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1, "scoring_func": "softmax"}
        | {"norm_topk_prob": False, "aux_loss_alpha": 0.001, "seq_aux": True, "max_position_embeddings": 4096},
        16_375_728_128,
    ),
    "inclusionAI/Ling-lite": (
        shaped("bailing_moe", "BailingMoeForCausalLM", 2048, 5632, 28, 16, 126464)
        | {"num_key_value_heads": 4, "head_dim": 128, "moe_intermediate_size": 1408, "num_experts": 64}
        | {"num_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 0, "norm_topk_prob": True}
        | {"use_bias": False, "use_qkv_bias": False, "use_sliding_window": False, "sliding_window": 4096},
        16_801_974_272,  # 16.8 G
    ),
    "inclusionAI/Ling-mini-2.0": (
        shaped("bailing_moe_v2", "BailingMoeV2ForCausalLM", 2048, 5120, 20, 16, 157184)
        | {"num_key_value_heads": 4, "head_dim": 128, "moe_intermediate_size": 512, "num_experts": 256}
        | {"num_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 1, "n_group": 8}
        | {"topk_group": 4, "use_qk_norm": True, "partial_rotary_factor": 0.5, "moe_router_enable_expert_bias": True}
        | {"use_bias": False, "use_qkv_bias": False, "score_function": "sigmoid", "router_dtype": "fp32"},
        16_255_638_528,  # 16.26 G with the routers' biases, 19 x 256, which are buffers here
    ),
}
"""As its publisher wrote it, the keys that change a count and those beside them -> parameters."""

ALIKE = {"aquila", "xverse"}
"""Read as another type is, every key."""


def write(folder: Path, config: dict[str, Any]) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_file_has_the_published_parameters(name: str, tmp_path: Path) -> None:
    config, expected = PUBLISHED[name]
    assert parameters(model_from_config(write(tmp_path, config))).total == expected


def test_every_type_is_tried() -> None:
    assert {config["model_type"] for config, _ in PUBLISHED.values()} | ALIKE == set(READERS_OF_OWN_CODE)


def test_what_they_share_with_the_model_that_they_are_like(tmp_path: Path) -> None:
    read = {name: model_from_config(write(tmp_path, config)) for name, (config, _) in PUBLISHED.items()}
    assert (read["baichuan-inc/Baichuan2-7B-Base"].positions, read["baichuan-inc/Baichuan2-13B-Base"].positions) == (
        "rope",
        "alibi",
    )
    assert read["zai-org/chatglm3-6b"].kv_heads == 2
    assert read["zai-org/chatglm3-6b"].attention.rope_fraction == 0.5
    assert read["XiaomiMiMo/MiMo-7B-Base"].mtp_layers == 1
    assert parameters(read["inclusionAI/Ling-mini-2.0"]).active == pytest.approx(1.4e9, rel=0.05)  # A1.4B, its name
    assert load_model(write(tmp_path, PUBLISHED["Qwen/Qwen-7B"][0])).d_ff == 11008


MOONLIGHT = {"first_k_dense_replace": 1, "kv_lora_rank": 512, "moe_intermediate_size": 1408, "n_routed_experts": 64}
MOONLIGHT |= {"n_shared_experts": 2, "num_experts_per_tok": 6, "num_key_value_heads": 16, "q_lora_rank": None}
MOONLIGHT |= {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_group": 1, "topk_group": 1}
MOONLIGHT |= {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "max_position_embeddings": 131072}
QWEN = shaped("qwen2", "Qwen2ForCausalLM", 3584, 18944, 28, 28, 152064) | {"num_key_value_heads": 4, "top_k": 50}
IMAGES = {"vision_config": {"hidden_size": 1152}, "force_image_size": 448, "use_thumbnail": True, "select_layer": -1}

WITHIN: dict[str, tuple[dict[str, Any], int]] = {
    "kimi_vl": (
        {"text_config": shaped("deepseek_v3", "DeepseekV3ForCausalLM", 2048, 11264, 27, 16, 163840) | MOONLIGHT},
        15_960_108_544,  # Moonlight's 16 G, its text model
    ),
    "internvl_chat": ({"llm_config": QWEN}, 7_615_616_512),  # Qwen 2.5 7B's, the catalogue's qwen2.5-7b
    "ovis": ({"llm_config": QWEN}, 7_615_616_512),
    "ovis2_5": ({"llm_config": QWEN}, 7_615_616_512),
    "dots_vlm": (shaped("", "DotsVLMForCausalLM", 2048, 11264, 27, 16, 163840) | MOONLIGHT, 15_960_108_544),
}
"""Of a type that also reads images -> keys that hold its text model (from memory of its files), and parameters."""


@pytest.mark.parametrize("kind", TEXT_WITHIN)
def test_of_code_that_reads_images_the_text_model_is_counted_and_that_is_said(kind: str, tmp_path: Path) -> None:
    keys, expected = WITHIN[kind]
    more = {"vision_config": IMAGES["vision_config"]} if kind == "dots_vlm" else IMAGES
    spec = load_model(write(tmp_path, CODE | keys | more | {"model_type": kind}))
    assert parameters(spec).total == expected
    assert "Text model alone: the vision tower and its projector are not counted." in spec.notes


def test_a_text_model_that_no_reader_knows_is_to_be_given_alone(tmp_path: Path) -> None:
    held = {"model_type": "internvl_chat", "llm_config": {"model_type": "qwen3_next"}}
    with pytest.raises(SpecError, match=r"is of model_type 'qwen3_next'.*save the table 'llm_config' as a config.json"):
        load_model(write(tmp_path, held))


def test_a_file_from_before_transformers_had_its_class_is_told_in_its_words() -> None:
    old = {"model_type": "minimax_text_01", "architectures": ["MiniMaxText01ForCausalLM"], "attn_type_list": [0, 1, 0]}
    assert in_words_of_transformers(old | {"hidden_size": 6144}) == {
        "model_type": "minimax",
        "architectures": ["MiniMaxForCausalLM"],
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "hidden_size": 6144,
    }
    assert in_words_of_transformers({"model_type": "llama"}) == {"model_type": "llama"}


def test_the_first_chatglm_is_another_model(tmp_path: Path) -> None:
    old = {"model_type": "chatglm", "hidden_size": 4096, "inner_hidden_size": 16384, "num_attention_heads": 32}
    with pytest.raises(SpecError, match="missing"):
        model_from_config(write(tmp_path, CODE | old | {"num_layers": 28, "vocab_size": 130528}))
