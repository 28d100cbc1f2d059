"""Which catalogue name do people mean who write it in another way? The same letters and digits, never a near miss."""

from __future__ import annotations

import re
from pathlib import Path

from hwprof.specs.catalogue.shelves import Sort, claims_of, files_of
from hwprof.specs.parsing import read_toml

_BRANDS = frozenset({"nvidia", "geforce", "tesla", "amd", "instinct", "radeon", "intel", "google", "apple", "graphics"})
"""Words that stand before a device's name."""

_FLAVOURS = re.compile(
    r"-(hf|instruct|base|chat|it|pt|text|preview|thinking|think|reasoning|sft|dpo|fp8|bf16|nvfp4|mxfp4|[0-9]{4})$"
)
"""What a Hugging Face name adds to that of an architecture: how it was trained further, its format, its month."""


def spoken_file(sort: Sort, name: str) -> Path | None:
    """The one file of which an id, an alias or a driver's name has the letters and digits of ``name``; None = no one.

    A model's name may stand behind its organisation (``meta-llama/Llama-3.1-8B-Instruct``), a device's behind its brand
    (``NVIDIA GeForce RTX 4090``).
    """
    claims = {path: _claimed(sort, path) for path in files_of(sort)}
    for wanted in _keys(sort, name):
        found = [path for path, keys in claims.items() if wanted in keys]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _claimed(sort: Sort, path: Path) -> set[str]:
    names = read_toml(path).get("names", []) if sort == "device" else []
    return {_key(sort, str(claim)) for claim in (*claims_of(path, sort), *names)}


def _keys(sort: Sort, name: str) -> list[str]:
    """The name, and without what its last words may add, one after another."""
    if sort != "model":
        return [_key(sort, name)]
    words = [name.strip().lower().rstrip("/").rpartition("/")[2]]
    while (shorter := _FLAVOURS.sub("", words[-1])) != words[-1]:
        words.append(shorter)
    words.append(words[-1].removeprefix("meta-"))
    return [_key(sort, each) for each in words]


def _key(sort: Sort, name: str) -> str:
    """Letters, digits and dots alone."""
    words = re.split(r"[\s_-]+", name.strip().lower())
    if sort == "device":
        words = [word for word in words if word not in _BRANDS]
    return re.sub(r"[^a-z0-9.]", "", "".join(words))
