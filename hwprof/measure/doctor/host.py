"""What does the host allow: cores, memory, clock, huge pages, shared memory, and folders to write to?"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from hwprof.measure.doctor.machine import Machine
from hwprof.measure.host.container import cpu_limit_cores, memory_limit
from hwprof.specs.record.doctor import Check
from hwprof.units import format_bytes

_GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
_HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"
_SHARED_BYTES = 1 << 30
"""Less shared memory than this is soon full of batches: Docker's default is 64 MB."""
_FREE_BYTES = 1 << 30
_BUSY = 0.5
"""A load of more than this share of the cores disturbs measurements."""


def _cores(machine: Machine) -> Iterator[Check]:
    cores = psutil.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    limit = cpu_limit_cores(machine.path("/sys/fs/cgroup"), machine.path("/proc/self/cgroup"))
    usable = min(allowed, limit or allowed)
    yield Check(
        name="cores",
        area="host",
        status="limited" if usable < cores else "ok",
        found=f"{usable:g} of {cores} usable",
        adds="computation on the CPU, data loading",
        remedy="raise the container's limit (docker --cpus, Kubernetes limits.cpu) or the affinity (taskset)"
        if usable < cores
        else "",
    )
    threads = machine.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > usable:
        yield Check(
            name="threads",
            area="host",
            status="limited",
            found=f"OMP_NUM_THREADS={threads} on {usable:g} usable cores",
            adds="threads that do not wait for each other",
            remedy=f"export OMP_NUM_THREADS={max(int(usable), 1)}",
        )


def _load(_machine: Machine) -> Iterator[Check]:
    cores = psutil.cpu_count() or 1
    load = psutil.getloadavg()[0]
    busy = load > _BUSY * cores
    yield Check(
        name="other work",
        area="host",
        status="limited" if busy else "ok",
        found=f"load {load:.1f} on {cores} cores",
        adds="steady measurements",
        remedy="stop other work before probe and run" if busy else "",
    )


def _memory(machine: Machine) -> Iterator[Check]:
    total_bytes = psutil.virtual_memory().total
    limit = memory_limit(machine.path("/sys/fs/cgroup"), machine.path("/proc/self/cgroup"))
    limited = limit is not None and limit.limit_bytes < total_bytes
    found = format_bytes(limit.limit_bytes) if limit is not None and limited else format_bytes(total_bytes)
    yield Check(
        name="memory",
        area="host",
        status="limited" if limited else "ok",
        found=f"{found} of {format_bytes(total_bytes)}" if limited else found,
        adds="larger models and batches on the CPU",
        remedy="raise the container's limit (docker --memory, Kubernetes limits.memory)" if limited else "",
    )


def _governor(machine: Machine) -> Iterator[Check]:
    governor = machine.text(_GOVERNOR)
    slow = governor not in {"", "performance"}
    yield Check(
        name="CPU governor",
        area="host",
        status="limited" if slow else "ok" if governor else "not here",
        found=governor or "the system sets no clock (a virtual machine, or no cpufreq)",
        adds="a steady clock: less spread between samples",
        remedy="sudo cpupower frequency-set --governor performance" if slow else "",
    )


def _huge_pages(machine: Machine) -> Iterator[Check]:
    text = machine.text(_HUGE_PAGES)
    chosen = text.partition("[")[2].partition("]")[0]
    yield Check(
        name="huge pages",
        area="host",
        status="limited" if chosen == "never" else "ok" if chosen else "not here",
        found=chosen or "unknown",
        adds="fewer page faults with large tensors on the CPU",
        remedy=f"echo madvise | sudo tee {_HUGE_PAGES}; export THP_MEM_ALLOC_ENABLE=1" if chosen == "never" else "",
    )


def _shared_memory(machine: Machine) -> Iterator[Check]:
    path = machine.path("/dev/shm")  # noqa: S108 (looked at, not written to)
    if not path.is_dir():
        yield Check(
            name="shared memory", area="host", status="not here", found="no /dev/shm", adds="DataLoader workers, NCCL"
        )
        return
    size_bytes = shutil.disk_usage(path).total
    small = size_bytes < _SHARED_BYTES
    yield Check(
        name="shared memory",
        area="host",
        status="limited" if small else "ok",
        found=format_bytes(size_bytes),
        adds="DataLoader workers, NCCL between ranks of a node",
        remedy="docker run --shm-size=8g (or --ipc=host); in Kubernetes an emptyDir of medium Memory" if small else "",
    )


def _folders(machine: Machine) -> Iterator[Check]:
    places = (("runs", machine.folder, "where runs and calibrations are written"),
              ("temporary files", Path(tempfile.gettempdir()), "torch.compile's cache, other programs"))  # fmt: skip
    for name, path, adds in places:
        writable = path.is_dir() and os.access(path, os.W_OK)
        free_bytes = shutil.disk_usage(path).free if path.is_dir() else 0
        status = "missing" if not writable else "limited" if free_bytes < _FREE_BYTES else "ok"
        yield Check(
            name=name,
            area="files",
            status=status,
            found=f"{path}: {format_bytes(free_bytes)} free" if writable else f"{path} is not writable",
            adds=adds,
            remedy={"missing": "change to a folder of your own, or give --output", "limited": "free some space"}.get(
                status, ""
            ),
        )


HOST_CHECKS: tuple[Callable[[Machine], Iterator[Check]], ...] = (
    _cores,
    _load,
    _memory,
    _governor,
    _huge_pages,
    _shared_memory,
    _folders,
)
"""Checks of the host."""
