"""How do configurations of decoders with experts read? Mixtral, Qwen, gpt-oss, Llama 4, DBRX, GLM, DeepSeek, Kimi."""

from __future__ import annotations

from hwprof.specs.huggingface.config import Config, Tables
from hwprof.specs.huggingface.decoders import biased, qwen_window, rms_decoder
from hwprof.specs.huggingface.parts import (
    MOST_LAYERS,
    activation,
    expert_layers,
    language_head,
    merged,
    rotary,
    widths,
    window,
)
from hwprof.specs.huggingface.recent_decoders import ernie_biases


def mixtral(config: Config) -> Tables:
    """Mixtral."""
    config.harmless("router_jitter_noise")
    tables = rms_decoder(config, widths(config, kv_heads=8))
    tokens = config.optional_integer("sliding_window")
    local = window(config, tables["layers"], tokens=tokens, local=tables["layers"])
    return merged(tables, local, {"moe": _routed(config) | {"expert_ff": tables["d_ff"]}})


def _routed(config: Config) -> Tables:
    return {
        "experts": config.integer("num_local_experts", "num_experts", "n_routed_experts"),
        "top_k": config.integer("num_experts_per_tok"),
    }


def qwen2_moe(config: Config) -> Tables:
    """Qwen 1.5 and 2 with experts: a shared one behind a gate of its own."""
    bias = "qkv" if config.flag("qkv_bias", default=True) else "none"
    tables = rms_decoder(config, widths(config, kv_heads=16), attention_bias=bias)
    shared = {"shared_ff": config.integer("shared_expert_intermediate_size"), "shared_gate": True}
    return merged(tables, _qwen_experts(config, tables["layers"]), {"moe": shared})


def qwen3_moe(config: Config) -> Tables:
    """Qwen 3 with experts."""
    config.harmless(
        "use_qk_norm", "qkv_bias", "shared_expert_intermediate_size"
    )  # of older code; transformers has them not
    sizes = widths(config, kv_heads=4)
    tables = rms_decoder(config, sizes, attention_bias=biased(config), attention={"qk_norm": "head"})
    return merged(tables, _qwen_experts(config, tables["layers"]))


def _qwen_experts(config: Config, layers: int) -> Tables:
    config.harmless("norm_topk_prob")
    every = config.integer("decoder_sparse_step", default=1)
    dense = config.items("mlp_only_layers") or []
    chosen = [i for i in range(layers) if i not in dense and (i + 1) % every == 0]
    moe = (
        _routed(config) | {"expert_ff": config.integer("moe_intermediate_size")} | expert_layers(config, layers, chosen)
    )
    return merged(qwen_window(config, layers), {"moe": moe})


def olmoe(config: Config) -> Tables:
    """OLMoE."""
    config.harmless("norm_topk_prob", "clip_qkv")
    tables = rms_decoder(config, attention_bias=biased(config), attention={"qk_norm": "full"})
    return merged(tables, {"moe": _routed(config) | {"expert_ff": tables["d_ff"]}})


