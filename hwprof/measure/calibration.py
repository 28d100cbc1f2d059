"""What does ``hwprof probe`` leave behind? A device's ceilings with all that they depend on, in one file."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal

import torch

import hwprof
from hwprof.measure.environment import device_name, environment
from hwprof.measure.probe import ProbeResult
from hwprof.specs.measurement import Ceiling, Skipped
from hwprof.specs.record import Record

CALIBRATION_SCHEMA_VERSION = 1


class Calibration(Record):
    """The contents of a calibration file. ``interrupted`` holds what was measured until then."""

    schema_version: int = CALIBRATION_SCHEMA_VERSION
    hwprof_version: str
    status: Literal["complete", "interrupted"]
    created: str
    device: str
    torch_version: str
    driver: str
    quick: bool
    ceilings: tuple[Ceiling, ...]
    skipped: tuple[Skipped, ...]
    environment: dict[str, str]

    def to_json(self) -> str:
        """The file's text."""
        return self.model_dump_json(indent=2) + "\n"


def calibration(device: torch.device, result: ProbeResult, *, quick: bool, complete: bool) -> Calibration:
    """What was measured on a device, dated now."""
    facts = environment(device)
    return Calibration(
        hwprof_version=hwprof.__version__,
        status="complete" if complete else "interrupted",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        device=device_name(device),
        torch_version=torch.__version__,
        driver=facts.get("driver", "none: a CPU needs no driver"),
        quick=quick,
        ceilings=result.ceilings,
        skipped=result.skipped,
        environment=facts,
    )


def default_file_name(device: torch.device) -> str:
    """``hwprof-calibration-<device>.json``, the device's name in lower case with dashes."""
    slug = re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-")
    return f"hwprof-calibration-{slug}.json"
