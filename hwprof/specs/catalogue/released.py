"""What does the catalogue say of a model that it keeps as its released configuration?

Such a file is a ``config.json`` as transformers reads it, with one key of hwprof's own. Where a reader knows the type,
it is a model like any other of the catalogue; else it is captured when it is asked for.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from hwprof.errors import SpecError
from hwprof.specs.frozen import Record
from hwprof.specs.model.parts import PositiveInt
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.parsing import build
from hwprof.specs.reading import json_of

KEY = "_hwprof"


class Released(Record):
    """What is known of a released configuration beside its own keys.

    Attributes:
        family: the models that it belongs to.
        aliases: other names of the catalogue.
        parameters: of transformers' class, made without weights.
        stated_parameters: as published.
        stated_active_parameters: as published, of those that a token meets.
        notes: what the numbers do not say.
        source: where each number was read.
    """

    family: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()
    parameters: PositiveInt
    stated_parameters: PositiveInt | None = None
    stated_active_parameters: PositiveInt | None = None
    notes: str = ""
    source: dict[str, str] = Field(min_length=1)


def released(path: Path) -> Released:
    """What the file at ``path`` says of itself.

    Raises:
        SpecError: it is no JSON, or does not say it.
    """
    values = json_of(path, error=SpecError, remedy="correct the file")
    about = values.get(KEY) if isinstance(values, dict) else None
    if not isinstance(about, dict):
        raise SpecError(
            f"{path}: key {KEY!r} is missing",
            expectation="a configuration in the catalogue says its family, parameters and source there",
            remedy="add it, or give the file by its path",
        )
    return build(Released, about, path=path, example="qwen3-next-80b-a3b")


def described(path: Path) -> ModelSpec:
    """The model of a released configuration whose type a reader knows.

    Raises:
        SpecError: none does.
    """
    from hwprof.specs.huggingface import model_from_config

    about, spec = released(path), model_from_config(path)
    notes = f"{spec.notes} {about.notes}".strip()
    known = {name: value for name, value in about if name not in {"parameters", "notes"}}
    return spec.changed(**known, notes=notes)
