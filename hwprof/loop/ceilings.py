"""Against which ceilings is a loop held? Those of a saved calibration, or measured now; never assumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwprof.errors import InputError
from hwprof.measure.host.environment import device_name
from hwprof.measure.probes.device import TRAINED_DTYPES, probe_device
from hwprof.predict.ceilings.datasheet import datasheet_ceilings
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.measurement import Ceiling, Skipped
from hwprof.specs.record.calibration import Calibration, read_calibration

if TYPE_CHECKING:
    import torch

MEASURE = "measure"
_NONE_NOTE = (
    "no ceilings were given, so nothing is held against a roof of this machine: run `hwprof probe` once and pass "
    'ceilings="hwprof-calibration-<device>.json", or ceilings="measure" to spend some 15 seconds on it now'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCeilings:
    """Ceilings with where they are from, probes that could not run, and what to know about them."""

    ceilings: tuple[Ceiling, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def known_ceilings(
    source: str | Path | None, device: torch.device, spec: DeviceSpec | None, progress: Callable[[str], None]
) -> KnownCeilings:
    """The ceilings that a loop asks for, and the datasheet's beside them where the catalogue has the device.

    Args:
        source: ``"measure"``, a file that ``hwprof probe`` wrote, or None.
        device: where the loop runs.
        spec: its catalogue entry.
        progress: told what is measured.

    Raises:
        InputError: the file can't be read, is another device's or holds no ceilings.
    """
    datasheet = datasheet_ceilings(spec) if spec else ()
    if source is None:
        return KnownCeilings(ceilings=datasheet, notes=() if datasheet else (_NONE_NOTE,))
    if source == MEASURE:
        kind = "cuda" if device.type == "cuda" else "cpu"
        result = probe_device(device, dtypes=TRAINED_DTYPES[kind], quick=True, report=progress)
        return KnownCeilings(ceilings=(*result.ceilings, *datasheet), skipped=result.skipped)
    return _calibrated(Path(source), device, datasheet)


def _calibrated(path: Path, device: torch.device, datasheet: tuple[Ceiling, ...]) -> KnownCeilings:
    found = read_calibration(path)
    name = device_name(device)
    if found.device != name:
        raise InputError(
            f"{path} was measured on {found.device}, and the loop runs on {name}",
            expectation="ceilings hold for the device that they were measured on",
            remedy='run `hwprof probe` here, or pass ceilings="measure"',
        )
    if not found.ceilings:
        raise InputError(
            f"{path} holds no ceilings (status {found.status})",
            expectation="expected what `hwprof probe` writes as one process",
            remedy='run `hwprof probe` here, or pass ceilings="measure"',
        )
    ceilings = tuple(_from_file(ceiling, found, path) for ceiling in found.ceilings)
    return KnownCeilings(ceilings=(*ceilings, *datasheet), skipped=found.skipped)


def _from_file(ceiling: Ceiling, found: Calibration, path: Path) -> Ceiling:
    source = f"{ceiling.source}; {path.name} of {found.created}, torch {found.torch_version}"
    return ceiling.changed(origin="calibrated", source=source)
