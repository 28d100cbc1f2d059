"""How do configurations of encoder-decoders read? T5, BART, Marian (the original Transformer) and Whisper."""

from __future__ import annotations

from typing import Any

from hwprof.specs.huggingface.config import Config, Tables
from hwprof.specs.huggingface.parts import activation, dropout, language_head, merged


def t5(config: Config) -> Tables:
    """T5 and its version 1.1: positions by distance in a table a side, no biases."""
    config.harmless("relative_attention_max_distance", "is_encoder_decoder", "scale_decoder_outputs", "n_positions")
    config.harmless("dense_act_fn", "output_past", "is_decoder")
    gates = config.flag("is_gated_act", default=config.text("model_type", default="t5") == "mt5")
    usual = "gated-gelu" if gates else "relu"
    layers, feed_forward = config.integer("num_layers"), config.text("feed_forward_proj", default=usual)
    gated, _, name = feed_forward.rpartition("-")
    if gated not in {"", "gated"}:
        config.fail(f"key 'feed_forward_proj' is {feed_forward!r}", expectation="expected relu, gelu or gated-gelu")
    heads = config.integer("num_heads")
    if not config.flag("tie_word_embeddings", default=True):
        config.notes.append(
            "Head and token table are one weight, as transformers 5 has it whatever the file says; the released "
            "weights of T5 1.1, Flan and mT5 hold a head of their own, as `t5-v1.1-base` of the catalogue does."
        )
    tables = {
        "kind": "encoder_decoder",
        "layers": config.integer("num_decoder_layers", default=layers),
        "d_model": config.integer("d_model"),
        "d_ff": config.integer("d_ff"),
        "heads": heads,
        "kv_heads": heads,
        "head_dim": config.integer("d_kv", default=64),
        "vocab_size": config.integer("vocab_size"),
        "max_seq_len": 512,
        "activation": activation(
            Config({"feed_forward_proj": name}, path=config.path), "feed_forward_proj", default=""
        ),
        "gated": config.flag("is_gated_act", default=gated == "gated"),
        "norm": "rmsnorm",
        "norm_placement": "pre",
        "final_norm": True,
        "positions": "relative",
        "attention": {"relative_buckets": config.integer("relative_attention_num_buckets", default=32)},
        "tied_embeddings": True,
        "attention_bias": "none",
        "mlp_bias": False,
        "encoder": {"layers": layers},
    }
    return merged(tables, dropout(config, "dropout_rate", default=0.1), _both_sides(config))


def _both_sides(config: Config) -> Tables:
    """The head of a class that has both sides; one that ends with ForCausalLM is the decoder alone."""
    names = config.items("architectures") or [""]
    if str(names[0]).endswith("ForCausalLM"):
        config.fail(f"architecture {names[0]!r} is the decoder alone", expectation="expected a class with both sides")
    return language_head(config, scored=False)


def _bart_like(config: Config, **fields: Any) -> Tables:
    """BART, Marian and Whisper: sizes in the same words for both sides, biases, layer norms."""
    config.harmless("scale_embedding", "is_encoder_decoder", "num_hidden_layers", "is_decoder", "add_bias_logits")
    config.harmless(
        "classif_dropout", "add_final_layer_norm", "normalize_before", "normalize_embedding", "gradient_checkpointing"
    )
    config.only("tie_word_embeddings", True)  # untied, each side and the head have tables of their own
    dropped = [config.number(f"{side}_layerdrop", default=0.0) for side in ("encoder", "decoder")]
    if any(dropped):
        config.notes.append("Layers that are left out by chance (layerdrop) are counted as if none was.")
    config.only("extra_pos_embeddings", 2)
    d_model, heads = config.integer("d_model"), config.integer("decoder_attention_heads")
    encoder_heads = config.integer("encoder_attention_heads", default=heads)
    encoder = {"layers": config.integer("encoder_layers"), "d_ff": config.integer("encoder_ffn_dim")}
    if encoder_heads != heads:
        encoder["heads"] = encoder_heads
    tables = {
        "kind": "encoder_decoder",
        "layers": config.integer("decoder_layers"),
        "d_model": d_model,
        "d_ff": config.integer("decoder_ffn_dim"),
        "heads": heads,
        "kv_heads": heads,
        "head_dim": d_model // heads,
        "vocab_size": config.integer("vocab_size"),
        "activation": activation(config, "activation_function", default="gelu"),
        "gated": False,
        "norm": "layernorm",
        "positions": "learned",
        "tied_embeddings": True,
        "mlp_bias": True,
        "encoder": encoder,
    }
    rates = dropout(config, "dropout", "attention_dropout", "activation_dropout", default=0.0)
    return merged(tables, rates, _both_sides(config), fields)


