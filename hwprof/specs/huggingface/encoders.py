"""How do configurations of encoders read? BERT, RoBERTa and the vision Transformer."""

from __future__ import annotations

import re

from hwprof.specs.huggingface.config import Config, Tables
from hwprof.specs.huggingface.parts import activation, classes, dropout, merged


def _sizes(config: Config) -> Tables:
    d_model, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    return {
        "layers": config.integer("num_hidden_layers"),
        "d_model": d_model,
        "d_ff": config.integer("intermediate_size"),
        "heads": heads,
        "kv_heads": heads,
        "head_dim": d_model // heads,
        "activation": activation(config, "hidden_act", default="gelu"),
        "gated": False,
        "norm": "layernorm",
        "mlp_bias": True,
        "positions": "learned",
    }


def bert(config: Config) -> Tables:
    """BERT: segments, a norm after the embedding, norms after residual sums."""
    config.only("position_embedding_type", "absolute")
    config.only("is_decoder", False)
    config.only("add_cross_attention", False)
    config.only("tie_word_embeddings", True)  # untied, the head has two biases
    config.harmless("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers")
    config.harmless("pooler_size_per_head", "pooler_type", "layer_norm_type")
    types = {"embedding": {"token_types": config.integer("type_vocab_size", default=2)}}
    rates = dropout(config, "hidden_dropout_prob", "attention_probs_dropout_prob", default=0.1)
    return merged(_sizes(config), _BERT, types, _vocabulary(config), rates, _bert_head(config))


_BERT: Tables = {
    "kind": "encoder",
    "gated": False,
    "norm": "layernorm",
    "mlp_bias": True,
    "positions": "learned",
    "norm_placement": "post",
    "final_norm": False,
    "attention_bias": "all",
    "tied_embeddings": True,
    "embedding": {"norm": True},
}
"""What BERT and DistilBERT have in common."""


def roberta(config: Config) -> Tables:
    """RoBERTa: BERT with two position rows that no token has."""
    config.harmless("output_past")
    tables = bert(config)
    usable = tables["max_seq_len"] - 2
    return merged(tables, {"max_seq_len": usable, "embedding": {"extra_positions": 2}})


def distilbert(config: Config) -> Tables:
    """DistilBERT: BERT without segments and pooler."""
    config.only("tie_word_embeddings", True)
    config.harmless("qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds", "tie_weights_", "classifier_dropout")
    d_model, heads = config.integer("dim", "hidden_size"), config.integer("n_heads", "num_attention_heads")
    sizes = {
        "layers": config.integer("n_layers", "num_hidden_layers"),
        "d_model": d_model,
        "d_ff": config.integer("hidden_dim", default=4 * d_model),
        "heads": heads,
        "kv_heads": heads,
        "head_dim": d_model // heads,
        "activation": activation(config, "activation", default="gelu"),
    }
    labels = {"classes": classes(config)}
    heads_of: dict[str, Tables] = {
        "Model": {"head": {"kind": "none"}},
        "ForMaskedLM": {"head": {"kind": "masked_lm"}, "head_bias": True},
        "ForSequenceClassification": {"head": {"kind": "classifier", "pooler": True} | labels},
        "ForTokenClassification": {"head": {"kind": "token_classifier"} | labels},
        "ForQuestionAnswering": {"head": {"kind": "token_classifier", "classes": 2}},
    }
    rates = dropout(config, "dropout", "attention_dropout", default=0.1)
    return merged(_BERT, sizes, _vocabulary(config), rates, _by_class(config, heads_of, default="Model"))


def _vocabulary(config: Config) -> Tables:
    return {
        "vocab_size": config.integer("vocab_size"),
        "max_seq_len": config.integer("max_position_embeddings", default=512),
    }


def _bert_head(config: Config) -> Tables:
    """The head by the class that ``architectures`` names; without a name the base model with its pooler."""
    labels = {"classes": classes(config)}
    heads: dict[str, Tables] = {
        "Model": {"head": {"kind": "none", "pooler": True}},
        "ForMaskedLM": {"head": {"kind": "masked_lm"}, "head_bias": True},
        "ForSequenceClassification": {"head": {"kind": "classifier", "pooler": True} | labels},
        "ForTokenClassification": {"head": {"kind": "token_classifier"} | labels},
        "ForQuestionAnswering": {"head": {"kind": "token_classifier", "classes": 2}},
    }
    return _by_class(config, heads, default="Model")


_OTHER_HEAD = re.compile("LMHead|Heads|For|Encoder|Decoder")
"""In front of ``Model``, these make another class of it (``BertLMHeadModel``)."""


def _by_class(config: Config, heads: dict[str, Tables], *, default: str) -> Tables:
    names = config.items("architectures") or [default]
    for ending, tables in heads.items():
        family = str(names[0]).removesuffix(ending)
        if str(names[0]).endswith(ending) and not _OTHER_HEAD.search(family):
            return tables
    return config.fail(
        f"architecture {names[0]!r} has a head that is not known",
        expectation=f"expected a class that ends with {', '.join(heads)}",
    )


def vit(config: Config) -> Tables:
    """The vision Transformer: patches, a class vector, norms before blocks."""
    config.harmless("encoder_stride", "pooler_act")
    image, patch = config.integer("image_size", default=224), config.integer("patch_size", default=16)
    sizes = _sizes(config)
    config.only("pooler_output_size", sizes["d_model"])
    tables = {
        "kind": "vit",
        "vocab_size": 0,
        "max_seq_len": (image // patch) ** 2 + 1,
        "norm_placement": "pre",
        "final_norm": True,
        "attention_bias": "all" if config.flag("qkv_bias", default=True) else "o",
        "tied_embeddings": False,
        "vision": {
            "image_size": image,
            "patch_size": patch,
            "channels": config.integer("num_channels", default=3),
        },
    }
    if tables["attention_bias"] == "o":
        config.fail("key 'qkv_bias' is False", expectation="a vision Transformer without these biases is not known")
    rates = dropout(config, "hidden_dropout_prob", "attention_probs_dropout_prob")
    heads: dict[str, Tables] = {
        "ForImageClassification": {"head": {"kind": "classifier", "classes": classes(config)}},
        "Model": {"head": {"kind": "none", "pooler": True}},
    }
    return merged(sizes, tables, rates, _by_class(config, heads, default="ForImageClassification"))
