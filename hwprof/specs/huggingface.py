"""How does a Hugging Face ``config.json`` become a model?"""

from __future__ import annotations

from pathlib import Path

from hwprof.errors import SpecError
from hwprof.specs.model import ModelSpec


def model_from_config(path: Path) -> ModelSpec:
    """The model that ``config.json`` at ``path`` describes.

    Raises:
        SpecError: always, for now: the import of these files is not there yet.
    """
    keys = ", ".join(name for name, field in ModelSpec.model_fields.items() if field.is_required())
    raise SpecError(
        f"{path} is a JSON configuration, and their import is not supported yet",
        expectation=f"expected a TOML file with the keys {keys}",
        remedy="start one with `hwprof specs show tiny > mine.toml`",
    )
