"""Parameters and FLOP of every family against transformers' own modules: equal, forward and backward.

Small modules run for real on the CPU, with eager attention, under torch's ``FlopCounterMode`` (the math of routing
tokens to experts depends on data, so meta tensors would not do). The configuration goes the way of a user's: it is
saved as ``config.json`` and imported from there.

Nothing is left out of the witness's count but what modules called ``rotary_emb`` do: older versions of transformers
write the table of angles as a matrix product of frequencies and positions; that is no linear layer and no attention.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_transformers import (
    DECODER,
    MLA,
    MOE,
    NARROW_MOE,
    OWN_HEADS,
    SIDES,
    T5,
    TOKENS,
    WITHOUT_WIDTH,
    multiplied,
    small_transformer,
)
from step_flop import step_flop
from torch import nn

from hwprof.count.blocks.parameters import parameters
from hwprof.count.memory.step import training_memory
from hwprof.specs.huggingface import KNOWN_TYPES, model_from_config
from hwprof.specs.huggingface.families import TEXT_WITHIN
from hwprof.specs.huggingface.own_code import READERS_OF_OWN_CODE
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import RunSettings

BATCH, TARGET_LEN, SOURCE_LEN, MEL_BINS, IMAGE = 2, 16, 24, 8, 16

ROPE = {"rope_type": "default", "rope_theta": 1e4}
DISTIL: dict[str, Any] = {"vocab_size": 61, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 80}
DISTIL |= {"max_position_embeddings": 64, "pad_token_id": 0}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", DECODER | {"attention_bias": True, "mlp_bias": True, "head_dim": 16}),
    "llama, tied": ("llama", DECODER | {"tie_word_embeddings": True}),
    "mistral": ("mistral", DECODER | {"sliding_window": 8, "head_dim": 8}),
    "qwen2": ("qwen2", DECODER | {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "qwen3": ("qwen3", DECODER | {"head_dim": 16}),
    "gemma": ("gemma", DECODER | {"head_dim": 16}),
    "gemma2": ("gemma2", DECODER | {"head_dim": 16, "sliding_window": 8}),
    "gemma3": ("gemma3_text", DECODER | {"head_dim": 16, "sliding_window": 8, "num_hidden_layers": 7}),
    "phi": ("phi", DECODER | {"qk_layernorm": True}),
    "phi3": ("phi3", DECODER | {"sliding_window": 8, "partial_rotary_factor": 0.5}),
    "gpt2": ("gpt2", {"vocab_size": 61, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_inner": 80}),
    "opt": ("opt", WITHOUT_WIDTH | {"ffn_dim": 80}),
    "opt, narrow": ("opt", WITHOUT_WIDTH | {"ffn_dim": 80, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "bloom": ("bloom", {"vocab_size": 61, "hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "gpt-neox": ("gpt_neox", OWN_HEADS),
    "gpt-neox, in sequence": ("gpt_neox", OWN_HEADS | {"use_parallel_residual": False, "attention_bias": False}),
    "falcon, one norm": ("falcon", WITHOUT_WIDTH | {"num_kv_heads": 4}),
    "falcon, two norms": ("falcon", WITHOUT_WIDTH | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon, in sequence": (
        "falcon",
        WITHOUT_WIDTH | {"parallel_attn": False, "multi_query": False, "alibi": True, "bias": True, "num_kv_heads": 4},
    ),
    "mpt": ("mpt", {"vocab_size": 61, "d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 64}),
    "olmo": ("olmo", DECODER | {"attention_bias": True, "clip_qkv": 8.0}),
    "olmo2": ("olmo2", DECODER),
    "olmo3": ("olmo3", DECODER | {"num_hidden_layers": 5, "sliding_window": 8}),
    "granite": ("granite", DECODER),
    "smollm3": ("smollm3", DECODER | {"num_hidden_layers": 5}),
    "olmoe": ("olmoe", MOE | {"num_experts": 4}),
    "mixtral": ("mixtral", MOE | {"num_local_experts": 4}),
    "qwen2-moe": (
        "qwen2_moe",
        NARROW_MOE | {"num_experts": 4, "shared_expert_intermediate_size": 40, "mlp_only_layers": [0]},
    ),
    "qwen3-moe": ("qwen3_moe", NARROW_MOE | {"num_experts": 4, "decoder_sparse_step": 2, "head_dim": 16}),
    "gpt-oss": ("gpt_oss", MOE | {"num_local_experts": 4, "head_dim": 16, "sliding_window": 8}),
    "llama4, every expert chosen": (  # transformers runs all experts on all tokens, with weight 0 for most
        "llama4_text",
        MOE
        | {"num_local_experts": 2, "intermediate_size": 24, "intermediate_size_mlp": 40, "num_hidden_layers": 5}
        | {"interleave_moe_layer_step": 2, "attention_chunk_size": 8, "head_dim": 8},
    ),
    "dbrx": (
        "dbrx",
        {"vocab_size": 61, "d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 64}
        | {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0}}
        | {"ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32}},
    ),
    "deepseek-v2": ("deepseek_v2", MLA | {"q_lora_rank": None, "n_shared_experts": 2}),
    "deepseek-v3, kimi-k2": (
        "deepseek_v3",
        MLA | {"q_lora_rank": 12, "n_shared_experts": 1, "attention_bias": True},
    ),
    "glm-4.5": (
        "glm4_moe",
        NARROW_MOE
        | {"first_k_dense_replace": 1, "n_routed_experts": 4, "n_shared_experts": 1, "head_dim": 16}
        | {"use_qk_norm": True, "attention_bias": True},
    ),
    "arcee": ("arcee", DECODER | {"head_dim": 16, "attention_bias": True}),
    "ministral": ("ministral", DECODER | {"sliding_window": 8, "head_dim": 8, "rope_parameters": ROPE}),
    "ernie-4.5": ("ernie4_5", DECODER | {"head_dim": 16, "use_bias": True}),
    "seed-oss": ("seed_oss", DECODER | {"head_dim": 16}),
    "hunyuan": ("hunyuan_v1_dense", DECODER | {"head_dim": 8, "rope_parameters": ROPE}),
    "glm-4": ("glm", DECODER | {"head_dim": 16}),
    "glm-4-0414": ("glm4", DECODER | {"head_dim": 16}),
    "exaone-4": ("exaone4", DECODER | {"num_hidden_layers": 5, "sliding_window": 8}),
    "exaone-4, all of it": ("exaone4", DECODER | {"sliding_window": None, "layer_types": ["full_attention"] * 3}),
    "command-r": ("cohere", DECODER),
    "command-r7b": ("cohere2", DECODER | {"num_hidden_layers": 5, "sliding_window": 8, "attention_bias": True}),
    "nemotron": ("nemotron", DECODER | {"head_dim": 16, "attention_bias": True}),
    "starcoder2": ("starcoder2", DECODER | {"sliding_window": 8}),
    "stablelm": ("stablelm", DECODER | {"use_qkv_bias": True}),
    "stablelm, side by side": ("stablelm", DECODER | {"use_parallel_residual": True}),
    "starcoder": ("gpt_bigcode", {"vocab_size": 61, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}),
    "gpt-j": ("gptj", {"vocab_size": 61, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, "rotary_dim": 4}),
    "codegen": (
        "codegen",
        {"vocab_size": 61, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, "rotary_dim": 4},
    ),
    "ernie-4.5-moe": (
        "ernie4_5_moe",
        DECODER | {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24, "moe_layer_end_index": 2},
    ),
    "granite-moe": ("granitemoe", MOE | {"num_local_experts": 4}),
    "hunyuan-moe": (
        "hunyuan_v1_moe",
        DECODER | {"num_experts": 4, "moe_topk": 2, "head_dim": 8, "rope_parameters": ROPE},
    ),
    "minimax-m2": ("minimax_m2", MOE | {"num_local_experts": 4, "head_dim": 16}),
    "phi-3.5-moe": ("phimoe", MOE | {"num_local_experts": 4, "attention_bias": True, "lm_head_bias": True}),
    "dots1": (
        "dots1",
        NARROW_MOE | {"first_k_dense_replace": 1, "n_routed_experts": 4, "n_shared_experts": 1, "head_dim": 16},
    ),
    "scores of a sequence": ("llama", DECODER | {"architectures": ["LlamaForSequenceClassification"], "num_labels": 1}),
    "scores of tokens": ("qwen2", DECODER | {"architectures": ["Qwen2ForTokenClassification"], "num_labels": 5}),
    "spans of answers": ("llama", DECODER | {"architectures": ["LlamaForQuestionAnswering"]}),
    "scores, gpt2": (
        "gpt2",
        {"vocab_size": 61, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, "pad_token_id": 0}
        | {"architectures": ["GPT2ForSequenceClassification"], "num_labels": 3},
    ),
    "bert": ("bert", OWN_HEADS | {"architectures": ["BertForMaskedLM"]}),
    "bert, base": ("bert", OWN_HEADS | {"architectures": ["BertModel"]}),
    "bert, classes": ("bert", OWN_HEADS | {"architectures": ["BertForSequenceClassification"], "num_labels": 5}),
    "bert, tokens": ("bert", OWN_HEADS | {"architectures": ["BertForTokenClassification"], "num_labels": 5}),
    "bert, answers": ("bert", OWN_HEADS | {"architectures": ["BertForQuestionAnswering"]}),
    "roberta, classes": ("roberta", OWN_HEADS | {"architectures": ["RobertaForSequenceClassification"]}),
    "xlm-roberta": ("xlm-roberta", OWN_HEADS | {"architectures": ["XLMRobertaForMaskedLM"]}),
    "camembert": ("camembert", OWN_HEADS | {"architectures": ["CamembertForTokenClassification"], "num_labels": 5}),
    "distilbert": ("distilbert", DISTIL | {"architectures": ["DistilBertForMaskedLM"]}),
    "distilbert, classes": ("distilbert", DISTIL | {"architectures": ["DistilBertForSequenceClassification"]}),
    "distilbert, answers": ("distilbert", DISTIL | {"architectures": ["DistilBertForQuestionAnswering"]}),
    "roberta": ("roberta", OWN_HEADS | {"architectures": ["RobertaForMaskedLM"]}),
    "vit": (
        "vit",
        {"hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4}
        | {"image_size": IMAGE, "patch_size": 4, "num_labels": 5, "architectures": ["ViTForImageClassification"]},
    ),
    "t5": ("t5", T5 | {"architectures": ["T5ForConditionalGeneration"]}),
    "t5, gated by its own key": ("t5", T5 | {"is_gated_act": True, "architectures": ["T5ForConditionalGeneration"]}),
    "t5, not gated by its own key": (
        "t5",
        T5
        | {"feed_forward_proj": "gated-gelu", "is_gated_act": False}
        | {"architectures": ["T5ForConditionalGeneration"]},
    ),
    "t5 1.1": (
        "t5",
        T5
        | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
        | {"architectures": ["T5ForConditionalGeneration"]},
    ),
    "mt5": ("mt5", T5 | {"architectures": ["MT5ForConditionalGeneration"]}),
    "bart": (
        "bart",
        SIDES | {"encoder_attention_heads": 2, "architectures": ["BartForConditionalGeneration"]},
    ),
    "mbart": ("mbart", SIDES | {"encoder_attention_heads": 4, "architectures": ["MBartForConditionalGeneration"]}),
    "m2m-100": (
        "m2m_100",
        SIDES | TOKENS | {"encoder_attention_heads": 4, "architectures": ["M2M100ForConditionalGeneration"]},
    ),
    "pegasus": (
        "pegasus",
        SIDES
        | TOKENS
        | {"encoder_attention_heads": 4, "max_position_embeddings": 64, "forced_eos_token_id": 2}
        | {"architectures": ["PegasusForConditionalGeneration"]},
    ),
    "blenderbot": (
        "blenderbot",
        SIDES
        | TOKENS
        | {"encoder_attention_heads": 4, "max_position_embeddings": 64, "forced_eos_token_id": 2}
        | {"architectures": ["BlenderbotForConditionalGeneration"]},
    ),
    "the original transformer": (
        "marian",
        SIDES
        | TOKENS
        | {"encoder_attention_heads": 4, "max_position_embeddings": 64, "activation_function": "relu"}
        | {"decoder_start_token_id": 0, "forced_eos_token_id": 2, "architectures": ["MarianMTModel"]},
    ),
    "whisper": (
        "whisper",
        SIDES
        | TOKENS
        | {"encoder_attention_heads": 4, "num_mel_bins": MEL_BINS, "max_source_positions": SOURCE_LEN}
        | {"max_target_positions": 64, "architectures": ["WhisperForConditionalGeneration"]},
    ),
}


@pytest.fixture(autouse=True)
def _quietly() -> Iterator[None]:
    """What transformers warns of is its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, ModelSpec]:
    """A small module of a family, and the model that its saved configuration is imported as."""
    kind, keys = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp("model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = small_transformer(kind, keys)
        module.config.save_pretrained(folder)
    return module, model_from_config(folder / "config.json")


def _run(module: Any, spec: ModelSpec) -> torch.Tensor:
    target = torch.randint(3, 60, (BATCH, TARGET_LEN))
    inputs: dict[str, Any] = {"input_ids": target}
    if spec.vision:
        inputs = {"pixel_values": torch.randn(BATCH, 3, IMAGE, IMAGE)}
    elif spec.encoder and spec.encoder.mel_bins:
        inputs = {"input_features": torch.randn(BATCH, MEL_BINS, 2 * SOURCE_LEN), "decoder_input_ids": target}
    elif spec.encoder:
        inputs = {"input_ids": torch.randint(3, 60, (BATCH, SOURCE_LEN)), "decoder_input_ids": target}
    if spec.causal:
        inputs["use_cache"] = False
    output = module(**inputs)
    if "start_logits" in output:
        return (output.start_logits + output.end_logits).sum()
    if spec.head.kind != "none":
        logits: torch.Tensor = output.logits
        return logits.sum()
    total: torch.Tensor = output.last_hidden_state.sum() + output.pooler_output.sum()
    return total


def _settings(spec: ModelSpec) -> RunSettings:
    sides = {"seq_len": SOURCE_LEN, "target_len": TARGET_LEN} if spec.encoder else {"seq_len": TARGET_LEN}
    return RunSettings(model=spec.name, device="cuda", micro_batch=BATCH, **sides)


def test_parameters_equal_those_of_the_module(pair: tuple[nn.Module, ModelSpec]) -> None:
    module, spec = pair
    assert parameters(spec).total == sum(weight.numel() for weight in module.parameters())


def test_forward_flop_equal_those_of_the_module(pair: tuple[nn.Module, ModelSpec]) -> None:
    module, spec = pair
    assert step_flop(spec, _settings(spec)).forward_full == multiplied(lambda: _run(module, spec))[0]


def test_training_flop_equal_those_of_the_module(pair: tuple[nn.Module, ModelSpec]) -> None:
    module, spec = pair
    assert step_flop(spec, _settings(spec)).train_full == multiplied(lambda: _run(module, spec).backward())[0]


def test_weights_of_ops_and_memory_are_those_of_the_module(pair: tuple[nn.Module, ModelSpec]) -> None:
    module, spec = pair
    weights = next(part for part in training_memory(spec, _settings(spec)).parts if part.name == "weights")
    assert weights.predicted_bytes == 4 * sum(weight.numel() for weight in module.parameters())


def test_every_type_that_can_be_imported_is_held_against_its_module() -> None:
    alike = {"kimi_k2", "gemma3", "llama4"}  # DeepSeek-V3's modules; the text models of two that read images
    assert {kind for kind, _ in FAMILIES.values()} | alike == set(KNOWN_TYPES) - set(READERS_OF_OWN_CODE) - set(
        TEXT_WITHIN
    )


def test_a_router_sends_each_token_to_top_k_experts_however_uneven(tmp_path: Path) -> None:
    module = small_transformer("mixtral", FAMILIES["mixtral"][1])
    module.config.save_pretrained(tmp_path)
    spec = model_from_config(tmp_path / "config.json")
    with torch.no_grad():
        for layer in module.model.layers:
            layer.mlp.gate.weight[2:] = -1e3 * layer.mlp.gate.weight[:1]  # two experts, or the other two
    assert step_flop(spec, _settings(spec)).train_full == multiplied(lambda: _run(module, spec).backward())[0]
