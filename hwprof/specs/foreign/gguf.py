"""Which model does the header of a GGUF file describe? Told in the words of a ``config.json``.

The format: ggml/docs/gguf.md. Magic, version, numbers of tensors and of keys; then each key with its type and value.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

from hwprof.errors import SpecError
from hwprof.specs.foreign.kinds import Tables

MAGIC = b"GGUF"

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Code of a type -> how struct reads it."""
_TEXT, _LIST = 8, 9
_MOST = 1 << 28
"""More bytes of a text, or items of a list, are no header."""

_TYPES: dict[str, str] = {
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen2moe": "qwen2_moe",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "phi3": "phi3",
    "granite": "granite",
    "olmo2": "olmo2",
    "smollm3": "smollm3",
}
"""``general.architecture`` -> the ``model_type`` that it is."""

_KEYS: dict[str, str] = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "rope.freq_base": "rope_theta",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}
"""Key behind the architecture's name -> key of a ``config.json``."""


def values_of_gguf(path: Path) -> Tables:
    """Keys of a ``config.json`` of the same model.

    Raises:
        SpecError: the header is cut short, or of an architecture that is not read.
    """
    try:
        with path.open("rb") as file:
            held, names = _header(file)
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise SpecError(
            f"{path} is a GGUF file whose header is cut short or damaged",
            expectation="magic, version and all keys",
            remedy="give the whole file, or the config.json of the model that it was made from",
        ) from error
    architecture = str(held.get("general.architecture"))
    kind = _TYPES.get(architecture)
    if kind is None:
        raise SpecError(
            f"{path} is a GGUF file of architecture {architecture!r}, which is not read",
            expectation=f"known: {', '.join(_TYPES)}",
            remedy="give the config.json of the model that it was made from",
        )
    found: Tables = {
        ours: held[f"{architecture}.{theirs}"] for theirs, ours in _KEYS.items() if f"{architecture}.{theirs}" in held
    }
    found.setdefault("vocab_size", held.get("tokenizer.ggml.tokens"))
    if kind == "llama" and found.get("num_experts"):
        kind = "mixtral"
    elif kind == "llama":
        found.pop("num_experts", None)
        found.pop("num_experts_per_tok", None)
    if names:
        found["tie_word_embeddings"] = "output.weight" not in names
    return found | {"model_type": kind}


def _header(file: BinaryIO) -> tuple[Tables, frozenset[str]]:
    """All keys, lists as how long they are, and the names of the tensors."""
    file.read(len(MAGIC))
    (version,) = struct.unpack("<I", file.read(4))
    if version < 2:
        raise ValueError(f"version {version}")
    tensors, keys = struct.unpack("<QQ", file.read(16))
    held: Tables = {}
    for _ in range(keys):
        name = _text(file)
        held[name] = _value(file, struct.unpack("<I", file.read(4))[0])
    names = set()
    for _ in range(tensors):
        names.add(_text(file))
        (dimensions,) = struct.unpack("<I", file.read(4))
        file.read(8 * dimensions + 12)  # sizes, type, offset
    return held, frozenset(names)


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _TEXT:
        return _text(file)
    if kind == _LIST:
        inner, length = struct.unpack("<IQ", file.read(12))
        if length > _MOST:
            raise ValueError(f"list of {length}")
        items = [_value(file, inner) for _ in range(length)]
        same = inner != _TEXT and items and all(item == items[0] for item in items)
        return items[0] if same and len(items) < _LAYERS else length
    form = "<" + _NUMBERS[kind]
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


_LAYERS = 1024
"""A list no longer than this holds a number for each layer; where all are equal it is that number."""


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > _MOST:
        raise ValueError(f"text of {length} bytes")
    content = file.read(length)
    if len(content) < length:
        raise ValueError("cut short")
    return content.decode()
