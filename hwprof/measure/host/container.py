"""What does the container allow? Memory and CPU limits from Linux control groups, versions 1 and 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_UNLIMITED_BYTES = 2**60
"""Version 1 writes a number near 2**63 where there is no limit; no machine has this much."""


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A limit, and the memory in use under it that cannot be reclaimed (inactive file cache taken off)."""

    limit_bytes: int
    used_bytes: int


def memory_limit(root: Path = _CGROUP_ROOT, own_groups: Path = _OWN_GROUPS) -> MemoryLimit | None:
    """The tightest memory limit on this process; None where no control group sets one."""
    found = [
        *_memory(_groups(root, own_groups, ""), "memory.max", "memory.current", "inactive_file"),
        *_memory(
            _groups(root / "memory", own_groups, "memory"),
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ]
    return min(found, key=lambda limit: limit.limit_bytes - limit.used_bytes, default=None)


def cpu_limit_cores(root: Path = _CGROUP_ROOT, own_groups: Path = _OWN_GROUPS) -> float | None:
    """The tightest CPU quota on this process, in cores; None where no control group sets one."""
    cores = []
    for group in _groups(root, own_groups, ""):
        quota, _, period = _text(group / "cpu.max").partition(" ")
        if quota.isdigit():
            cores.append(int(quota) / int(period))
    for group in _groups(root / "cpu", own_groups, "cpu"):
        quota = _text(group / "cpu.cfs_quota_us")
        if quota.isdigit():
            cores.append(int(quota) / int(_text(group / "cpu.cfs_period_us")))
    return min(cores, default=None)


def _memory(groups: tuple[Path, ...], limit: str, usage: str, reclaimable: str) -> list[MemoryLimit]:
    found = []
    for group in groups:
        text = _text(group / limit)
        if text.isdigit() and int(text) < _UNLIMITED_BYTES:
            statistics = dict(line.split() for line in _text(group / "memory.stat").splitlines())
            used_bytes = int(_text(group / usage)) - int(statistics.get(reclaimable, 0))
            found.append(MemoryLimit(int(text), used_bytes))
    return found


def _groups(root: Path, own_groups: Path, controller: str) -> tuple[Path, ...]:
    """This process's group of a controller and all above it; a container sees its own group as ``root``."""
    for line in _text(own_groups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            group = root / path.lstrip("/")
            return (group, *(parent for parent in group.parents if parent.is_relative_to(root)))
    return ()


def _text(path: Path) -> str:
    """A control file's text; empty where the kernel or the container has no such file."""
    return path.read_text(encoding="ascii").strip() if path.is_file() else ""
