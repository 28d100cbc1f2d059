"""What does ``hwprof probe`` leave behind? A machine's ceilings and links with all that they depend on, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from hwprof.errors import InputError
from hwprof.specs.frozen import Record
from hwprof.specs.hardware.topology import Topology
from hwprof.specs.measurement import Ceiling, Skipped
from hwprof.specs.reading import json_of
from hwprof.specs.record.collective import CollectiveCurve, PairRate, Slowdown

CALIBRATION_SCHEMA_VERSION = 1
CalibrationStatus = Literal["complete", "interrupted", "failed"]


class Calibration(Record):
    """The contents of a calibration file.

    ``status`` says whether the probe came to its end; if not, the file holds what was measured until then. One process
    measures ``ceilings``; several ranks measure ``collectives`` between them, ``pairs`` and ``slowdowns``.
    """

    schema_version: int = CALIBRATION_SCHEMA_VERSION
    hwprof_version: str
    status: CalibrationStatus
    status_note: str = ""
    created: str
    device: str
    torch_version: str
    driver: str
    quick: bool
    world_size: int = 1
    backend: str = ""
    ceilings: tuple[Ceiling, ...] = ()
    collectives: tuple[CollectiveCurve, ...] = ()
    pairs: tuple[PairRate, ...] = ()
    slowdowns: tuple[Slowdown, ...] = ()
    topology: Topology | None = None
    skipped: tuple[Skipped, ...] = ()
    environment: dict[str, str]

    def to_json(self) -> str:
        """The file's text."""
        return self.model_dump_json(indent=2) + "\n"


def read_calibration(path: Path) -> Calibration:
    """The calibration in a file that ``hwprof probe`` wrote.

    Raises:
        InputError: it can't be read, or holds something else.
    """
    remedy = "give a file that `hwprof probe` wrote"
    content = json_of(path, remedy=remedy)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != CALIBRATION_SCHEMA_VERSION:
        raise InputError(
            f"{path} is no calibration of schema version {CALIBRATION_SCHEMA_VERSION} (found {version})", remedy=remedy
        )
    try:
        return Calibration.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path} is no calibration: {place}: {first['msg']}", remedy=remedy) from error
