"""Which model do Megatron-LM's arguments describe? As YAML, as JSON or as they are typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from hwprof.errors import SpecError
from hwprof.specs.foreign.kinds import Tables

_NEEDED = ("num_layers", "hidden_size", "num_attention_heads")
_FLAG = re.compile(r"--[a-z][a-z0-9-]*")
_DEFAULT_VOCABULARY = 50_257
"""Megatron pads GPT-2's vocabulary of 50,257 where a file says nothing of one."""


def is_megatron(values: Tables) -> bool:
    """Whether the keys are Megatron's arguments, or hold them in a table (``MODEL_ARGS``)."""
    return set(_NEEDED) <= _arguments(values).keys() and "model_type" not in values


def is_megatron_text(text: str) -> bool:
    """Whether a text holds the arguments as they are typed."""
    return all(f"--{name.replace('_', '-')}" in text for name in _NEEDED)


def tables_of_text(text: str, path: Path) -> Tables:
    """The model of typed arguments; raises as ``tables_of_megatron``."""
    words = shlex.split(text.replace("\\\n", " "), comments=True)
    found: Tables = {}
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if _FLAG.fullmatch(word):
            found[word] = True if following.startswith("--") or not following[:1].isalnum() else _number(following)
    return tables_of_megatron(found, path)


def tables_of_megatron(values: Tables, path: Path) -> Tables:
    """What a TOML file of the model would hold (megatron/training/arguments.py).

    Raises:
        SpecError: an argument describes layers that are not read.
    """
    given = _arguments(values)
    other = [name for name in ("multi_latent_attention", "num_experts", "encoder_num_layers") if given.get(name)]
    if other:
        raise SpecError(
            f"{path}: Megatron's --{other[0].replace('_', '-')} is not read from arguments",
            expectation="a dense decoder",
            remedy="describe the model in TOML (`hwprof specs show deepseek-v3 > mine.toml`)",
        )
    width, heads = given["hidden_size"], given["num_attention_heads"]
    gated = bool(given.get("swiglu"))
    usual = int((4 * width * 2 / 3) / 64) * 64 if gated else 4 * width
    no_bias = bool(given.get("disable_bias_linear"))
    grouped = given.get("num_query_groups") if given.get("group_query_attention") else None
    positions = {"rope": "rope", "none": "none", "learned_absolute": "learned"}
    rotary = bool(given.get("use_rotary_position_embeddings"))
    named = given.get("position_embedding_type", "rope" if rotary else "learned_absolute")
    norm = {"RMSNorm": "rmsnorm", "LayerNorm": "layernorm"}[given.get("normalization", "LayerNorm")]
    return {
        "name": path.stem,
        "kind": "decoder",
        "layers": given["num_layers"],
        "d_model": width,
        "d_ff": given.get("ffn_hidden_size") or usual,
        "heads": heads,
        "kv_heads": grouped or heads,
        "head_dim": given.get("kv_channels") or width // heads,
        "vocab_size": _vocabulary(given),
        "max_seq_len": given.get("max_position_embeddings") or given.get("seq_length") or 2048,
        "activation": "silu" if gated else "gelu",
        "gated": gated,
        "norm": norm,
        "norm_placement": "pre",
        "final_norm": True,
        "positions": positions.get(named, named),
        "rope_theta": float(given.get("rotary_base", 10_000)),
        "tied_embeddings": not given.get("untie_embeddings_and_output_weights", False),
        "attention_bias": "qkv" if no_bias and given.get("add_qkv_bias") else "none" if no_bias else "all",
        "mlp_bias": not no_bias,
        "notes": _notes(given),
        "source": {"arguments": str(path)},
    }


def _vocabulary(given: Tables) -> int:
    """Padded as Megatron does it: to a multiple of 128 for each tensor rank."""
    if given.get("padded_vocab_size"):
        return int(given["padded_vocab_size"])
    multiple = given.get("make_vocab_size_divisible_by", 128) * given.get("tensor_model_parallel_size", 1)
    return int(-(-given.get("vocab_size", _DEFAULT_VOCABULARY) // multiple) * multiple)


def _notes(given: Tables) -> str:
    if given.get("vocab_size") or given.get("padded_vocab_size"):
        return ""
    return "The arguments name no vocabulary: that of GPT-2, padded, is taken; add --vocab-size for another."


def _arguments(values: Tables) -> Tables:
    """The arguments by their names in Python, whatever table holds them."""
    plain = {str(key).removeprefix("--").replace("-", "_"): value for key, value in values.items()}
    if set(_NEEDED) <= plain.keys():
        return plain
    tables = [value for value in values.values() if isinstance(value, dict)]
    return next((found for table in tables if set(_NEEDED) <= (found := _arguments(table)).keys()), {})


def _number(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
