"""How do configurations read whose code comes with the model, and which transformers has not? InternLM, Baichuan, ...

Each is a shape that is known under another name; ``tests/specs/huggingface/test_own_code.py`` has what is published.
"""

from __future__ import annotations

from collections.abc import Callable

from hwprof.specs.huggingface.config import Config, Tables
from hwprof.specs.huggingface.decoders import llama, rms_decoder
from hwprof.specs.huggingface.mixtures import deepseek_experts
from hwprof.specs.huggingface.parts import MOST_LAYERS, dropout, language_head, merged, rotary, widths


def internlm(config: Config) -> Tables:
    """InternLM 1 and 2: LLaMA; the second has query, key and value in one matrix, which costs the same."""
    config.harmless("rotary")
    return rms_decoder(config, attention_bias="all" if config.flag("bias", default=False) else "none")


def mimo(config: Config) -> Tables:
    """MiMo: Qwen 2 with a layer that predicts a further token."""
    config.only("use_sliding_window", False)
    config.harmless("sliding_window", "max_window_layers", "use_mrope")
    biased = config.flag("attention_bias", default=True)
    further = config.integer("num_nextn_predict_layers", default=0, least=0)
    tables = rms_decoder(config, widths(config, kv_heads=32), attention_bias="qkv" if biased else "none")
    return merged(tables, {"mtp_layers": further} if further else {})


def minicpm(config: Config) -> Tables:
    """MiniCPM 1 and 2: LLaMA with scaled vectors, residuals and logits, the head tied."""
    config.harmless("scale_emb", "scale_depth", "dim_model_base", "rope_type", "mup_denominator")
    return merged(llama(config), {"tied_embeddings": config.flag("tie_word_embeddings", default=True)})


def baichuan(config: Config) -> Tables:
    """Baichuan 1 and 2: LLaMA; the larger ones say how long they are in other words, and have ALiBi."""
    config.harmless("z_loss_weight", "z_loss_coeff")
    turned = config.value("max_position_embeddings") is not None
    longest = {"max_seq_len": config.integer("max_position_embeddings", "model_max_length", default=4096)}
    tables = merged(llama(config), longest)
    return tables if turned else merged(tables, {"positions": "alibi"})


def orion(config: Config) -> Tables:
    """Orion: LLaMA with layer norms."""
    return merged(llama(config), {"norm": "layernorm"})


