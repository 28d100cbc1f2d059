"""Do the servers of a row draft tokens ahead? Where it does not say, what is known of its campaign."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from hwprof.deploy.engine import EngineName
from hwprof.specs.files import data_roots
from hwprof.specs.frozen import Record
from hwprof.specs.parsing import build, read_toml

FILE = Path("hardware_specs") / "serving" / "campaigns.toml"

COLUMNS = ("speculative", "spec_decoding", "drafts")
"""Columns that say it: empty, none, 0, off or a word for how."""

OFF = frozenset({"none", "0", "no", "off", "false", "stp"})


class Campaign(Record):
    """Measurements whose servers drafted.

    Attributes:
        engine: of the servers.
        models: how the names of the models begin, without the organisation, in lower case.
        mode: aggregated or not.
        measured_on: days.
        source: who says so.
    """

    engine: EngineName
    models: tuple[str, ...]
    mode: str
    measured_on: tuple[str, ...]
    source: str


class Mixed(Record):
    """Measurements of which some servers drafted and others did not, and none says which.

    Attributes:
        engine: of the servers.
        mode: aggregated or not.
        versions: how the engine's versions begin.
        source: who says so.
    """

    engine: EngineName
    mode: str
    versions: tuple[str, ...]
    source: str


class Campaigns(Record):
    """All that are known."""

    drafted: tuple[Campaign, ...]
    mixed: tuple[Mixed, ...]


@functools.lru_cache(maxsize=1)
def campaigns() -> Campaigns:
    """The campaigns of the data folder.

    Raises:
        SpecError: the file is not there, or wrong.
    """
    path = data_roots()[0] / FILE
    return build(Campaigns, read_toml(path), path=path, example="h100-sxm")


def perhaps_drafted(row: Mapping[str, str], engine: EngineName) -> bool:
    """Whether nobody knows if the servers of a row drafted."""
    if any(row.get(name) for name in COLUMNS):
        return False
    version = row.get("backend_version", "")
    alike = (one for one in campaigns().mixed if one.engine == engine and one.mode == row["mode"])
    return any(version.startswith(one.versions) for one in alike)


def drafted(row: Mapping[str, str], engine: EngineName) -> tuple[bool, str]:
    """Whether tokens are drafted, and a note where that is not the row's own word."""
    said = next((row[name].lower() for name in COLUMNS if row.get(name)), "")
    if said:
        return said not in OFF, ""
    model = row["model_path"].lower().rsplit("/", maxsplit=1)[-1]
    for one in campaigns().drafted:
        here = one.engine == engine and one.mode == row["mode"] and row.get("measured_on", "") in one.measured_on
        if here and model.startswith(one.models):
            return True, "tokens are drafted ahead, as in others of this campaign"
    return False, ""
