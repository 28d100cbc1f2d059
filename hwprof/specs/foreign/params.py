"""Which model does a ``params.json`` of Meta or Mistral describe? Told in the words of a ``config.json``."""

from __future__ import annotations

from pathlib import Path

from hwprof.errors import SpecError
from hwprof.specs.foreign.kinds import Tables

LLAMA_1_AND_2_VOCABULARY = 32_000
"""What ``vocab_size = -1`` means: that of the tokenizer (facebookresearch/llama, ``llama/generation.py``)."""

_OTHER = frozenset(
    {"vision_encoder", "vision_chunk_size", "ssm_cfg", "lora", "moe_args", "vision_args", "mla", "llama_4_scaling"}
)
"""Keys of images, state spaces and experts in other words: what they cost is not in the other keys."""

MULTIPLE_OF = 256
"""Meta's default (``llama/model.py``: ``ModelArgs``)."""


def is_params(values: Tables) -> bool:
    """Whether the keys are those of such a file."""
    return {"dim", "n_layers"} <= values.keys() and not {"hidden_size", "num_hidden_layers"} & values.keys()


def values_of_params(values: Tables, path: Path) -> Tables:
    """Keys of a ``config.json`` of the same model.

    Raises:
        SpecError: a number is missing, or it has images or state-space layers.
    """
    if "n_heads" not in values or values.get("model_type") == "mamba":
        raise SpecError(
            f"{path} is a params.json of layers without attention (Mamba)",
            expectation="a params.json with n_heads",
            remedy="give the config.json of the model, which transformers has a class for",
        )
    other = sorted(_OTHER & {k for k, v in values.items() if v})
    if other:
        raise SpecError(
            f"{path}: key {other[0]!r} of a params.json is not understood", remedy="give the config.json of the model"
        )
    heads, dim, moe = values["n_heads"], values["dim"], values.get("moe")
    vocabulary = values.get("vocab_size", -1)
    found: Tables = {
        "model_type": "mixtral" if moe else "mistral" if values.get("sliding_window") else "llama",
        "hidden_size": dim,
        "num_hidden_layers": values["n_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": values.get("n_kv_heads") or heads,
        "head_dim": values.get("head_dim") or dim // heads,
        "intermediate_size": values.get("hidden_dim") or _width(values),
        "vocab_size": LLAMA_1_AND_2_VOCABULARY if vocabulary == -1 else vocabulary,
        "max_position_embeddings": values.get("max_seq_len") or values.get("max_position_embeddings") or 4096,
        "rope_theta": values.get("rope_theta", 10_000.0),
        "tie_word_embeddings": bool(values.get("tied_embeddings", False)),
    }
    if moe:
        found |= {"num_local_experts": moe["num_experts"], "num_experts_per_tok": moe["num_experts_per_tok"]}
    if values.get("sliding_window"):
        found["sliding_window"] = values["sliding_window"]
    return found


def _width(values: Tables) -> int:
    """Of the feed-forward network: two thirds of 4·dim, times a factor, rounded up (``llama/model.py``)."""
    width = int(2 * (4 * values["dim"]) / 3)
    factor, multiple = values.get("ffn_dim_multiplier"), values.get("multiple_of", MULTIPLE_OF)
    if factor is not None:
        width = int(factor * width)
    return int(multiple * -(-width // multiple))
