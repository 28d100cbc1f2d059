"""How do configurations of decoders with layer norms read? GPT-2, OPT, BLOOM, GPT-NeoX, Falcon, MPT, Phi."""

from __future__ import annotations

from typing import Any

from hwprof.specs.huggingface.config import Config, Tables
from hwprof.specs.huggingface.parts import activation, dropout, language_head, merged, rotary, widths


def _layernorm_decoder(config: Config, sizes: Tables, *, tied: bool, **fields: Any) -> Tables:
    common: Tables = {
        "kind": "decoder",
        "gated": False,
        "norm": "layernorm",
        "norm_placement": "pre",
        "final_norm": True,
        "tied_embeddings": config.flag("tie_word_embeddings", default=tied),
        "attention_bias": "all",
        "mlp_bias": True,
    }
    head = language_head(config)
    return merged(common, sizes, fields, head)


def _own_heads(sizes: Tables) -> Tables:
    """As many key and value heads as query heads, each d_model / heads wide."""
    return sizes | {"kv_heads": sizes["heads"], "head_dim": sizes["d_model"] // sizes["heads"]}


def gpt2(config: Config) -> Tables:
    """GPT-2."""
    config.only("add_cross_attention", False)
    config.harmless("n_ctx", "reorder_and_upcast_attn", "scale_attn_by_inverse_layer_idx", "scale_attn_weights")
    config.harmless("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type")
    config.harmless("summary_use_proj")
    d_model = config.integer("n_embd", "hidden_size")
    sizes = {
        "layers": config.integer("n_layer", "num_hidden_layers"),
        "d_model": d_model,
        "d_ff": config.integer("n_inner", default=4 * d_model),
        "heads": config.integer("n_head", "num_attention_heads"),
        "vocab_size": config.integer("vocab_size"),
        "max_seq_len": config.integer("n_positions", "max_position_embeddings", default=1024),
    }
    tables = _layernorm_decoder(config, _own_heads(sizes), tied=True, positions="learned")
    function = activation(config, "activation_function", default="gelu_new")
    return merged(
        tables, {"activation": function}, dropout(config, "resid_pdrop", "embd_pdrop", "attn_pdrop", default=0.1)
    )


def gpt_bigcode(config: Config) -> Tables:
    """StarCoder and SantaCoder: GPT-2 with one key and value head for all."""
    config.harmless("inference_runner", "validate_runner_input", "pre_allocate_kv_cache", "max_sequence_length")
    config.harmless(
        "num_key_value_heads", "max_batch_size", "scale_attention_softmax_in_fp32", "attention_softmax_in_fp32"
    )
    tables = gpt2(config)
    return merged(tables, {"kv_heads": 1}) if config.flag("multi_query", default=True) else tables


def gptj(config: Config) -> Tables:
    """GPT-J and CodeGen: one norm for both blocks, biases in the network and on the head."""
    config.harmless("scale_attn_weights", "n_ctx", "gradient_checkpointing")
    config.harmless("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type")
    config.harmless("summary_use_proj")
    d_model, heads = config.integer("n_embd", "hidden_size"), config.integer("n_head", "num_attention_heads")
    sizes = {
        "layers": config.integer("n_layer", "num_hidden_layers"),
        "d_model": d_model,
        "d_ff": config.integer("n_inner", default=4 * d_model),
        "heads": heads,
        "vocab_size": config.integer("vocab_size"),
        "max_seq_len": config.integer("n_positions", "max_position_embeddings", default=2048),
    }
    width = d_model // heads
    turned = width if config.is_null("rotary_dim") else config.integer("rotary_dim", default=64)
    tables = _layernorm_decoder(
        config,
        _own_heads(sizes),
        tied=False,
        activation=activation(config, "activation_function", default="gelu_new"),
        block="parallel_shared_norm",
        attention_bias="none",
        head_bias=True,
    )
    rates = dropout(config, "resid_pdrop", "embd_pdrop", "attn_pdrop")
    return merged(rotary(config, fraction=turned / width), tables, rates)


def opt(config: Config) -> Tables:
    """OPT; its 350m has narrow token vectors and norms after residual sums."""
    config.only("layerdrop", 0.0, 0)
    d_model, before = config.integer("hidden_size"), config.flag("do_layer_norm_before", default=True)
    size = config.integer("word_embed_proj_dim", default=d_model)
    biases = config.flag("enable_bias", default=True)
    affine = config.flag("layer_norm_elementwise_affine", default=True)
    no_final = config.flag("_remove_final_layer_norm", default=False)
    sizes = {
        "layers": config.integer("num_hidden_layers"),
        "d_model": d_model,
        "d_ff": config.integer("ffn_dim"),
        "heads": config.integer("num_attention_heads"),
        "vocab_size": config.integer("vocab_size"),
        "max_seq_len": config.integer("max_position_embeddings", default=2048),
    }
    tables = _layernorm_decoder(
        config,
        _own_heads(sizes),
        tied=True,
        activation=activation(config, "activation_function", default="relu"),
        norm_placement="pre" if before else "post",
        norm_weights="all" if affine else "none",
        final_norm=before and not no_final,
        positions="learned",
        attention_bias="all" if biases else "none",
        mlp_bias=biases,
        embedding={"extra_positions": 2} | ({"size": size} if size != d_model else {}),
    )
    if size != d_model and "head" in tables:
        config.fail("narrow token vectors without a head", expectation="OPT's own class, which widens them twice")
    return merged(tables, dropout(config, "dropout", "attention_dropout", "activation_dropout", default=0.1))


def bloom(config: Config) -> Tables:
    """BLOOM."""
    config.only("apply_residual_connection_post_layernorm", False)
    config.harmless(
        "slow_but_exact", "masked_softmax_fusion", "skip_bias_add", "skip_bias_add_qkv", "bias_dropout_fusion"
    )
    config.harmless("unk_token_id", "offset_alibi", "n_inner")
    d_model = config.integer("hidden_size", "n_embed")
    sizes = {
        "layers": config.integer("n_layer", "num_hidden_layers"),
        "d_model": d_model,
        "d_ff": 4 * d_model,
        "heads": config.integer("n_head", "num_attention_heads"),
        "vocab_size": config.integer("vocab_size"),
        "max_seq_len": config.integer("seq_length", default=2048),
    }
    tables = _layernorm_decoder(
        config, _own_heads(sizes), tied=True, activation="gelu", positions="alibi", embedding={"norm": True}
    )
    return merged(tables, dropout(config, "hidden_dropout", "attention_dropout"))


def gpt_neox(config: Config) -> Tables:
    """GPT-NeoX and Pythia."""
    config.harmless("is_decoder")
    parallel = config.flag("use_parallel_residual", default=True)
    tables = _layernorm_decoder(
        config,
        widths(config),
        tied=False,
        activation=activation(config, "hidden_act", default="gelu"),
        block="parallel" if parallel else "sequential",
        attention_bias="all" if config.flag("attention_bias", default=True) else "none",
    )
    return merged(tables, rotary(config, fraction=0.25), dropout(config, "hidden_dropout", "attention_dropout"))


def falcon(config: Config) -> Tables:
    """Falcon: one norm a layer (7B), two (40B, 180B), or blocks in sequence (RW)."""
    config.harmless("rotary", "n_ctx")
    d_model, heads = config.integer("hidden_size"), config.integer("num_attention_heads", "n_head")
    new = config.flag("new_decoder_architecture", default=False)
    biases = config.flag("bias", default=False)
    sizes = {
        "layers": config.integer("num_hidden_layers", "n_layer"),
        "d_model": d_model,
        "d_ff": config.integer("ffn_hidden_size", default=4 * d_model),
        "heads": heads,
        "kv_heads": _falcon_kv_heads(config, heads, new=new),
        "head_dim": d_model // heads,
        "vocab_size": config.integer("vocab_size"),
        "max_seq_len": config.integer("max_position_embeddings", default=2048),
    }
    tables = _layernorm_decoder(
        config,
        sizes,
        tied=True,
        activation=activation(config, "activation", default="gelu"),
        block=_falcon_block(config, new=new),
        attention_bias="all" if biases else "none",
        mlp_bias=biases,
    )
    positions = {"positions": "alibi"} if config.flag("alibi", default=False) else {}
    return merged(tables, rotary(config), positions, dropout(config, "hidden_dropout", "attention_dropout"))


def _falcon_kv_heads(config: Config, heads: int, *, new: bool) -> int:
    several = config.integer("num_kv_heads", "n_head_kv", default=heads)
    one = config.flag("multi_query", default=True)
    return 1 if one and not new else several


def _falcon_block(config: Config, *, new: bool) -> str:
    norms = config.integer("num_ln_in_parallel_attn", default=2)
    if not config.flag("parallel_attn", default=True):
        return "sequential"
    return "parallel" if new and norms == 2 else "parallel_shared_norm"


def mpt(config: Config) -> Tables:
    """MPT, as transformers runs it: positions by distance, no biases."""
    attention = config.table("attn_config")
    for name, value in (("alibi", True), ("qk_ln", False), ("prefix_lm", False), ("attn_type", "multihead_attention")):
        attention.only(name, value)
    attention.harmless("alibi_bias_max", "attn_impl", "attn_uses_sequence_id", "clip_qkv", "softmax_scale")
    attention.finish()
    config.only("no_bias", True)
    config.only("expansion_ratio", 4)
    config.only("norm_type", "low_precision_layernorm")
    config.harmless("learned_pos_emb", "init_config", "init_device", "logit_scale", "embedding_fraction", "verbose")
    d_model = config.integer("d_model", "hidden_size")
    sizes = {
        "layers": config.integer("n_layers", "num_hidden_layers"),
        "d_model": d_model,
        "d_ff": 4 * d_model,
        "heads": config.integer("n_heads", "num_attention_heads"),
        "vocab_size": config.integer("vocab_size"),
        "max_seq_len": config.integer("max_seq_len", default=2048),
    }
    tables = _layernorm_decoder(
        config,
        _own_heads(sizes),
        tied=True,
        activation="gelu",
        norm_weights="gain",
        positions="alibi",
        attention_bias="none",
        mlp_bias=False,
    )
    return merged(tables, dropout(config, "resid_pdrop", "emb_pdrop"))


def phi(config: Config) -> Tables:
    """Phi 1 to 2: one norm for both blocks, biases throughout, also on the head."""
    qk_norm = {"attention": {"qk_norm": "head"}} if config.flag("qk_layernorm", default=False) else {}
    tables = _layernorm_decoder(
        config,
        widths(config),
        tied=False,
        activation=activation(config, "hidden_act", default="gelu_new"),
        block="parallel_shared_norm",
        head_bias=True,
    )
    rates = dropout(config, "resid_pdrop", "embd_pdrop", "attention_dropout")
    return merged(tables, rotary(config, fraction=0.5), qk_norm, rates)
