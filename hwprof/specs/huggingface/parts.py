"""What do the configurations of many families say in the same words? Widths, positions, windows, heads, experts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hwprof.specs.huggingface.config import Config, Tables

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "swiglu": "silu",
    "relu": "relu",
    "relu2": "relu2",
    "gelu": "gelu",
    "gelu_new": "gelu",
    "gelu_fast": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "quick_gelu": "gelu",
}
"""Activations by their names in transformers."""


def activation(config: Config, *names: str, default: str) -> str:
    """The activation under the first of the keys that is there."""
    name = config.text(*names, default=default)
    if name not in ACTIVATIONS:
        config.fail(f"activation {name!r} is unknown", expectation=f"known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


MOST_LAYERS = 100_000
"""No model comes near; more is a slip of the pen."""


def widths(config: Config, *, kv_heads: int | None = None, head_dim: int | None = None) -> Tables:
    """Sizes by their usual names.

    Args:
        config: the file.
        kv_heads: key and value heads where the file does not say; default: as many as query heads, as null means.
        head_dim: width of a head where the file does not say; default: hidden_size / heads, as null means.
    """
    d_model, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if kv_heads is None or config.is_null("num_key_value_heads"):
        kv_heads = heads
    if head_dim is None or config.is_null("head_dim"):
        head_dim = d_model // heads
    return {
        "layers": config.integer("num_hidden_layers", most=MOST_LAYERS),
        "d_model": d_model,
        "d_ff": config.integer("intermediate_size"),
        "heads": heads,
        "kv_heads": config.integer("num_key_value_heads", default=kv_heads),
        "head_dim": config.integer("head_dim", default=head_dim),
        "vocab_size": config.integer("vocab_size"),
        "max_seq_len": config.integer("max_position_embeddings", default=2048),
    }


def rotary(config: Config, *, fraction: float = 1.0) -> Tables:
    """Rotary positions: base and share of a head's width, in the words of before and after transformers 5."""
    parameters = config.value("rope_parameters") or {}
    if not isinstance(parameters, dict):
        config.fail("key 'rope_parameters' is not a table", expectation="expected rope_theta and rope_type in a table")
    if isinstance(parameters.get("full_attention"), dict):
        parameters = parameters["full_attention"]
    theta = config.number("rope_theta", "rotary_emb_base", default=10_000.0)
    share = config.number("partial_rotary_factor", "rotary_pct", default=fraction)
    tables: Tables = {"positions": "rope", "rope_theta": _known(config, parameters, "rope_theta", theta)}
    share = _known(config, parameters, "partial_rotary_factor", share)
    return tables if share == 1.0 else tables | {"attention": {"rope_fraction": share}}


def _known(config: Config, parameters: dict[str, Any], name: str, default: float) -> float:
    return Config(parameters, path=config.path, table="rope_parameters.").number(name, default=default)


def window(config: Config, layers: int, *, tokens: int | None, local: int) -> Tables:
    """Layers that attend to ``tokens`` only: those of ``layer_types`` if it is there, else ``local`` of them."""
    types = config.items("layer_types")
    kind = "sliding"
    if types is not None:
        found = Counter(map(str, types))
        unknown = sorted(set(found) - {"full_attention", "sliding_attention", "chunked_attention"})
        if unknown or len(types) != layers:
            config.fail(
                f"key 'layer_types' has {len(types)} layers of sorts {', '.join(sorted(found))}",
                expectation=f"expected {layers} of full_attention, sliding_attention or chunked_attention",
            )
        local = layers - found["full_attention"]
        kind = "chunked" if found["chunked_attention"] else "sliding"
    if not local or tokens is None:
        return {}
    return {"attention": {"window": {"tokens": tokens, "layers": local, "kind": kind}}}


def dropout(config: Config, name: str, *others: str, default: float = 0.0) -> Tables:
    """The dropout of a block's result; where the other dropouts of the model differ from it, a note says so."""
    rate = config.number(name, default=default)
    different = [other for other in others if config.number(other, default=rate) != rate]
    if different:
        config.notes.append(f"Dropout is {rate:g} as in {name}; {', '.join(different)} differ.")
    return {"dropout": rate} if rate else {}


def attention_dropout(config: Config, *names: str) -> None:
    """Dropout of attention weights, where the model has no other: it changes no count of FLOP, and a note says so."""
    rate = config.number(*(names or ("attention_dropout",)), default=0.0)
    if rate:
        config.notes.append(f"Dropout of attention weights ({rate:g}) is not in the count.")


_LANGUAGE = ("ForCausalLM", "LMHeadModel", "MTModel", "ForConditionalGeneration")


def language_head(config: Config, *, scored: bool = True) -> Tables:
    """The head of a decoder by the class that ``architectures`` names; where none is named, that of a language model.

    Classes for sequences and rewards have a score of every token without a bias, those for tokens and for answers one
    with a bias; the base model has no head.

    Args:
        config: the file.
        scored: whether the family's classes for sequences, tokens and answers are so.
    """
    names = config.items("architectures") or []
    if len(names) > 1:
        config.fail(f"key 'architectures' names {len(names)} classes", expectation="expected one")
    name = str(names[0]) if names else "ForCausalLM"
    if name.endswith(_LANGUAGE):
        return {}
    if scored and name.endswith(("ForSequenceClassification", "ForTokenClassification")):
        return scores(config, classes(config), bias=name.endswith("ForTokenClassification"))
    if scored and name.endswith("ForQuestionAnswering"):
        return scores(config, 2)
    if name.endswith("Model") and not name.endswith(("EncoderModel", "HeadsModel")):
        return {"head": {"kind": "none"}}
    return config.fail(
        f"architecture {name!r} has a head that is not known",
        expectation=f"expected a class that ends with {', '.join(_LANGUAGE)}, ForSequenceClassification, "
        "ForTokenClassification, ForQuestionAnswering or Model",
    )


def scores(config: Config, number: int, *, bias: bool = True) -> Tables:
    """So many numbers for every token; the table of tokens is then no head's."""
    config.harmless("num_labels")
    return {
        "head": {"kind": "token_classifier", "classes": number, "bias": bias},
        "tied_embeddings": False,
        "head_bias": False,
    }


def classes(config: Config) -> int:
    """How many labels a classifier tells apart."""
    labels: Any = config.value("id2label")
    return len(labels) if isinstance(labels, dict) and labels else config.integer("num_labels", default=2)


def expert_layers(config: Config, layers: int, chosen: Sequence[int]) -> Tables:
    """``dense_layers`` and ``every`` that give experts to just the ``chosen`` layers."""
    wanted = set(chosen)
    for dense in sorted({0, min(wanted, default=0)}):
        for every in range(1, layers + 1 if len(wanted) < layers else 2):
            if {i for i in range(dense, layers) if (i + 1) % every == 0} == wanted:
                return {"dense_layers": dense, "every": every}
    return config.fail(
        f"experts in the layers {', '.join(map(str, chosen)) or 'none'} of {layers} follow no known pattern",
        expectation="expected all layers after some dense ones, or every so many",
    )


def merged(*tables: Tables) -> Tables:
    """Tables joined; where two of them hold a table under one key, these are joined too."""
    result: Tables = {}
    for table in tables:
        for key, value in table.items():
            old = result.get(key)
            result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result
