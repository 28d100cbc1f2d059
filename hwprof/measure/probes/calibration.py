"""What of a probe is saved? Its results with the machine, the software and the time that they depend on."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import torch

from hwprof.measure.host.environment import device_name, environment
from hwprof.measure.links.link_probe import LinkResult
from hwprof.measure.probes.device import ProbeResult
from hwprof.measure.world import World
from hwprof.specs.record.calibration import Calibration, CalibrationStatus
from hwprof.version import __version__


def calibration(device: torch.device, result: ProbeResult, *, quick: bool, complete: bool) -> Calibration:
    """The ceilings that were measured on a device, dated now."""
    return Calibration(
        status="complete" if complete else "interrupted",
        quick=quick,
        ceilings=result.ceilings,
        skipped=result.skipped,
        **_provenance(device),
    )


def link_calibration(
    world: World, result: LinkResult, *, quick: bool, status: CalibrationStatus, note: str = ""
) -> Calibration:
    """What was measured between the ranks, dated now."""
    return Calibration(
        status=status,
        status_note=note,
        quick=quick,
        world_size=world.size,
        backend=world.library,
        collectives=result.collectives,
        pairs=result.pairs,
        slowdowns=result.slowdowns,
        topology=result.topology,
        skipped=result.skipped,
        **_provenance(world.device),
    )


def _provenance(device: torch.device) -> dict[str, Any]:
    facts = environment(device)
    return {
        "hwprof_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(device),
        "torch_version": torch.__version__,
        "driver": facts.get("driver", "none: a CPU needs no driver"),
        "environment": facts,
    }


def default_file_name(device: torch.device, *, ranks: int = 1, nodes: int = 1) -> str:
    """``hwprof-calibration-<device>.json``, the device's name in lower case with dashes.

    With several ranks ``hwprof-links-<device>-<ranks per node>x<nodes>.json``.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-")
    return f"hwprof-links-{slug}-{ranks // nodes}x{nodes}.json" if ranks > 1 else f"hwprof-calibration-{slug}.json"