def bart(config: Config) -> Tables:
    """BART: norms after residual sums and after each embedding; two position rows that no token has."""
    config.only("static_position_embeddings", False)
    return _bart_like(
        config,
        max_seq_len=config.integer("max_position_embeddings", default=1024),
        norm_placement="post",
        final_norm=False,
        attention_bias="all",
        embedding={"norm": True, "extra_positions": 2},
    )


def marian(config: Config) -> Tables:
    """Marian: the original Transformer with biases in attention; transformers keeps positions among the parameters."""
    config.only("static_position_embeddings", True)
    config.only("share_encoder_decoder_embeddings", True)
    config.only("decoder_vocab_size", config.integer("vocab_size"))
    config.notes.append("Positions of both sides are counted as parameters, as in transformers; they are not trained.")
    positions = config.integer("max_position_embeddings", default=1024)
    return _bart_like(
        config,
        max_seq_len=positions,
        norm_placement="post",
        final_norm=False,
        attention_bias="all",
        encoder={"max_seq_len": positions},
    )


def mbart(config: Config) -> Tables:
    """mBART: as BART with norms before blocks and after the last layer."""
    return merged(bart(config), {"norm_placement": "pre", "final_norm": True})


def blenderbot(config: Config) -> Tables:
    """Blenderbot: norms before blocks, learned positions."""
    return _bart_like(
        config,
        max_seq_len=config.integer("max_position_embeddings", default=128),
        norm_placement="pre",
        final_norm=True,
        attention_bias="all",
    )


def m2m_100(config: Config) -> Tables:
    """M2M-100 and NLLB: norms before blocks, fixed positions that are no parameters."""
    return _bart_like(
        config,
        max_seq_len=config.integer("max_position_embeddings", default=1024),
        norm_placement="pre",
        final_norm=True,
        attention_bias="all",
        positions="sinusoidal",
    )


def pegasus(config: Config) -> Tables:
    """Pegasus: norms before blocks; transformers keeps its fixed positions among the parameters."""
    config.only("static_position_embeddings", True)
    config.notes.append("Positions of both sides are counted as parameters, as in transformers; they are not trained.")
    positions = config.integer("max_position_embeddings", default=1024)
    return _bart_like(
        config,
        max_seq_len=positions,
        norm_placement="pre",
        final_norm=True,
        attention_bias="all",
        encoder={"max_seq_len": positions},
    )


def whisper(config: Config) -> Tables:
    """Whisper: an encoder of spectrograms; transformers keeps its positions among the parameters."""
    config.only("static_position_embeddings", False)
    config.harmless("apply_spec_augment", "mask_time_prob", "mask_time_length", "mask_time_min_masks")
    config.harmless("mask_feature_prob", "mask_feature_length", "mask_feature_min_masks", "median_filter_width")
    config.harmless("classifier_proj_size", "alignment_heads", "lang_to_id", "task_to_id", "return_timestamps")
    config.harmless("no_timestamps_token_id", "prev_sot_token_id", "is_multilingual", "max_position_embeddings")
    config.only("use_weighted_layer_sum", False)
    config.notes.append("The encoder's positions are counted as parameters, as in transformers; they are not trained.")
    return _bart_like(
        config,
        max_seq_len=config.integer("max_target_positions", default=448),
        norm_placement="pre",
        final_norm=True,
        attention_bias="qvo",
        encoder={
            "max_seq_len": config.integer("max_source_positions", default=1500),
            "mel_bins": config.integer("num_mel_bins", default=80),
        },
    )
