"""Which model does a name of a model hub stand for? The configurations that serving ships, then the catalogue."""

from __future__ import annotations

from pathlib import Path

from hwprof.deploy.config import read_config
from hwprof.deploy.model import ServedModel, served_model
from hwprof.errors import InputError, UnknownNameError
from hwprof.specs.catalogue.lookup import config_file, load_model
from hwprof.specs.catalogue.released import released
from hwprof.specs.files import data_roots
from hwprof.specs.huggingface import READ_WHOLE, model_type_of

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
        kept = config_file(candidate)
        if kept is not None and model_type_of(kept) not in READ_WHOLE:
            return _as_published(kept)
        try:
            return served_model(load_model(candidate))
        except UnknownNameError:
            continue
    return served_model(load_model(bare))


_OF_TOWERS = 0.1
"""Share of a model's weights that may be in its towers: a server's text model has the rest."""


def _as_published(path: Path) -> ServedModel:
    """The model of a released configuration, if it has as many weights as its class."""
    model, known = read_config(path), released(path).parameters
    if abs(model.parameters / known - 1) > _OF_TOWERS:
        raise InputError(
            f"{path.stem} has layers that are not among those of servers: it would have {model.parameters / 1e9:.4g} G "
            f"parameters, not {known / 1e9:.4g} G",
            expectation="attention, states or experts in each layer",
            remedy="have it captured: pip install 'hwprof[transformers]'",
        )
    return model
