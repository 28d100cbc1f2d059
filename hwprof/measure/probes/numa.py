"""How much slower is memory of another NUMA node? One thread reads what was first touched on each node."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from hwprof.measure.host.caches import cpu_caches
from hwprof.measure.host.numa import cpus_of_list, on_cpus
from hwprof.measure.probes.bench import Bench, CannotRunError
from hwprof.measure.probes.memory import DRAM_ARRAY_PER_CACHE
from hwprof.measure.probes.thread_sweep import on_threads
from hwprof.specs.measurement import Ceiling

_NODES = Path("/sys/devices/system/node")
_LEAST_ARRAY_BYTES = 256 * 2**20


def node_cpus(nodes: Path = _NODES, allowed: frozenset[int] | None = None) -> dict[int, frozenset[int]]:
    """NUMA node -> CPUs of it that this process may run on; nodes with none are left out."""
    own = frozenset(os.sched_getaffinity(0)) if allowed is None and hasattr(os, "sched_getaffinity") else allowed
    found = {int(folder.name[4:]): cpus_of_list(folder / "cpulist") for folder in nodes.glob("node[0-9]*")}
    usable = {node: cpus if own is None else cpus & own for node, cpus in sorted(found.items())}
    return {node: cpus for node, cpus in usable.items() if cpus}


def numa_ceiling(bench: Bench, source: int, target: int, cpus: Mapping[int, frozenset[int]]) -> Ceiling:
    """``transfer.numa.<source>.<target>``: a thread of one node reads memory of another, more than its caches hold.

    Args:
        bench: where to measure.
        source: node whose memory is read.
        target: node whose CPU reads it.
        cpus: CPUs of each node.
    """
    array_bytes = max([_LEAST_ARRAY_BYTES, *(DRAM_ARRAY_PER_CACHE * cache.usable_bytes(1) for cache in cpu_caches())])
    with on_threads(1):
        with on_cpus(cpus[source]):
            array = torch.ones(array_bytes // 4)  # Linux places a page where the thread runs that touches it first
        with on_cpus(cpus[target]):
            timed = bench.time(array.sum, deadline_s=bench.probe_s)
    return bench.ceiling(
        f"transfer.numa.{source}.{target}",
        "transfer",
        timed,
        work_per_call=float(array_bytes),
        conditions={
            "threads_used": 1,
            "memory_of_node": source,
            "read_from_node": target,
            "kernel": "sum",
            "array_bytes": array_bytes,
        },
    )


def require_nodes(cpus: Mapping[int, frozenset[int]]) -> None:
    """Refuse where there is nothing to compare.

    Raises:
        CannotRunError: the reason.
    """
    if not cpus:
        raise CannotRunError("the operating system does not list NUMA nodes in /sys")
    if len(cpus) == 1:
        raise CannotRunError(f"one NUMA node ({next(iter(cpus))}) for all CPUs of this process: no memory is remote")
