"""How do configurations of dense decoders with RMS norms, rotary positions and gates read? LLaMA and its kin."""

from __future__ import annotations

from typing import Any

from hwprof.specs.huggingface.config import Config, Tables
from hwprof.specs.huggingface.parts import (
    activation,
    attention_dropout,
    dropout,
    language_head,
    merged,
    rotary,
    widths,
    window,
)


def rms_decoder(config: Config, sizes: Tables | None = None, **fields: Any) -> Tables:
    """What the whole kind has in common; ``sizes`` and ``fields`` say in what a family differs."""
    common: Tables = {
        "kind": "decoder",
        "activation": activation(config, "hidden_act", "hidden_activation", default="silu"),
        "gated": True,
        "norm": "rmsnorm",
        "norm_placement": "pre",
        "final_norm": True,
        "tied_embeddings": config.flag("tie_word_embeddings", default=False),
        "attention_bias": "none",
        "mlp_bias": False,
    }
    attention_dropout(config)
    head = language_head(config)
    return merged(common, sizes or widths(config), rotary(config), fields, head)


def biased(config: Config, *, default: bool = False) -> str:
    """Biases of all four projections, or of none."""
    return "all" if config.flag("attention_bias", default=default) else "none"


def llama(config: Config) -> Tables:
    """LLaMA 1 to 3, and what took over its shape."""
    return _llama(config, widths(config))


def _llama(config: Config, sizes: Tables) -> Tables:
    mlp_bias = config.flag("mlp_bias", default=False)
    return rms_decoder(config, sizes, attention_bias=biased(config), mlp_bias=mlp_bias)


def smollm3(config: Config) -> Tables:
    """SmolLM3: LLaMA with layers without rotary positions."""
    layers = config.integer("num_hidden_layers")
    every = config.integer("no_rope_layer_interval", default=4)
    turned = config.items("no_rope_layers")
    bare = layers // every if turned is None else turned.count(0)
    tokens = config.optional_integer("sliding_window") if config.flag("use_sliding_window", default=False) else None
    config.harmless("sliding_window", "max_window_layers")
    tables = merged(
        _llama(config, widths(config, kv_heads=4)), window(config, layers, tokens=tokens, local=layers - bare)
    )
    tied = config.flag("tie_word_embeddings", default=True)
    return merged(tables, {"tied_embeddings": tied, "attention": {"nope_layers": bare}})


def mistral(config: Config) -> Tables:
    """Mistral: LLaMA with a window in every layer."""
    tables = rms_decoder(config, widths(config, kv_heads=8))
    tokens = config.optional_integer("sliding_window")
    return merged(tables, window(config, tables["layers"], tokens=tokens, local=tables["layers"]))


def qwen_window(config: Config, layers: int) -> Tables:
    """Qwen's window, in the layers from ``max_window_layers`` on, if it is switched on."""
    used = config.flag("use_sliding_window", default=False)
    first = config.integer("max_window_layers", default=28, least=0)
    config.harmless("sliding_window")
    tokens = config.optional_integer("sliding_window") if used else None
    return window(config, layers, tokens=tokens, local=max(0, layers - first))


def qwen2(config: Config) -> Tables:
    """Qwen 2 and 2.5: biases on query, key and value."""
    config.harmless("use_mrope")
    tables = rms_decoder(config, widths(config, kv_heads=32), attention_bias="qkv")
    return merged(tables, qwen_window(config, tables["layers"]))


def qwen3(config: Config) -> Tables:
    """Qwen 3: norms of queries and keys, heads of 128."""
    sizes = widths(config, kv_heads=32, head_dim=128)
    tables = rms_decoder(config, sizes, attention_bias=biased(config), attention={"qk_norm": "head"})
    return merged(tables, qwen_window(config, tables["layers"]))


def gemma(config: Config, *, kv_heads: int = 16) -> Tables:
    """Gemma 1: a gated GELU, tied embeddings, heads of 256."""
    config.only("use_bidirectional_attention", False)
    return rms_decoder(
        config,
        widths(config, kv_heads=kv_heads, head_dim=256),
        activation=activation(config, "hidden_activation", "hidden_act", default="gelu"),
        attention_bias=biased(config),
        tied_embeddings=config.flag("tie_word_embeddings", default=True),
    )


def gemma2(config: Config) -> Tables:
    """Gemma 2: norms before and after blocks, every second layer local, capped scores and logits."""
    config.harmless("query_pre_attn_scalar", "cache_implementation", "sliding_window_size")
    tables = merged(
        gemma(config, kv_heads=4), {"norm_placement": "sandwich"}, _caps(config, attention=50.0, final=30.0)
    )
    tokens = config.integer("sliding_window", "sliding_window_size", default=4096)
    layers = tables["layers"]
    return merged(tables, window(config, layers, tokens=tokens, local=(layers + 1) // 2))


def gemma3_text(config: Config) -> Tables:
    """Gemma 3's text model: as Gemma 2 with five local layers to a global one, norms of queries and keys, no caps."""
    config.harmless("query_pre_attn_scalar", "cache_implementation", "rope_local_base_freq")
    every = config.integer("sliding_window_pattern", "_sliding_window_pattern", default=6)
    tokens = config.integer("sliding_window", default=4096)
    tables = merged(
        gemma(config, kv_heads=4),
        {"norm_placement": "sandwich", "attention": {"qk_norm": "head"}},
        _caps(config, attention=0.0, final=0.0),
    )
    layers = tables["layers"]
    return merged(tables, window(config, layers, tokens=tokens, local=layers - layers // every))


def _caps(config: Config, *, attention: float, final: float) -> Tables:
    """Caps of scores and logits; a null in the file switches one off, absence leaves the family's own."""
    tables: Tables = {}
    if config.number("attn_logit_softcapping", default=_unless_null(config, "attn_logit_softcapping", attention)):
        tables["attention"] = {"softcap": True}
    if config.number("final_logit_softcapping", default=_unless_null(config, "final_logit_softcapping", final)):
        tables["head"] = {"softcap": True}
    return tables


def _unless_null(config: Config, name: str, default: float) -> float:
    return 0.0 if config.is_null(name) else default


def phi3(config: Config) -> Tables:
    """Phi 3 and 4: LLaMA with joined projections, and a window in some."""
    tables = merged(rms_decoder(config), dropout(config, "resid_pdrop", "embd_pdrop"))
    tokens = config.optional_integer("sliding_window")
    return merged(tables, window(config, tables["layers"], tokens=tokens, local=tables["layers"]))


def olmo(config: Config) -> Tables:
    """OLMo 1: layer norms without weights."""
    config.harmless("clip_qkv")
    return rms_decoder(config, norm="layernorm", norm_weights="none", attention_bias=biased(config))


def olmo2(config: Config) -> Tables:
    """OLMo 2: norms on the results of blocks, and of whole queries and keys."""
    return rms_decoder(config, norm_placement="output", attention_bias=biased(config), attention={"qk_norm": "full"})


def olmo3(config: Config) -> Tables:
    """OLMo 3: as OLMo 2, three of four layers local."""
    tables, tokens = olmo2(config), config.optional_integer("sliding_window")
    layers = tables["layers"]
    return merged(tables, window(config, layers, tokens=tokens, local=layers - layers // 4))


def granite(config: Config) -> Tables:
    """Granite 3: LLaMA with scaled embeddings, residuals and logits."""
    config.harmless("embedding_multiplier", "logits_scaling", "residual_multiplier", "attention_multiplier")
    return llama(config)
