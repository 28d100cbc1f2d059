"""Which model do Megatron-LM's arguments describe? As YAML, as JSON or as they are typed."""

from __future__ import annotations

import re
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
    """The model of typed arguments; variables that the text sets are filled in. Raises as ``tables_of_megatron``."""
    plain = re.sub(r"(^|\s)#.*", " ", text.replace("\\\n", " "))
    plain = re.sub(r"[\"'()]", " ", plain)  # of strings and arrays of a shell
    known = dict(re.findall(r"(?:^|\s)([A-Za-z_]\w*)=(\S+)", plain))
    words = re.sub(r"(--[a-z][a-z0-9-]*)=", r"\1 ", plain).split()
    found: Tables = {}
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if _FLAG.fullmatch(word):
            value = re.sub(r"\$\{?(\w+)\}?", lambda name: known.get(name[1], name[0]), following)
            found[word.removeprefix("--").replace("-", "_")] = _worth(value)
    unset = next((name for name in _NEEDED if str(found.get(name)).startswith("$")), None)
    if unset:
        raise SpecError(
            f"{path}: --{unset.replace('_', '-')} is {found[unset]}, which the file does not set",
            remedy="write the number in its place, or give the file that the program prints its arguments to",
        )
    return tables_of_megatron(found, path)


def tables_of_megatron(values: Tables, path: Path) -> Tables:
    """What a TOML file of the model would hold (megatron/training/arguments.py).

    Raises:
        SpecError: an argument describes layers that are not read.
    """
    given = _checked(_told(_arguments(values)), path)
    width, heads = given["hidden_size"], given["num_attention_heads"]
    gated = bool(given.get("swiglu"))
    usual = int((4 * width * 2 / 3) / 64) * 64 if gated else 4 * width
    no_bias = bool(given.get("disable_bias_linear"))
    grouped = (
        given.get("num_query_groups") if given.get("group_query_attention", "encoder_seq_length" in given) else None
    )
    positions = {"rope": "rope", "none": "none", "learned_absolute": "learned"}
    rotary = bool(given.get("use_rotary_position_embeddings"))
    named = given.get("position_embedding_type", "rope" if rotary else "learned_absolute")
    norm = str(given.get("normalization", "LayerNorm")).lower()
    squared = bool(given.get("squared_relu"))
    share = float(given.get("rotary_percent") or given.get("rotary_percentage") or 1.0)
    attention: Tables = {"qk_norm": "head"} if given.get("qk_layernorm") else {}
    turned = positions.get(named, named) == "rope" and share < 1.0
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
        "activation": "silu" if gated else "relu2" if squared else "gelu",
        "gated": gated,
        "norm": norm.removesuffix("1p"),  # which adds 1 to its gain
        "attention": attention | ({"rope_fraction": share} if turned else {}),
        "mtp_layers": given.get("mtp_num_layers") or 0,
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


def _checked(given: Tables, path: Path) -> Tables:
    """The arguments, of a dense decoder whose sizes are there; raises as ``tables_of_megatron``."""
    missing = [name for name in _NEEDED if not isinstance(given.get(name), int)]
    if missing:
        raise SpecError(
            f"{path}: Megatron's --{missing[0].replace('_', '-')} is missing or no number",
            remedy="add it, or describe the model in TOML (`hwprof specs show tiny > mine.toml`)",
        )
    other = [name for name in _UNREAD if given.get(name)]
    if other:
        raise SpecError(
            f"{path}: Megatron's --{other[0].replace('_', '-')} is not read from arguments",
            expectation="a dense decoder",
            remedy="describe the model in TOML (`hwprof specs show deepseek-v3 > mine.toml`)",
        )
    return given


_UNREAD = (
    "multi_latent_attention", "num_experts", "encoder_num_layers", "is_hybrid_model", "hybrid_override_pattern",
    "hybrid_attention_ratio", "hybrid_layer_pattern", "window_size", "experimental_attention_variant",
    "heterogeneous_layers_config_path",
)  # fmt: skip
"""Arguments that make other layers than a dense decoder's."""


def _told(given: Tables) -> Tables:
    """NeMo's words in Megatron's."""
    if "encoder_seq_length" not in given:
        return given
    bias = given.get("bias", True)
    return given | {
        "swiglu": "swiglu" in str(given.get("activation", "gelu")),
        "squared_relu": given.get("activation") == "squared-relu",
        "disable_bias_linear": not bias,
        "add_qkv_bias": bool(given.get("qkv_bias")),
        "untie_embeddings_and_output_weights": not given.get("share_embeddings_and_output_weights", True),
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


def _worth(word: str) -> Any:
    """The value of a flag: what follows it; true where that is another flag."""
    return _number(word) if word[:1].isalnum() or word.startswith("$") else True


def _number(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
