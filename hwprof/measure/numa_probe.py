"""How much slower is memory of another NUMA node? One thread reads what was first touched on each node."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from hwprof.measure.bench import Bench, CannotRunError
from hwprof.measure.numa import cpus_of_list
from hwprof.specs.measurement import Ceiling

_NODES = Path("/sys/devices/system/node")
_ARRAY_BYTES = 256 * 2**20
"""Several times what one thread's caches hold."""


def node_cpus(nodes: Path = _NODES, allowed: frozenset[int] | None = None) -> dict[int, frozenset[int]]:
    """NUMA node -> CPUs of it that this process may run on; nodes with none are left out."""
    own = frozenset(os.sched_getaffinity(0)) if allowed is None and hasattr(os, "sched_getaffinity") else allowed
    found = {int(folder.name[4:]): cpus_of_list(folder / "cpulist") for folder in nodes.glob("node[0-9]*")}
    usable = {node: cpus if own is None else cpus & own for node, cpus in sorted(found.items())}
    return {node: cpus for node, cpus in usable.items() if cpus}


def numa_ceiling(bench: Bench, source: int, target: int, cpus: Mapping[int, frozenset[int]]) -> Ceiling:
    """``transfer.numa.<source>.<target>``: a thread of one node copies memory of another into its own caches' reach.

    Args:
        bench: where to measure.
        source: node whose memory is read.
        target: node whose CPU reads it.
        cpus: CPUs of each node.
    """
    elements = _ARRAY_BYTES // 4
    with _one_thread():
        with on_cpus(cpus[source]):
            array = torch.ones(elements)  # Linux places a page where the thread runs that touches it first
        with on_cpus(cpus[target]):
            timed = bench.time(array.sum, deadline_s=bench.probe_s)
    return bench.ceiling(
        f"transfer.numa.{source}.{target}",
        "transfer",
        timed,
        work_per_call=float(_ARRAY_BYTES),
        conditions={"threads_used": 1, "memory_of_node": source, "read_from_node": target, "kernel": "sum"},
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


@contextmanager
def on_cpus(cpus: frozenset[int]) -> Iterator[None]:
    """Run this thread on some CPUs; afterwards where it ran before."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