def qwen(config: Config) -> Tables:
    """The first Qwen: biases on query, key and value; both halves of the network are said as one width."""
    config.only("no_bias", True)
    config.harmless("seq_length", "use_dynamic_ntk", "use_logn_attn", "use_flash_attn", "softmax_in_fp32", "fp32")
    config.harmless("scale_attn_weights", "use_cache_kernel", "use_cache_quantization", "bf16", "fp16")
    heads = config.integer("num_attention_heads")
    sizes = widths(config) | {"head_dim": config.integer("kv_channels", default=128)}
    sizes |= {"d_ff": config.integer("intermediate_size") // 2}
    sizes |= {"max_seq_len": config.integer("seq_length", "max_position_embeddings", default=8192)}
    if sizes["head_dim"] * heads != sizes["d_model"]:
        config.fail(
            f"{heads} heads of {sizes['head_dim']} are not {sizes['d_model']} wide", expectation="expected that"
        )
    tables = rms_decoder(config, sizes, attention_bias="qkv")
    rates = dropout(config, "emb_dropout_prob", "attn_dropout_prob")
    return merged(tables, rotary(config, fraction=config.number("rotary_pct", default=1.0)), rates)


def chatglm(config: Config) -> Tables:
    """ChatGLM 2 and 3, GLM 4 of June 2024: few key heads, biases on query, key and value, half of a head turned."""
    config.only("multi_query_attention", True)
    config.only("add_bias_linear", False)
    config.only("rmsnorm", True)
    config.only("post_layer_norm", True)
    config.only("apply_residual_connection_post_layernorm", False)
    config.only("original_rope", True)
    config.harmless("apply_query_key_layer_scaling", "bias_dropout_fusion", "fp32_residual_connection", "rope_ratio")
    config.harmless(
        "layernorm_epsilon", "quantization_bit", "pre_seq_len", "prefix_projection", "interleaved_qkv", "use_lora"
    )
    d_model, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    return merged(
        {
            "kind": "decoder",
            "layers": config.integer("num_layers", most=MOST_LAYERS),
            "d_model": d_model,
            "d_ff": config.integer("ffn_hidden_size"),
            "heads": heads,
            "kv_heads": config.integer("multi_query_group_num"),
            "head_dim": config.integer("kv_channels", default=d_model // heads),
            "vocab_size": config.integer("padded_vocab_size", "vocab_size"),
            "max_seq_len": config.integer("seq_length", default=2048),
            "activation": "silu",
            "gated": True,
            "norm": "rmsnorm",
            "norm_placement": "pre",
            "final_norm": True,
            "tied_embeddings": config.flag("tie_word_embeddings", default=False),
            "attention_bias": "qkv" if config.flag("add_qkv_bias", default=False) else "none",
            "mlp_bias": False,
        },
        rotary(config, fraction=0.5),
        dropout(config, "hidden_dropout", "attention_dropout"),
        _chat_head(config),
    )


def _chat_head(config: Config) -> Tables:
    """The files name ``ChatGLMModel``, which their ``auto_map`` makes the language model."""
    if (config.items("architectures") or []) in (["ChatGLMModel"], ["ChatGLMForConditionalGeneration"]):
        return {}
    return language_head(config)


def deepseek(config: Config) -> Tables:
    """DeepSeekMoE: LLaMA with shared and routed experts after a dense layer."""
    config.harmless("norm_topk_prob")
    config.only("scoring_func", "softmax")
    config.only("moe_layer_freq", 1)
    return merged(llama(config), {"moe": deepseek_experts(config, dense=0, shared=0)})


def bailing(config: Config) -> Tables:
    """Ling and Ring: experts as DeepSeek has them; the second generation has norms of queries and keys."""
    for name in ("use_bias", "use_qkv_bias", "use_sliding_window"):
        config.only(name, False)
    config.harmless("norm_head", "norm_softmax", "norm_topk_prob", "max_window_layers", "sliding_window")
    config.harmless("router_dtype", "score_function", "routed_scaling_factor", "use_rmsnorm", "rotary_dim")
    config.harmless("num_nextn_predict_layers", "mtp_loss_scaling_factor", "topk_method")
    config.harmless("moe_shared_expert_intermediate_size")
    normed: Tables = {"attention": {"qk_norm": "head"}} if config.flag("use_qk_norm", default=False) else {}
    learned = config.flag("moe_router_enable_expert_bias", default=False)
    tables = merged(rms_decoder(config), dropout(config, "output_dropout", "embedding_dropout"), normed)
    moe = deepseek_experts(config, dense=0, shared=0) | ({"router_bias": "buffer"} if learned else {})
    return merged(tables, {"moe": moe})


def in_words_of_transformers(values: Tables) -> Tables:
    """A configuration of a model whose code came before transformers' own, as that would write it; others unchanged.

    MiniMax-Text-01 lists 0 for a layer of linear attention, and 1 for one that sees all (its own code); the file of
    MiniMax-Text-01-hf is the same model under ``minimax``.
    """
    if values.get("model_type") != "minimax_text_01":
        return values
    kinds = ("linear_attention", "full_attention")
    listed = values.get("attn_type_list") or []
    layers = {"layer_types": [kinds[bool(kind)] for kind in listed]} if listed else {}
    named = [str(name).replace("MiniMaxText01", "MiniMax") for name in values.get("architectures") or []]
    rest = {key: value for key, value in values.items() if key not in {"attn_type_list", "architectures"}}
    return rest | layers | {"model_type": "minimax"} | ({"architectures": named} if named else {})


READERS_OF_OWN_CODE: dict[str, Callable[[Config], Tables]] = {
    "aquila": llama,
    "baichuan": baichuan,
    "bailing_moe": bailing,
    "bailing_moe_v2": bailing,
    "chatglm": chatglm,
    "deepseek": deepseek,
    "internlm": internlm,
    "internlm2": internlm,
    "mimo": mimo,
    "minicpm": minicpm,
    "orion": orion,
    "qwen": qwen,
    "skywork": llama,
    "xverse": llama,
}
"""``model_type`` -> what reads its configuration."""
