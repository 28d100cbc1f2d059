"""What does ``hwprof doctor --format json`` print? One line for each thing that hwprof can use."""

from __future__ import annotations

from typing import Literal

from hwprof.specs.frozen import Record

DOCTOR_SCHEMA_VERSION = 1

COUNTERS_REFUSED = "only for administrators (ERR_NVGPUCTRPERM)"
COUNTERS_REMEDY = (
    "put `options nvidia NVreg_RestrictProfilingToAdminUsers=0` into /etc/modprobe.d/nvidia-profiling.conf, "
    "rebuild the initramfs and reboot; in a container: --cap-add=SYS_ADMIN"
)
"""What to do where the driver lets nobody but administrators read a GPU's performance counters
(https://developer.nvidia.com/ERR_NVGPUCTRPERM)."""

CheckStatus = Literal["ok", "limited", "missing", "not here"]
CheckArea = Literal["software", "gpu", "ranks", "host", "files"]


class Check(Record):
    """One thing that was looked at.

    ``limited`` works with a loss, ``missing`` could be had, ``not here`` does not apply to this machine. ``adds`` says
    what hwprof does with it; ``remedy`` is the command or setting that gives it, empty where nothing is to be done.
    """

    name: str
    area: CheckArea
    status: CheckStatus
    found: str
    adds: str
    remedy: str = ""


class DoctorReport(Record):
    """All checks in the order in which they were made, and how long that took."""

    schema_version: int = DOCTOR_SCHEMA_VERSION
    hwprof_version: str
    checks: tuple[Check, ...]
    duration_s: float
