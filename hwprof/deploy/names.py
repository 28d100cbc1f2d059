"""Which model does a name of a model hub stand for? The configurations that serving ships, then the catalogue."""

from __future__ import annotations

from pathlib import Path

from hwprof.deploy.config import read_config
from hwprof.deploy.model import ServedModel, served_model
from hwprof.errors import UnknownNameError
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.files import data_roots

FOLDER = Path("hardware_specs") / "serving" / "models"

ENDINGS = ("-instruct", "-fp8", "-nvfp4", "-fp4", "-bf16", "-it", "-base", "-thinking", "-0528", "-2507", "-mxfp4")
"""What names of checkpoints carry beside the model: how it was trained further, its format, its month."""


def known_model(name: str) -> ServedModel:
    """The model of a name, with or without its organisation and what a checkpoint adds.

    Raises:
        UnknownNameError: none is called so; its ``config.json`` can be given instead.
    """
    bare = name.strip().lower().rsplit("/", maxsplit=1)[-1]
    tried = [bare]
    while (shorter := next((tried[-1].removesuffix(end) for end in ENDINGS if tried[-1].endswith(end)), "")) != "":
        tried.append(shorter)
    for candidate in tried:
        for root in data_roots():
            path = root / FOLDER / f"{candidate}.json"
            if path.is_file():
                return read_config(path)
    for candidate in tried:
        try:
            return served_model(load_model(candidate))
        except UnknownNameError:
            continue
    return served_model(load_model(bare))
