"""Which model does a file of another tool describe? Those that hold an architecture are read, the others named."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hwprof.errors import SpecError
from hwprof.specs.foreign.companions import COMPANIONS, listed, refusal_of_text
from hwprof.specs.foreign.gguf import MAGIC, values_of_gguf
from hwprof.specs.foreign.kinds import BESIDE, EXPECTED, NO_MODELS, Kind, Tables
from hwprof.specs.foreign.litgpt import is_litgpt, values_of_litgpt
from hwprof.specs.foreign.megatron import is_megatron, is_megatron_text, tables_of_megatron, tables_of_text
from hwprof.specs.foreign.params import is_params, values_of_params
from hwprof.specs.foreign.torchtitan import flavor_of
from hwprof.specs.huggingface import model_from_values
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.parsing import build
from hwprof.specs.reading import check_bounded

IN_FOLDERS = (
    "config.json",
    "params.json",
    "model_config.yaml",
    "adapter_config.json",
    "adapters.json",
    "open_clip_config.json",
    "modules.json",
    "model_index.json",
    "model.safetensors.index.json",
    "generation_config.json",
    "tokenizer_config.json",
)
"""What says of a folder which model is in it, best first."""

_SUFFIXES = frozenset({".json", ".yaml", ".yml", ".toml", ".gguf", ".txt", ".sh", ".args"})


def file_in(folder: Path) -> Path | None:
    """The file of a folder that says which model it holds; None where there is none."""
    for name in IN_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    return next(iter(sorted(folder.glob("*.gguf"))), None) if folder.is_dir() else None


def foreign_model(path: Path, named: Callable[[str], ModelSpec]) -> ModelSpec | None:
    """The model of a file of another tool; None where it is none of those that are known.

    Args:
        path: the file.
        named: from a name of the catalogue to its model.

    Raises:
        SpecError: it describes no model, or one that can't be read; it says what to give instead.
    """
    if not path.is_file():
        return None
    if _is_gguf(path):
        return model_from_values(values_of_gguf(path), path=path)
    unread = refusal_of_text(path)
    if unread is not None:
        raise SpecError(f"{path} is {unread[0]}", expectation=EXPECTED, remedy=unread[1])
    if path.suffix.lower() not in _SUFFIXES:
        return None
    values = _values(path)
    check_bounded(values, path, error=SpecError, remedy="correct the file")
    if isinstance(values, str):
        return _built(tables_of_text(values, path), path) if is_megatron_text(values) else None
    if isinstance(values, list) and any(isinstance(each, dict) for each in values):
        raise SpecError(f"{path} is {listed(values)}", expectation=EXPECTED, remedy=BESIDE)
    if not isinstance(values, dict) or ("model_type" in values and path.name != "params.json"):
        return None  # the latter is a config.json of transformers
    found = _of_tables(values, path, named)
    if found is None and path.suffix.lower() in {".yaml", ".yml"}:
        raise SpecError(f"{path} is YAML of no kind that is known", expectation=EXPECTED, remedy=_KNOWN_YAML)
    return found


_KNOWN_YAML = (
    "read as YAML are litgpt's model_config.yaml and Megatron's arguments; of another model give the config.json"
)


def _of_tables(values: Tables, path: Path, named: Callable[[str], ModelSpec]) -> ModelSpec | None:
    _refuse(NO_MODELS, values, path)
    for holds, values_of in _AS_CONFIG:
        if holds(values):
            return model_from_values(values_of(values, path), path=path)
    if is_megatron(values):
        return _built(tables_of_megatron(values, path), path)
    flavor = flavor_of(values, path)
    if flavor is not None:
        return named(flavor)
    if path.suffix.lower() != ".toml":
        _refuse(COMPANIONS, values, path)
    return None


def _refuse(kinds: tuple[Kind, ...], values: Tables, path: Path) -> None:
    refusal = next((kind for kind in kinds if kind.holds(values)), None)
    if refusal is not None:
        fact, remedy = f"{path} is {refusal.what(values)}", refusal.remedy(values)
        raise SpecError(fact, expectation=refusal.expectation, remedy=remedy)


_AS_CONFIG: tuple[tuple[Callable[[Tables], bool], Callable[[Tables, Path], Tables]], ...] = (
    (is_params, values_of_params),
    (is_litgpt, values_of_litgpt),
)
"""Files that are told in the words of a ``config.json``: whether keys are of one, and how they are told."""


def _built(tables: Tables, path: Path) -> ModelSpec:
    return build(ModelSpec, tables, path=path, example="tiny")


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _values(path: Path) -> Tables | str | Any:
    """What a file holds: of JSON, TOML and YAML its keys, of anything else its text."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            return json.loads(text)
        if suffix == ".toml":
            return tomllib.loads(text)
        if suffix in {".yaml", ".yml"}:
            return _yaml(path, text)
    except (ValueError, RecursionError):
        return None
    return text


def _yaml(path: Path, text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{path} is not YAML: {error}", remedy="correct the file at that place") from error
