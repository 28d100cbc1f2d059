"""hwprof: what holds a Transformer training step back, and what should change?

Names are imported when they are first used, so that ``import hwprof`` itself loads neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hwprof.version import __version__

if TYPE_CHECKING:
    from hwprof.emulate.answer import Emulation
    from hwprof.emulate.start import emulate
    from hwprof.errors import HwprofError, InputError, WorkError
    from hwprof.loop.live import Logger
    from hwprof.loop.profile import Profile, profile
    from hwprof.loop.schedule import Schedule
    from hwprof.report.files.run import read_run
    from hwprof.session.start import probe, probe_ranks, run, run_ranks
    from hwprof.specs.record.run import RunRecord

__all__ = [
    "Emulation",
    "HwprofError",
    "InputError",
    "Logger",
    "Profile",
    "RunRecord",
    "Schedule",
    "WorkError",
    "__version__",
    "emulate",
    "probe",
    "probe_ranks",
    "profile",
    "read_run",
    "run",
    "run_ranks",
]

_HOME = {
    "Emulation": "hwprof.emulate.answer",
    "HwprofError": "hwprof.errors",
    "InputError": "hwprof.errors",
    "Logger": "hwprof.loop.live",
    "Profile": "hwprof.loop.profile",
    "RunRecord": "hwprof.specs.record.run",
    "Schedule": "hwprof.loop.schedule",
    "WorkError": "hwprof.errors",
    "emulate": "hwprof.emulate.start",
    "probe": "hwprof.session.start",
    "probe_ranks": "hwprof.session.start",
    "profile": "hwprof.loop.profile",
    "read_run": "hwprof.report.files.run",
    "run": "hwprof.session.start",
    "run_ranks": "hwprof.session.start",
}
"""Name -> the module that it is defined in."""


def __getattr__(name: str) -> Any:
    """A public name, from its own module."""
    if name not in _HOME:
        raise AttributeError(f"module 'hwprof' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
