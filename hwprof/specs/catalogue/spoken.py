"""Which catalogue name do people mean who write it in another way? The same letters, or words of one alone."""

from __future__ import annotations

import re
from pathlib import Path

from hwprof.specs.catalogue.shelves import Sort, claims_of, files_of
from hwprof.specs.parsing import read_toml

_MAKERS = ("nvidia", "geforce", "tesla", "amd", "instinct", "radeon", "intel", "google", "apple", "macbook")
_BRANDS = frozenset({*_MAKERS, "graphics", "gpu", "gpus", "card", "cards"})
"""Words that stand beside a device's name."""

_FLAVOURS = re.compile(
    r"-(hf|instruct|base|chat|it|pt|text|preview|thinking|think|reasoning|sft|dpo|fp8|bf16|nvfp4|mxfp4|[0-9]{4})$"
)
"""What a Hugging Face name adds to that of an architecture: how it was trained further, its format, its month."""


def spoken_file(sort: Sort, name: str) -> Path | None:
    """The one file of which an id, an alias or a driver's name has the letters and digits of ``name``; None = no one.

    A model's name may stand behind its organisation (``meta-llama/Llama-3.1-8B-Instruct``), a device's behind its brand
    (``NVIDIA GeForce RTX 4090``). Where no name has all the letters, a device is meant whose words hold all that was
    typed, if it is the only one: ``orin nano``, ``mi355``.
    """
    claims = {path: _claimed(sort, path) for path in files_of(sort)}
    for wanted in _keys(sort, name):
        found = [path for path, keys in claims.items() if wanted in keys]
        named = [path for path in found if wanted in {_key(sort, claim) for claim in claims_of(path, sort)}]
        if found:  # several devices may have one driver's name; an id or an alias is of one
            return found[0] if len(found) == 1 else named[0] if len(named) == 1 else None
    meant = meant_files(sort, name)
    if len(meant) == 1 and _only_describes(meant[0], name):
        return meant[0]
    sized = _SIZED.fullmatch(name.strip()) if sort == "device" else None
    return _with_memory(spoken_file(sort, sized[1]), sized[2]) if sized else None


_SIZED = re.compile(r"(.*\S)[\s(-]+([0-9]+)\s*gi?b?\)?", re.IGNORECASE)
"""A device's name and its memory: ``RTX 4090 24GB``."""


def _with_memory(path: Path | None, size: str) -> Path | None:
    """The device, if it is sold with so many GB."""
    sold = str(read_toml(path).get("memory", {}).get("sold_as", "")) if path else ""
    return path if sold.split(" ")[0] == size else None


def meant_files(sort: Sort, name: str) -> list[Path]:
    """Devices whose words hold all that were typed; a word may lack letters at its end, never digits."""
    typed = _words(name) if sort == "device" else []
    if len(typed) < 2 and not any(character.isdigit() for word in typed for character in word):
        return []
    return [path for path in files_of(sort) if any(_holds(words, typed) for words in _worded(sort, path))]


_DESCRIPTIVE = re.compile(r"[0-9]+gb|[0-9]+c|sxm[0-9]?|pcie|rtx|rx|arc|jetson|tpu|cpu|epyc|xeon|max-q")
"""Words that tell how much memory, which slot or which family; ``ti`` or ``super`` are another device."""


def _only_describes(path: Path, name: str) -> bool:
    """Whether the words of a device that were not typed make no other device of it."""
    typed = _words(name)
    return any(
        all(any(_holds([word], [each]) for each in typed) or _DESCRIPTIVE.fullmatch(word) for word in words)
        for words in _worded("device", path)
        if _holds(words, typed)
    )


def _worded(sort: Sort, path: Path) -> list[list[str]]:
    names = read_toml(path).get("names", [])
    return [_words(str(claim)) for claim in (*claims_of(path, sort), *names)]


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\s_-]+", name.strip().lower()) if word and word not in _BRANDS]


def _holds(words: list[str], typed: list[str]) -> bool:
    return all(any(word.startswith(each) and not word[len(each) :][:1].isdigit() for word in words) for each in typed)


def _claimed(sort: Sort, path: Path) -> set[str]:
    names = read_toml(path).get("names", []) if sort == "device" else []
    return {_key(sort, str(claim)) for claim in (*claims_of(path, sort), *names)}


def _keys(sort: Sort, name: str) -> list[str]:
    """The name, and without what its last words may add, one after another."""
    if sort != "model":
        key = _key(sort, name)
        return [key, key[:-1]] if re.search(r"[0-9]s$", key) else [key]  # H100s are several, L40S is another
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
