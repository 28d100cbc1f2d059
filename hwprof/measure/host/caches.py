"""How large are the CPU's caches, and how much of them can the running threads use?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_SYSFS = Path("/sys/devices/system/cpu")
_SUFFIX_BYTES = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLevel:
    """The data caches of one level.

    Attributes:
        level: 1 for the one next to the core.
        instance_bytes: capacity of one.
        instances: how many of them serve the CPUs that this process may run on.
    """

    level: int
    instance_bytes: int
    instances: int

    def usable_bytes(self, threads: int) -> int:
        """Capacity that ``threads`` threads reach together, each on its own core and instances filled one by one.

        An instance shared by several cores is counted once however many threads use it, so this is an upper bound
        where threads share one.
        """
        return self.instance_bytes * min(threads, self.instances)

    def __str__(self) -> str:
        return f"L{self.level} {self.instance_bytes // 2**10} KiB x {self.instances}"


def cpu_caches(root: Path = _SYSFS, cpus: frozenset[int] | None = None) -> tuple[CacheLevel, ...]:
    """Data and unified caches of the CPUs that this process may run on, by level; empty where sysfs tells of none.

    Args:
        root: where Linux lists its CPUs.
        cpus: CPU numbers; None for those that this process may run on.
    """
    try:
        found = _listed(root, cpus)
    except (OSError, ValueError, IndexError):
        return ()
    return tuple(
        CacheLevel(level=level, instance_bytes=max(instances.values()), instances=len(instances))
        for level, instances in sorted(found.items())
    )


def _listed(root: Path, cpus: frozenset[int] | None) -> dict[int, dict[str, int]]:
    """Level -> the CPUs that share an instance of it -> its bytes."""
    found: dict[int, dict[str, int]] = {}
    for cpu in sorted(os.sched_getaffinity(0) if cpus is None and hasattr(os, "sched_getaffinity") else cpus or ()):
        for index in sorted((root / f"cpu{cpu}" / "cache").glob("index[0-9]*")):
            if _text(index / "type") == "Instruction":
                continue
            instance = _text(index / "shared_cpu_list")
            found.setdefault(int(_text(index / "level")), {})[instance] = _size_bytes(_text(index / "size"))
    return found


def cache_sizes_bytes(threads: int) -> dict[str, float]:
    """Level name (``l1``, ``l2``, ``l3``) -> capacity that ``threads`` threads reach together, bytes."""
    return {f"l{cache.level}": float(cache.usable_bytes(threads)) for cache in cpu_caches()}


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()


def _size_bytes(text: str) -> int:
    """Linux writes ``32K``: binary kilobytes."""
    return int(text[:-1]) * _SUFFIX_BYTES[text[-1]] if text[-1] in _SUFFIX_BYTES else int(text)