def gpt_oss(config: Config) -> Tables:
    """gpt-oss: biases everywhere, a learned logit a head, every second layer local."""
    config.harmless("experts_per_token", "swiglu_limit", "swiglu_alpha", "initial_context_length")
    sizes = widths(config, kv_heads=8, head_dim=64)
    tables = rms_decoder(config, sizes, attention_bias=biased(config, default=True), attention={"sinks": True})
    layers = tables["layers"]
    local = window(config, layers, tokens=config.optional_integer("sliding_window"), local=(layers + 1) // 2)
    moe = _routed(config) | {"expert_ff": tables["d_ff"], "expert_bias": True, "router_bias": "parameter"}
    return merged(tables, local, {"moe": moe})


def llama4_text(config: Config) -> Tables:
    """Llama 4's text model: a shared expert of the same width, chunks, layers without rotary positions."""
    config.harmless("router_jitter_noise", "attn_temperature_tuning", "attn_scale", "floor_scale", "for_llm_compressor")
    expert_ff, dense_ff = config.integer("intermediate_size"), config.integer("intermediate_size_mlp")
    layers = config.integer("num_hidden_layers", most=MOST_LAYERS)
    step = config.integer("interleave_moe_layer_step", default=1)
    listed = config.items("moe_layers")
    chosen = [int(i) for i in listed] if listed is not None else list(range(step - 1, layers, step))
    interval = config.integer("no_rope_layer_interval", default=4)
    turned = config.items("no_rope_layers")
    bare = turned.count(0) if turned else layers // interval
    unweighted = config.flag("use_qk_norm", default=True)
    tables = rms_decoder(
        config, widths(config, kv_heads=8, head_dim=128) | {"d_ff": dense_ff}, attention_bias=biased(config)
    )
    moe = _routed(config) | {"expert_ff": expert_ff, "shared_ff": expert_ff} | expert_layers(config, layers, chosen)
    attention: Tables = {"nope_layers": bare} | ({"qk_norm": "unweighted"} if unweighted else {})
    tokens = config.optional_integer("attention_chunk_size")
    local = window(config, layers, tokens=tokens, local=layers - bare)
    chunked = {"attention": {"window": {"kind": "chunked"}}} if local else {}
    return merged(tables, {"attention": attention, "moe": moe}, local, chunked)


def dbrx(config: Config) -> Tables:
    """DBRX: layer norms with gains alone."""
    attention, ffn = config.table("attn_config"), config.table("ffn_config")
    d_model, heads = config.integer("d_model"), config.integer("n_heads")
    function = ffn.table("ffn_act_fn")
    width = ffn.integer("ffn_hidden_size", default=3584)
    sizes = {
        "layers": config.integer("n_layers"),
        "d_model": d_model,
        "d_ff": width,
        "heads": heads,
        "kv_heads": attention.integer("kv_n_heads", default=1),
        "head_dim": d_model // heads,
        "vocab_size": config.integer("vocab_size"),
        "max_seq_len": config.integer("max_seq_len", default=2048),
    }
    moe = {
        "experts": ffn.integer("moe_num_experts", default=4),
        "top_k": ffn.integer("moe_top_k", default=1),
        "expert_ff": width,
    }
    attention.harmless("attn_pdrop", "clip_qkv", "rope_theta")
    ffn.harmless("moe_jitter_eps", "moe_loss_weight", "moe_normalize_expert_weights", "uniform_expert_assignment")
    ffn.harmless("hidden_size")
    config.harmless("resid_pdrop", "emb_pdrop", "num_key_value_heads")
    tables = rms_decoder(config, sizes, norm="layernorm", norm_weights="gain")
    tables["activation"] = activation(function, "name", default="silu")
    for table in (attention, ffn, function):
        table.finish()
    return merged(tables, {"moe": moe})


def glm4_moe(config: Config) -> Tables:
    """GLM 4.5: biases on query, key and value, dense first layers."""
    config.harmless("routed_scaling_factor", "norm_topk_prob")
    bias = "qkv" if config.flag("attention_bias", default=False) else "none"
    norms: Tables = {"attention": {"qk_norm": "head"}} if config.flag("use_qk_norm", default=False) else {}
    tables = merged(
        rms_decoder(config, widths(config, kv_heads=8), attention_bias=bias), rotary(config, fraction=0.5), norms
    )
    _note_of_further_predictions(config)
    return merged(tables, {"moe": deepseek_experts(config, dense=1, shared=1) | {"router_bias": "buffer"}})


def deepseek_v2(config: Config) -> Tables:
    """DeepSeek-V2."""
    config.only("topk_method", "greedy", "gready", "group_limited_greedy")
    return merged(_deepseek(config), {"moe": deepseek_experts(config, dense=0, shared=2)})


def deepseek_v3(config: Config) -> Tables:
    """DeepSeek-V3 and R1, Kimi K2: the router has a bias, which is no parameter in transformers."""
    config.only("topk_method", "noaux_tc")
    moe = deepseek_experts(config, dense=3, shared=1, groups=(8, 4)) | {"router_bias": "buffer"}
    return merged(_deepseek(config), {"moe": moe})


def dots1(config: Config) -> Tables:
    """dots.llm1: experts as DeepSeek has them, attention as Qwen 3."""
    sizes = widths(config, kv_heads=32)
    tables = rms_decoder(config, sizes, attention_bias=biased(config), attention={"qk_norm": "head"})
    layers = tables["layers"]
    first = config.integer("max_window_layers", default=62, least=0)
    local = window(config, layers, tokens=config.optional_integer("sliding_window"), local=max(0, layers - first))
    config.harmless("routed_scaling_factor", "norm_topk_prob", "topk_method", "moe_layer_freq")
    config.only("scoring_func", "sigmoid", "noaux_tc")
    moe = deepseek_experts(config, dense=0, shared=0) | {"router_bias": "buffer"}
    return merged(tables, local, {"moe": moe})


def ernie4_5_moe(config: Config) -> Tables:
    """ERNIE 4.5 with experts: shared ones, and a bias of the router among the parameters."""
    tables = rms_decoder(config, widths(config, kv_heads=4), **ernie_biases(config))
    if tables["mlp_bias"]:
        config.fail("key 'use_bias' is True", expectation="ERNIE's experts have no biases")
    config.harmless("moe_norm_min", "moe_use_aux_free", "moe_capacity", "moe_gate", "moe_layer_num")
    layers, width = tables["layers"], config.integer("moe_intermediate_size", default=1536)
    first, every = (
        config.integer("moe_layer_start_index", default=1, least=0),
        config.integer("moe_layer_interval", default=1),
    )
    held = config.value("moe_layer_end_index")
    last = layers - 1 if held in {None, -1} else config.integer("moe_layer_end_index")
    chosen = [i for i in range(layers) if (i + 1) % every == 0 and first <= i <= last]
    moe = {
        "experts": config.integer("moe_num_experts", default=64),
        "top_k": config.integer("moe_k", default=6),
        "expert_ff": width,
        "shared_ff": width * config.integer("moe_num_shared_experts", default=2, least=0),
        "router_bias": "parameter",
    }
    return merged(tables, {"moe": moe | expert_layers(config, layers, chosen)})


def granitemoe(config: Config) -> Tables:
    """Granite 3 with experts."""
    config.harmless("embedding_multiplier", "logits_scaling", "residual_multiplier", "attention_multiplier")
    tables = rms_decoder(config, attention_bias=biased(config))
    return merged(tables, {"moe": _routed(config) | {"expert_ff": tables["d_ff"]}})


def hunyuan_moe(config: Config) -> Tables:
    """Hunyuan with experts: a shared one as wide as each."""
    config.harmless("use_qk_norm", "use_rotary_pos_emb", "use_cla", "cla_share_factor", "norm_type", "mlp_hidden_act")
    config.harmless("use_mixed_mlp_moe", "capacity_factor", "moe_drop_tokens", "moe_random_routing_dropped_token")
    config.harmless("moe_layer_num_skipped", "norm_topk_prob", "group_limited_greedy", "moe_intermediate_size")
    config.harmless("num_shared_expert")
    tables = rms_decoder(config, attention_bias=biased(config), attention={"qk_norm": "head"})
    width = tables["d_ff"]
    chosen = config.value("moe_topk")
    if isinstance(chosen, list):
        if len(set(chosen)) != 1:
            config.fail("key 'moe_topk' differs between layers", expectation="expected one number for all")
        chosen = chosen[0]
    moe = {
        "experts": config.integer("num_experts"),
        "top_k": Config({"moe_topk": chosen}, path=config.path).integer("moe_topk", default=1),
        "expert_ff": width,
        "shared_ff": width,
    }
    return merged(tables, {"moe": moe})


def minimax_m2(config: Config) -> Tables:
    """MiniMax M2: norms of whole queries and keys; further predictions are not in transformers."""
    config.harmless("qk_norm_type", "scoring_func", "use_qk_norm", "use_routing_bias", "use_mtp", "num_mtp_modules")
    config.harmless("mtp_transformer_layers", "shared_intermediate_size", "attn_type_list", "router_jitter_noise")
    config.harmless("rms_norm_type", "layernorm_full_attention_beta", "layernorm_mlp_beta", "swa_rope_theta")
    sizes = widths(config, kv_heads=8, head_dim=128)
    tables = rms_decoder(config, sizes, attention={"qk_norm": "full"})
    turned = config.integer("rotary_dim", default=sizes["head_dim"]) / sizes["head_dim"]
    moe = _routed(config) | {"expert_ff": tables["d_ff"], "router_bias": "buffer"}
    return merged(tables, rotary(config, fraction=turned), {"moe": moe})


def phimoe(config: Config) -> Tables:
    """Phi 3.5 with experts: layer norms, biases in attention, a bias of the head."""
    config.harmless("router_jitter_noise", "input_jitter_noise", "hidden_dropout", "max_position_embeddings")
    config.only("num_experts_per_tok", 2)  # its router takes the best and the second, whatever the file says
    tables = rms_decoder(
        config,
        widths(config, kv_heads=8),
        norm="layernorm",
        attention_bias=biased(config),
        head_bias=config.flag("lm_head_bias", default=False),
    )
    local = window(config, tables["layers"], tokens=config.optional_integer("sliding_window"), local=tables["layers"])
    return merged(tables, local, {"moe": _routed(config) | {"expert_ff": tables["d_ff"]}})


def _deepseek(config: Config) -> Tables:
    config.harmless("routed_scaling_factor", "norm_topk_prob", "qk_head_dim", "head_dim")
    config.only("scoring_func", "softmax", "sigmoid")
    config.only("moe_layer_freq", 1)
    heads = config.integer("num_attention_heads")
    nope, rope = config.integer("qk_nope_head_dim", default=128), config.integer("qk_rope_head_dim", default=64)
    mla = {
        "q_lora_rank": config.integer("q_lora_rank", default=0 if config.is_null("q_lora_rank") else 1536, least=0),
        "kv_lora_rank": config.integer("kv_lora_rank", default=512),
        "nope_dim": nope,
        "rope_dim": rope,
        "value_dim": config.integer("v_head_dim", default=128),
    }
    sizes = widths(config) | {"kv_heads": heads, "head_dim": nope + rope}
    config.only("mlp_bias", False)
    _note_of_further_predictions(config)
    return merged(rms_decoder(config, sizes, attention_bias=biased(config)), {"mla": mla})


def deepseek_experts(config: Config, *, dense: int, shared: int, groups: tuple[int, int] = (1, 1)) -> Tables:
    """Experts of DeepSeek and GLM; first dense layers, shared experts and groups where the file does not say."""
    width = config.integer("moe_intermediate_size")
    number, most = (
        config.integer(name, default=_unless_null(config, name, least) or 1)
        for name, least in zip(("n_group", "topk_group"), groups, strict=True)
    )
    grouped = number > 1 and config.value("topk_method") not in {"greedy", "gready"}
    return {
        **({"groups": number, "top_groups": most} if grouped else {}),
        "experts": config.integer("n_routed_experts", "num_local_experts", "num_experts"),
        "top_k": config.integer("num_experts_per_tok"),
        "expert_ff": width,
        "shared_ff": width
        * config.integer(
            "n_shared_experts",
            "num_shared_experts",
            default=_unless_null(config, "n_shared_experts", shared),
            least=0,
        ),
        "dense_layers": config.integer("first_k_dense_replace", default=dense, least=0),
    }


def _unless_null(config: Config, name: str, default: int) -> int:
    return 0 if config.is_null(name) else default


def _note_of_further_predictions(config: Config) -> None:
    layers = config.integer("num_nextn_predict_layers", default=0, least=0)
    if layers:
        config.notes.append(
            f"The {layers} layer(s) for multi-token prediction are not counted, as in transformers; "
            f"mtp_layers = {layers} in a TOML file counts them."
        )


def multimodal(config: Config, text: Tables) -> Tables:
    """The text model of a model that also reads images, with a note of what is left out."""
    config.harmless("vision_config", "mm_tokens_per_image", "projector_hidden_act", "text_config", "vocab_size")
    config.notes.append(TEXT_ALONE)
    return merged(text, language_head(config))


TEXT_ALONE = "Text model alone: the vision tower and its projector are not counted."
"""What is said of a model that also reads images."""
