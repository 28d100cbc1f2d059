"""How do configurations of later dense decoders read? Arcee, Cohere, ERNIE, EXAONE, GLM, Hunyuan, Nemotron, ..."""

from __future__ import annotations

from typing import Any

from hwprof.specs.huggingface.config import Config, Tables
from hwprof.specs.huggingface.decoders import biased, llama, mistral, rms_decoder
from hwprof.specs.huggingface.parts import activation, dropout, merged, rotary, widths, window


def arcee(config: Config) -> Tables:
    """Arcee: LLaMA with a squared relu in place of the gate."""
    function = activation(config, "hidden_act", default="relu2")
    return merged(llama(config), {"gated": False, "activation": function})


def ministral(config: Config) -> Tables:
    """Ministral: Mistral with windows by layer."""
    return mistral(config)


def ernie4_5(config: Config) -> Tables:
    """ERNIE 4.5: biases throughout, or nowhere."""
    config.only("compression_ratio", 1.0)
    return rms_decoder(config, widths(config, kv_heads=2, head_dim=128), **ernie_biases(config))


def ernie_biases(config: Config) -> dict[str, Any]:
    """Biases and the tied head of ERNIE 4.5."""
    everywhere = config.flag("use_bias", default=False)
    tied = config.flag("tie_word_embeddings", default=True)
    return {"attention_bias": "all" if everywhere else "none", "mlp_bias": everywhere, "tied_embeddings": tied}


def seed_oss(config: Config) -> Tables:
    """Seed-OSS: biases on query, key and value, and one of its own on the output."""
    sides = config.flag("attention_bias", default=True), config.flag("attention_out_bias", default=False)
    known = {(False, False): "none", (True, False): "qkv", (True, True): "all"}
    if sides not in known:
        config.fail("key 'attention_out_bias' is True without 'attention_bias'", expectation="expected both or none")
    mlp_bias = config.flag("mlp_bias", default=False)
    sizes = widths(config, kv_heads=8, head_dim=128)
    rates = dropout(config, "residual_dropout", default=0.1)
    return merged(rms_decoder(config, sizes, attention_bias=known[sides], mlp_bias=mlp_bias), rates)


def hunyuan_dense(config: Config) -> Tables:
    """Hunyuan: LLaMA with norms of queries and keys."""
    config.harmless("use_qk_norm", "use_rotary_pos_emb", "use_cla", "cla_share_factor", "norm_type", "mlp_hidden_act")
    return rms_decoder(config, attention_bias=biased(config), attention={"qk_norm": "head"})


def glm(config: Config, *, placement: str = "pre") -> Tables:
    """GLM 4: half of a head's width is turned, biases on query, key and value."""
    bias = "qkv" if config.flag("attention_bias", default=True) else "none"
    sizes = widths(config, kv_heads=2, head_dim=128)
    tables = rms_decoder(config, sizes, attention_bias=bias, norm_placement=placement)
    return merged(tables, rotary(config, fraction=0.5))


def glm4(config: Config) -> Tables:
    """GLM 4 of April 2025: norms before and after blocks."""
    return glm(config, placement="sandwich")


def exaone4(config: Config) -> Tables:
    """EXAONE 4: norms on the results of blocks; three of four layers local, the others without positions."""
    config.harmless("sliding_window_pattern")
    tables = rms_decoder(config, widths(config, kv_heads=32), norm_placement="output", attention={"qk_norm": "head"})
    return merged(tables, _local_and_bare(config, tables["layers"], every=4))


def _local_and_bare(config: Config, layers: int, *, every: int) -> Tables:
    """Windows in all but each ``every``-th layer, which has no rotary positions."""
    tokens = config.optional_integer("sliding_window")
    if config.is_null("sliding_window"):
        config.harmless("layer_types")
        return {}
    local = window(config, layers, tokens=tokens or 4096, local=layers - layers // every)
    bare = layers - local.get("attention", {}).get("window", {}).get("layers", 0)
    return merged(local, {"attention": {"nope_layers": bare}})


def cohere(config: Config) -> Tables:
    """Command R: attention and a gated network side by side behind one norm with a gain."""
    config.only("use_qk_norm", False)
    config.harmless("logit_scale")
    return rms_decoder(
        config,
        norm="layernorm",
        norm_weights="gain",
        block="parallel_shared_norm",
        attention_bias=biased(config),
        tied_embeddings=config.flag("tie_word_embeddings", default=True),
    )


def cohere2(config: Config) -> Tables:
    """Command R7B and A: as Command R, three of four layers local, the others without positions."""
    config.harmless("rotary_pct", "sliding_window_pattern", "order_of_interleaved_layers", "position_embedding_type")
    config.harmless("use_embedding_sharing", "use_gated_activation", "use_parallel_block", "use_parallel_embedding")
    config.harmless("cache_implementation", "layer_switch")
    tables = cohere(config)
    return merged(tables, _local_and_bare(config, tables["layers"], every=4))


def nemotron(config: Config) -> Tables:
    """Nemotron 4 and Minitron: layer norms, a squared relu without a gate, half of a head's width is turned."""
    tables = rms_decoder(
        config,
        norm="layernorm",
        gated=False,
        activation=activation(config, "hidden_act", default="relu2"),
        attention_bias=biased(config),
        mlp_bias=config.flag("mlp_bias", default=False),
    )
    return merged(tables, rotary(config, fraction=0.5))


def starcoder2(config: Config) -> Tables:
    """StarCoder 2: layer norms, biases throughout, no gate."""
    config.harmless("norm_epsilon", "mlp_type", "norm_type")
    biases = config.flag("use_bias", default=True)
    tables = rms_decoder(
        config,
        widths(config, kv_heads=2),
        norm="layernorm",
        gated=False,
        activation=activation(config, "hidden_act", default="gelu_pytorch_tanh"),
        attention_bias="all" if biases else "none",
        mlp_bias=biases,
        tied_embeddings=config.flag("tie_word_embeddings", default=True),
    )
    tokens = config.optional_integer("sliding_window")
    local = window(config, tables["layers"], tokens=tokens, local=tables["layers"])
    return merged(tables, local, dropout(config, "residual_dropout", "embedding_dropout"))


def stablelm(config: Config) -> Tables:
    """StableLM: layer norms, a quarter of a head's width is turned."""
    config.only("qk_layernorm", False)
    parallel = config.flag("use_parallel_residual", default=False)
    tables = rms_decoder(
        config,
        widths(config, kv_heads=32),
        norm="layernorm",
        block="parallel_shared_norm" if parallel else "sequential",
        attention_bias="qkv" if config.flag("use_qkv_bias", default=False) else "none",
    )
    return merged(tables, rotary(config, fraction=0.25), dropout(config, "hidden_dropout"))
