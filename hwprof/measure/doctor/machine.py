"""The doctor's one way to the machine: files, environment, programs. Tests give it a machine of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

WSL_LIBRARIES = "/usr/lib/wsl/lib"
"""Where Windows puts its drivers' libraries in WSL 2."""
TORCH_GUIDE = "https://pytorch.org/get-started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the checks look at.

    Attributes:
        root: where /proc, /sys and /dev are found.
        environ: environment variables.
        which: the path of a program, None if it is not on PATH.
        folder: where runs would be written.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    which: Callable[[str], str | None] = shutil.which
    folder: Path = field(default_factory=Path.cwd)

    def path(self, absolute: str) -> Path:
        """A path of this machine."""
        return self.root / absolute.lstrip("/")

    def exists(self, absolute: str) -> bool:
        """Whether there is such a file."""
        return self.path(absolute).exists()

    def has_nvidia(self) -> bool:
        """Whether the driver of NVIDIA is loaded or a device of it is passed through, under WSL 2 by Windows."""
        paths = ("/proc/driver/nvidia", "/dev/nvidiactl", f"{WSL_LIBRARIES}/libnvidia-ml.so.1")
        return any(self.exists(path) for path in paths)

    def has_amd(self) -> bool:
        """Whether the driver of AMD's GPUs is loaded."""
        return self.exists("/dev/kfd")

    def text(self, absolute: str) -> str:
        """A small file's text; empty where it is not there, or not for us to read."""
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def status(self, key: str) -> str:
        """One value of /proc/self/status; empty where there is none."""
        lines = (line.partition(":") for line in self.text("/proc/self/status").splitlines())
        return next((value.strip() for name, _, value in lines if name == key), "")
