"""How does a probe go from its options to a calibration? Of one device, or of the links between ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from hwprof.errors import InputError
from hwprof.measure.host.accelerator import table_of
from hwprof.measure.host.environment import resolve_device
from hwprof.measure.lifeline import Lifeline
from hwprof.measure.links.link_probe import LinkResult, probe_links
from hwprof.measure.probes.calibration import calibration, default_file_name, link_calibration
from hwprof.measure.probes.device import ProbeResult, probe_device
from hwprof.measure.signs import Blame
from hwprof.measure.timing import timer_for
from hwprof.measure.world import close_world, open_world
from hwprof.session.caller import Caller
from hwprof.session.request import ProbeRequest
from hwprof.specs.files import write_atomically
from hwprof.specs.record.calibration import Calibration
from hwprof.specs.record.run import Dtype
from hwprof.specs.record.saved_calls import call_name, saved_calls

_DEFAULT_DTYPES: dict[str, tuple[Dtype, ...]] = {"cpu": ("fp32", "bf16", "fp16"), "cuda": get_args(Dtype)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What was measured, and the file that it was saved in."""

    calibration: Calibration
    path: Path


def probe_alone(request: ProbeRequest, caller: Caller) -> Probed:
    """Measure the ceilings of one device and save them.

    Raises:
        InputError: the device can't be had, or the folder is not there.
        KeyboardInterrupt: the user stopped the probe; what was measured is saved.
    """
    device = resolve_device(request.device)
    path = Path(request.output or default_file_name(device))
    if not path.parent.is_dir():
        raise InputError(
            f"there is no folder {path.parent}", expectation="--output names a file in a folder", remedy="create it"
        )
    dtypes = request.dtypes or _DEFAULT_DTYPES[table_of(device)]
    saved = [saved_calls(Path(folder)) for folder in request.emulations]
    calls = {call_name(call): call for found, _ in saved for call in found}
    so_far = [ProbeResult()]
    try:
        probe_device(
            device,
            dtypes=dtypes,
            calls=tuple(calls.values()),
            steps=[step for _, steps in saved for step in steps],
            quick=request.quick,
            report=caller.progress,
            on_result=so_far.append,
        )
    except KeyboardInterrupt:
        if so_far[-1].ceilings:
            _saved(calibration(device, so_far[-1], quick=request.quick, complete=False), path)
            caller.told(f"what was measured is in {path}")
        raise
    return _saved(calibration(device, so_far[-1], quick=request.quick, complete=True), path)


def probe_ranks(request: ProbeRequest, caller: Caller) -> Probed | None:
    """Measure the links between all ranks, of which this process is one; rank 0 saves them and returns what they are.

    When any rank fails this does not return: the lowest living rank saves what is there and tells its caller, and all
    processes leave.

    Raises:
        InputError: the device can't be had.
        WorkError: the ranks did not find each other.
    """
    world = open_world(request.device, timeout_s=request.timeout_s)
    path = Path(request.output or default_file_name(world.device, ranks=world.size, nodes=world.nodes))
    so_far = [LinkResult()]

    def report(blame: Blame, _handed_in: Mapping[int, str]) -> None:
        kept = ""
        if so_far[-1].collectives:
            _saved(link_calibration(world, so_far[-1], quick=request.quick, status="failed", note=blame.text), path)
            kept = f"; what was measured is in {path}"
        caller.told(f"{blame.text}{kept}")

    def said(text: str) -> None:
        lifeline.stage(text)
        caller.progress(text)

    lifeline = Lifeline(world, salvage=lambda: "", report=report, stuck_s=request.timeout_s)
    lifeline.start()
    try:
        result = probe_links(world, timer_for(world.device), quick=request.quick, report=said, on_result=so_far.append)
    except BaseException as error:  # noqa: BLE001 (whatever ends this rank ends the others, who must be told)
        lifeline.fail(error)
    lifeline.finish()
    found: Probed | None = None
    if world.rank == 0:
        found = _saved(link_calibration(world, result, quick=request.quick, status="complete"), path)
    close_world()
    return found


def _saved(found: Calibration, path: Path) -> Probed:
    write_atomically(path, found.to_json())
    return Probed(calibration=found, path=path)
