"""What was measured on a machine? Read from calibrations of ``hwprof probe`` and from folders of ``hwprof run``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwprof.errors import InputError
from hwprof.report.files.run import RECORD_FILE, read_run
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.calibration import read_calibration
from hwprof.specs.record.collective import CollectiveCurve, Slowdown


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Of one device.

    Attributes:
        device: its name, as the machine says it.
        ceilings: those that were measured; of several of one name the last.
        collectives, slowdowns: between ranks.
        environment: of the first file.
        source: the files, in words.
    """

    device: str
    ceilings: tuple[Ceiling, ...]
    collectives: tuple[CollectiveCurve, ...]
    slowdowns: tuple[Slowdown, ...]
    environment: Mapping[str, str]
    source: str

    @property
    def on_cpu(self) -> bool:
        """Whether the device is the host's processor."""
        return self.device == self.environment.get("cpu.model")

    def value(self, name: str) -> float | None:
        """Of a ceiling; None where it was not measured."""
        return next((each.value for each in self.ceilings if each.name == name), None)


def read_measured(paths: Sequence[Path]) -> Measured:
    """What calibrations and runs say together.

    Raises:
        InputError: one can't be read, or they are of several devices.
    """
    parts = [_part(path) for path in paths]
    names = dict.fromkeys(part.device for part in parts)
    if len(names) > 1:
        raise InputError(
            f"the calibrations are of {' and of '.join(names)}",
            expectation="expected files of one device",
            remedy="name those of one machine",
        )
    by_name = {each.name: each for part in parts for each in part.ceilings}
    return Measured(
        device=parts[0].device,
        ceilings=tuple(by_name.values()),
        collectives=tuple(curve for part in parts for curve in part.collectives),
        slowdowns=tuple(each for part in parts for each in part.slowdowns),
        environment=parts[0].environment,
        source=", ".join(part.source for part in parts),
    )


def _part(path: Path) -> Measured:
    if path.is_dir() or path.name == RECORD_FILE:
        record = read_run(path)
        found = [each for each in record.ceilings if each.origin == "measured"]
        return Measured(
            device=record.device.name,
            ceilings=tuple(found),
            collectives=record.ranks.links if record.ranks else (),
            slowdowns=record.ranks.slowdowns if record.ranks else (),
            environment=record.environment,
            source=str(path),
        )
    kept = read_calibration(path)
    return Measured(
        device=kept.device,
        ceilings=kept.ceilings,
        collectives=kept.collectives,
        slowdowns=kept.slowdowns,
        environment=kept.environment,
        source=str(path),
    )
