"""Against which ceilings is a loop held? Those of a saved calibration, or measured now; never assumed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from hwprof.errors import InputError, WorkError
from hwprof.measure.host.accelerator import table_of
from hwprof.measure.host.environment import device_name
from hwprof.measure.probes.calibration import calibration, default_file_name
from hwprof.measure.probes.device import TRAINED_DTYPES, ProbeResult, probe_device
from hwprof.measure.world import launched
from hwprof.predict.ceilings.datasheet import datasheet_ceilings
from hwprof.specs.files import cache_folder, write_atomically
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.measurement import Ceiling, Skipped
from hwprof.specs.record.calibration import Calibration, read_calibration

MEASURE = "measure"
DATASHEET = "datasheet"
VARIABLE = "HWPROF_CEILINGS"
"""The environment's word for what is not said in the program."""
_NONE_NOTE = (
    "no ceilings are known of this machine, so nothing is held against a roof of it: leave ceilings= out, and they are "
    "measured once, in some 15 seconds"
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
        source: ``"measure"``, ``"datasheet"``, a file that ``hwprof probe`` wrote, or None for what was measured here
            before, else measured now and kept for the next time.
        device: where the loop runs.
        spec: its catalogue entry.
        progress: told what is measured.

    Raises:
        InputError: the file can't be read, is another device's or holds no ceilings.
    """
    datasheet = datasheet_ceilings(spec) if spec else ()
    source = source or os.environ.get(VARIABLE) or None
    if source == DATASHEET:
        return KnownCeilings(ceilings=datasheet, notes=() if datasheet else (_NONE_NOTE,))
    if source == MEASURE:
        result = _measured(device, progress)
        return KnownCeilings(ceilings=(*result.ceilings, *datasheet), skipped=result.skipped)
    if source is None:
        return _remembered(device, datasheet, progress)
    return _calibrated(Path(source), device, datasheet)


def _measured(device: torch.device, progress: Callable[[str], None]) -> ProbeResult:
    dtypes = TRAINED_DTYPES[table_of(device)]
    return probe_device(device, dtypes=dtypes, peers=not launched(), quick=True, report=progress)


def _remembered(device: torch.device, datasheet: tuple[Ceiling, ...], progress: Callable[[str], None]) -> KnownCeilings:
    """What ``hwprof probe`` left in this folder, else what was kept of an earlier measurement, else one made now.

    Of several processes one measures, and the others wait for what it finds.
    """
    here = Path(default_file_name(device))
    if here.is_file():
        return _calibrated(here, device, datasheet)
    kept = kept_file(device)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with kept.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_good(kept):
                progress("measuring the ceilings of this machine, once: some 15 seconds")
                found = calibration(device, _measured(device, progress), quick=True, complete=True)
                write_atomically(kept, found.to_json())
    except (OSError, WorkError) as error:
        note = f"ceilings could not be kept in {kept.parent} ({error}), so they are the datasheet's"
        return KnownCeilings(ceilings=datasheet, notes=(note,))
    return _calibrated(kept, device, datasheet)


def _is_good(kept: Path) -> bool:
    """Whether a file of ours can be read still."""
    try:
        return bool(read_calibration(kept).ceilings)
    except InputError:
        return False


def kept_file(device: torch.device) -> Path:
    """Where ceilings of this machine are kept for this user: by device, its threads, and torch."""
    name = default_file_name(device).removesuffix(".json")
    return cache_folder() / f"{name}-{torch.get_num_threads()}-threads-torch-{torch.__version__}.json"


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
