"""Which faults are there, and what stands in for what takes long? For a process that is there to be disturbed."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

TIMED, SAVED = "timed", "saved"
"""What a child notes: a timed step, a record on the disk."""
_PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5f6"
    "45400000000049454e44ae426082"
)
"""A PNG of one pixel: what a picture shows is no question here."""


def _signal(fault: dict[str, Any]) -> None:
    signal.raise_signal(fault["number"])


def _stop(_fault: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _memory(fault: dict[str, Any]) -> None:
    """So many bytes more, and no others."""
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + fault["bytes"], resource.RLIM_INFINITY))


def _disk(fault: dict[str, Any]) -> None:
    """The own disk fills up but for so many bytes."""
    room = os.statvfs("full")
    with open("full/other", "wb") as other:  # noqa: PTH123
        other.write(bytes(max(room.f_bavail * room.f_frsize - fault["bytes"], 0)))


def _file_size(fault: dict[str, Any]) -> None:
    """No file may become larger than so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (fault["bytes"], resource.RLIM_INFINITY))


FAULTS = {"none": str, "signal": _signal, "stop": _stop, "memory": _memory, "disk": _disk, "file size": _file_size}


def has_own_disks() -> bool:
    """Whether this machine lets a process have a small disk for itself."""
    made = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import fault_kinds, os; os.chdir('/tmp'); fault_kinds.own_disk('{os.devnull}x', 4096)",
        ],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        check=False,
    )
    return b"FileNotFoundError" in made.stderr or made.returncode == 0


def own_disk(folder: str, size_bytes: int) -> None:
    """A file system in memory, seen by this process and its children alone.

    Raises:
        OSError: the system does not let us.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    new_user, new_mounts, private = 0x10000000, 0x00020000, 0x40000 | 0x4000
    ours = (os.getuid(), os.getgid())
    if libc.unshare(new_mounts) and libc.unshare(new_user | new_mounts):
        raise OSError(ctypes.get_errno(), "unshare")
    with suppress(OSError):  # as root nothing is to be mapped
        Path("/proc/self/setgroups").write_text("deny")
        for name, number in zip(("uid", "gid"), ours, strict=True):
            Path(f"/proc/self/{name}_map").write_text(f"0 {number} 1")
    libc.mount(None, b"/", None, private, None)
    if libc.mount(b"none", folder.encode(), b"tmpfs", 0, f"size={size_bytes}".encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def stand_in(note: Any, save_every_s: float) -> None:
    """Quick stand-ins for probes and pictures, and notes of what is measured and kept."""
    from made_up_record import made_up_ceiling

    from hwprof.measure import lifeline
    from hwprof.measure.links import layout_links
    from hwprof.measure.probes.device import ProbeResult
    from hwprof.measure.watch import annotate, steps
    from hwprof.measure.watch.timed import TimedSteps
    from hwprof.report import png
    from hwprof.report.files import run as files
    from hwprof.session import ceilings, ranks
    from hwprof.session import run as session

    def probe_device(*_args: Any, report: Any, on_result: Any, **_options: Any) -> None:
        report("probing")
        on_result(ProbeResult(ceilings=(made_up_ceiling("matmul.fp32", 1e11),)))

    add, write_record = TimedSteps.add, session.write_record

    def added(self: Any, start: Any, stop: Any, phases: Any = None) -> None:
        add(self, start, stop, phases)
        if phases is not None:
            note(TIMED)

    def wrote(record: Any, directory: Path) -> Path:
        path = write_record(record, directory)
        note(SAVED)
        return path

    ceilings.probe_device = probe_device
    layout_links.sizes_for = lambda *_args, **_options: (1024, 65536)
    annotate._OPERATORS = 10
    png._png = lambda _figure: _PICTURE
    steps.DISTURBED_WINDOW = float("inf")  # how often a window is repeated tells of the machine
    session.SAVE_EVERY_S, ranks.SNAPSHOT_EVERY_S = save_every_s, 0.0
    TimedSteps.add = added
    session.write_record = files.write_record = wrote
    lifeline.PERIOD_S, lifeline.SETTLE_S, lifeline.SILENT_S = 0.1, 1.0, 20.0
