"""Which model does litgpt's ``model_config.yaml`` describe? Told in the words of a ``config.json``."""

from __future__ import annotations

from pathlib import Path

from hwprof.errors import SpecError
from hwprof.specs.foreign.kinds import Tables


def is_litgpt(values: Tables) -> bool:
    """Whether the keys are those of such a file."""
    return {"n_layer", "n_embd", "n_head", "block_size"} <= values.keys() and (
        "mlp_class_name" in values or "padded_vocab_size" in values
    )


def values_of_litgpt(values: Tables, path: Path) -> Tables:
    """Keys of a ``config.json`` of the same model (litgpt/config.py: ``Config``).

    Raises:
        SpecError: its layers are none of those that are read.
    """
    heads, width = values["n_head"], values["n_embd"]
    network, norm = values.get("mlp_class_name", "GptNeoxMLP"), values.get("norm_class_name", "LayerNorm")
    common: Tables = {
        "hidden_size": width,
        "num_hidden_layers": values["n_layer"],
        "num_attention_heads": heads,
        "intermediate_size": values.get("intermediate_size") or 4 * width,
        "vocab_size": values.get("padded_vocab_size") or values["vocab_size"],
        "max_position_embeddings": values["block_size"],
    }
    if network == "GptNeoxMLP" and norm == "LayerNorm" and values.get("n_query_groups") in {None, heads}:
        return common | {
            "model_type": "gpt_neox",
            "rotary_pct": values.get("rotary_percentage", 0.25),
            "use_parallel_residual": values.get("parallel_residual", True),
            "tie_word_embeddings": False,
        }
    plain = norm == "RMSNorm" and not values.get("parallel_residual", False) and not values.get("norm_qk", False)
    if network == "LLaMAMLP" and plain:
        grouped = {"num_key_value_heads": values.get("n_query_groups") or heads}
        sizes = {"head_dim": values.get("head_size") or width // heads}
        biased = {"attention_bias": values.get("bias", False), "mlp_bias": values.get("bias", False)}
        if values.get("attn_bias") and not values.get("bias"):  # Qwen 2.5
            return common | grouped | {"model_type": "qwen2", "tie_word_embeddings": False} | sizes
        return common | grouped | sizes | biased | {"model_type": "llama", "tie_word_embeddings": False}
    raise SpecError(
        f"{path}: litgpt's layers of {network} and {norm} are not read",
        expectation="LLaMAMLP with RMSNorm, or GptNeoxMLP with LayerNorm",
        remedy="give the model's config.json, or describe it in TOML (`hwprof specs show tiny > mine.toml`)",
    )
