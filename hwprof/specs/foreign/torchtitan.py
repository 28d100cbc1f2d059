"""Which model does a job of torchtitan train? Its model and flavor stand for one of the catalogue."""

from __future__ import annotations

import re
from pathlib import Path

from hwprof.errors import InputError, SpecError
from hwprof.specs.foreign.kinds import Tables

FLAVORS: dict[tuple[str, str], str] = {
    ("llama3", "8B"): "llama-3.1-8b",
    ("llama3", "70B"): "llama-3.1-70b",
    ("llama3", "405B"): "llama-3.1-405b",
    ("llama4", "17bx16e"): "llama-4-scout",
    ("llama4", "17bx128e"): "llama-4-maverick",
    ("deepseek_v3", "16B"): "deepseek-v2-lite",
    ("deepseek_v3", "236B"): "deepseek-v2",
    ("deepseek_v3", "671B"): "deepseek-v3",
    ("qwen3", "0.6B"): "qwen3-0.6b",
    ("qwen3", "1.7B"): "qwen3-1.7b",
    ("qwen3", "4B"): "qwen3-4b",
    ("qwen3", "8B"): "qwen3-8b",
    ("qwen3", "14B"): "qwen3-14b",
    ("qwen3", "32B"): "qwen3-32b",
    ("qwen3", "30B-A3B"): "qwen3-30b-a3b",
    ("qwen3", "235B-A22B"): "qwen3-235b-a22b",
}
"""Model and flavor (torchtitan/models/*/__init__.py, 0.2) -> the model of the catalogue with the same dimensions."""


NAMED = "torchtitan:"
"""Before a model and a flavor (``torchtitan:llama3:8B``), or what makes a job of them (``torchtitan:llama3_8b``)."""


def flavor_named(text: str) -> str:
    """The catalogue's name of ``torchtitan:MODEL:FLAVOR``; case, dots, lines and colons do not matter.

    Raises:
        InputError: no such flavor is known.
    """
    asked = _plain(text.removeprefix(NAMED))
    for (name, flavor), found in FLAVORS.items():
        if asked in {_plain(name + flavor), _plain(name + name + flavor)}:
            return found
    raise InputError(
        f"torchtitan's {text.removeprefix(NAMED)!r} is not known",
        expectation=f"known are {', '.join(f'{NAMED}{name}:{flavor}' for name, flavor in FLAVORS)}",
        remedy="give the model itself: a catalogue name, a TOML file or a config.json",
    )


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def flavor_of(values: Tables, path: Path) -> str | None:
    """The catalogue's name of the model; None where it is no such file.

    Raises:
        SpecError: it is one, of a model that is not known.
    """
    model = values.get("model")
    if not isinstance(model, dict) or not {"job", "training", "parallelism"} & values.keys():
        return None
    name, flavor = str(model.get("name", "")), str(model.get("flavor", ""))
    found = FLAVORS.get((name, flavor))
    if found is None:
        known = ", ".join(f"{name} {flavor}" for name, flavor in FLAVORS)
        raise SpecError(
            f"{path} is a job of torchtitan that trains {name or 'no model'} {flavor}".rstrip(),
            expectation=f"flavors that are known: {known}",
            remedy="give the model itself: a catalogue name, a TOML file or a config.json",
        )
    return found
