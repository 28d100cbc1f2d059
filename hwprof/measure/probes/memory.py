"""How many bytes a second move to and from each level of memory? Four STREAM-like kernels with honest byte counts.

Kernels and counts follow STREAM (McCalpin, https://www.cs.virginia.edu/stream/ref.html): copy and scale read one array
and write one, add and triad read two and write one. What a CPU reads before it overwrites a cache line
(write-allocate) is not counted, there as here.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from hwprof.measure.host.accelerator import synchronize, table_of
from hwprof.measure.host.caches import CacheLevel, cpu_caches
from hwprof.measure.host.memory import available_memory_bytes
from hwprof.measure.probes.bench import Bench, Budget, CannotRunError, Conditions, best_ceiling
from hwprof.measure.probes.sampling import Samples, Work
from hwprof.specs.measurement import Ceiling
from hwprof.units import format_bytes, format_fraction, format_seconds

DRAM_ARRAY_PER_CACHE = 4
"""Each array is this many times the last-level cache, STREAM's own rule."""
LEVEL_FILL = 0.5
"""Share of a cache level that the three arrays of a kernel fill together; the rest is left to what else uses it."""
MAX_OVERHEAD = 0.2
"""Largest share of a kernel's time that torch may spend before it moves bytes."""
MAX_SUBTRACTED = 0.5
"""The same in a CUDA graph, where what a kernel's start takes can be told apart and is taken off."""
LEVEL_PROBES = 0.75
"""A cache level may take this many times what one probe may."""
GRAIN_ELEMENTS = 32768
"""torch splits elementwise CPU work over threads in pieces of at least this many (``at::internal::GRAIN_SIZE``)."""

_FACTOR = 3
_FLOAT_BYTES = 4
_ASSUMED_CACHE_BYTES = 64 * 2**20
_MIN_DRAM_ARRAY_BYTES = {"cpu": 32 * 2**20, "cuda": 512 * 2**20}
_GRAPH_KERNELS = 32


@dataclass(frozen=True, slots=True)
class Arrays:
    """Three arrays of the same length, and STREAM's factor as a tensor without dimensions."""

    a: torch.Tensor
    b: torch.Tensor
    c: torch.Tensor
    factor: torch.Tensor


@dataclass(frozen=True, slots=True)
class Kernel:
    """One STREAM kernel: what it runs, and how many arrays it reads and writes together."""

    name: str
    arrays_moved: int
    run: Callable[[Arrays], object]


KERNELS = (
    Kernel("copy", 2, lambda x: x.c.copy_(x.a)),
    Kernel("scale", 2, lambda x: torch.mul(x.c, x.factor, out=x.b)),
    Kernel("add", 3, lambda x: torch.add(x.a, x.b, out=x.c)),
    Kernel("triad", 3, lambda x: torch.add(x.b, x.c, alpha=_FACTOR, out=x.a)),
)


def dram_ceiling(bench: Bench) -> Ceiling:
    """``memory.dram``: the best of the four kernels on arrays of four times the last-level cache each.

    Raises:
        CannotRunError: three such arrays need more than half of the available memory.
    """
    cache_bytes, note = _last_level_cache(bench.device)
    array_bytes = max(DRAM_ARRAY_PER_CACHE * cache_bytes, _MIN_DRAM_ARRAY_BYTES[table_of(bench.device)])
    free_bytes, source = available_memory_bytes(bench.device)
    if free_bytes is not None and 3 * array_bytes > free_bytes / 2:
        raise CannotRunError(
            f"three arrays of four times the last-level cache need {format_bytes(3 * array_bytes)}, more than half of "
            f"the {format_bytes(free_bytes)} available ({source})",
            remedy="free memory, or raise the container's limit",
        )
    arrays = _arrays(bench.device, array_bytes // _FLOAT_BYTES, torch.float32)
    budget = Budget(bench.timer, total_s=bench.probe_s, pieces=len(KERNELS))
    timed = {kernel: _timed(bench, kernel, arrays, deadline_s=budget.next_s()) for kernel in KERNELS}
    conditions: Conditions = {"array_bytes": array_bytes, "last_level_cache": note}
    return best_of_kernels(bench, "dram", array_bytes, timed, level_bytes=None, conditions=conditions)


def cpu_level_ceiling(bench: Bench, cache: CacheLevel) -> Ceiling:
    """``memory.l<N>``: the best of the four kernels on arrays that together fill half of a CPU cache level.

    Raises:
        CannotRunError: torch's own cost of starting a kernel is more than a fifth of its time.
    """
    elements, threads = level_work(cache, torch.get_num_threads())
    arrays = _arrays(bench.device, elements, torch.float32)
    startup = _arrays(bench.device, *((1, torch.float32) if threads == 1 else (threads * GRAIN_ELEMENTS, torch.int8)))
    return _level_ceiling(
        bench,
        f"l{cache.level}",
        arrays,
        startup,
        level_bytes=cache.usable_bytes(threads),
        conditions={"threads_used": threads, "split": "by torch, a piece a thread", "caches": str(cache)},
    )


def cuda_l2_ceiling(bench: Bench) -> Ceiling:
    """``memory.l2``: the best of the four kernels inside a CUDA device's L2 cache, replayed from a CUDA graph.

    Half of the cache is filled, not least since a large one has two partitions and may keep a line in both.

    Raises:
        CannotRunError: starting a kernel is more than half of its time; where it is more than a fifth it is taken off.
    """
    level_bytes = cuda_l2_bytes(bench.device)
    if not level_bytes:
        raise CannotRunError(f"torch {torch.__version__} does not tell the L2 cache's size; torch 2.5 and newer do")
    arrays = _arrays(bench.device, int(level_bytes * LEVEL_FILL / 3 / _FLOAT_BYTES), torch.float32)
    startup = _arrays(bench.device, 1, torch.float32)
    conditions: Conditions = {"kernels_per_graph": _GRAPH_KERNELS}
    return _level_ceiling(bench, "l2", arrays, startup, level_bytes=level_bytes, conditions=conditions)


def level_work(cache: CacheLevel, threads: int) -> tuple[int, int]:
    """Elements of one array, and how many threads torch will use on it, so that three arrays fit in their caches.

    Where the level is too small for torch to split the work over all threads, one thread and its caches are used.
    """
    elements = int(cache.usable_bytes(threads) * LEVEL_FILL / 3 / _FLOAT_BYTES)
    if elements > GRAIN_ELEMENTS * (threads - 1):
        return elements, threads
    return int(cache.usable_bytes(1) * LEVEL_FILL / 3 / _FLOAT_BYTES), 1


def best_of_kernels(
    bench: Bench,
    level: str,
    array_bytes: int,
    timed: dict[Kernel, Samples],
    *,
    level_bytes: float | None,
    conditions: Conditions,
) -> Ceiling:
    """The best kernel's rate as the ceiling; the median and spread of all four are in its conditions."""
    found = [
        bench.ceiling(
            f"memory.{level}",
            "memory",
            samples,
            work_per_call=kernel.arrays_moved * array_bytes,
            level=level,
            level_bytes=level_bytes,
            conditions=conditions | {"kernel": kernel.name, "write_allocate": "not counted"},
        )
        for kernel, samples in timed.items()
    ]
    best = best_ceiling(found)
    evidence: Conditions = {}
    for kernel, ceiling in zip(timed, found, strict=True):
        evidence[f"{kernel.name}_byte_per_s"] = ceiling.value
        evidence[f"{kernel.name}_spread"] = ceiling.spread or 0.0
    return best.changed(conditions=best.conditions | evidence)


def _level_ceiling(
    bench: Bench, level: str, arrays: Arrays, startup: Arrays, *, level_bytes: int, conditions: Conditions
) -> Ceiling:
    budget = Budget(bench.timer, total_s=bench.probe_s * LEVEL_PROBES, pieces=len(KERNELS) + 1)
    timed = {kernel: _timed(bench, kernel, arrays, deadline_s=budget.next_s()) for kernel in KERNELS}
    array_bytes = arrays.a.numel() * _FLOAT_BYTES
    best = min(KERNELS, key=lambda kernel: _median_s(timed[kernel]) / kernel.arrays_moved)
    started = _timed(bench, best, startup, deadline_s=budget.next_s())
    startup_s = _median_s(started)
    require_undisturbed(level, started)
    most = MAX_OVERHEAD if bench.device.type == "cpu" else MAX_SUBTRACTED
    overhead = require_small_overhead(level, startup_s, _median_s(timed[best]), most=most)
    more: Conditions = {"array_bytes": array_bytes, "startup_s": startup_s, "startup_fraction": overhead}
    if overhead > MAX_OVERHEAD:  # kernels of a graph run one after the other: each takes its start and its bytes
        timed = {kernel: _without(one, startup_s) for kernel, one in timed.items()}
        more |= {"startup": "subtracted"}
    return best_of_kernels(bench, level, array_bytes, timed, level_bytes=level_bytes, conditions=conditions | more)


def require_undisturbed(level: str, started: Samples) -> None:
    """Refuse a level whose kernels, some µs long, were held up by other processes for milliseconds.

    Raises:
        CannotRunError: the threads waited for a CPU.
    """
    if not started.undisturbed:
        raise CannotRunError(
            f"other processes used the CPU, so the {level} cache's kernels were mostly waiting for it",
            remedy="stop other work on this machine and probe again",
        )


def require_small_overhead(level: str, startup_s: float, kernel_s: float, *, most: float = MAX_OVERHEAD) -> float:
    """The share of a kernel's time that starting it takes.

    Raises:
        CannotRunError: it is more than ``most``.
    """
    overhead = startup_s / kernel_s
    if overhead > most:
        raise CannotRunError(
            f"the {level} cache is too small to be measured through torch: starting a kernel takes "
            f"{format_seconds(startup_s)}, {format_fraction(overhead)} of the {format_seconds(kernel_s)} that it runs "
            f"there (at most {format_fraction(most)} is accepted)"
        )
    return overhead


def _timed(bench: Bench, kernel: Kernel, arrays: Arrays, *, deadline_s: float) -> Samples:
    if bench.device.type != "cuda":
        return bench.time(lambda: kernel.run(arrays), deadline_s=deadline_s)
    timed = bench.time(_graph(kernel, arrays), deadline_s=deadline_s)
    seconds = tuple(s / _GRAPH_KERNELS for s in timed.seconds)
    calls = timed.repeats * _GRAPH_KERNELS
    return replace(timed, seconds=seconds, repeats=calls)


def _without(timed: Samples, startup_s: float) -> Samples:
    return replace(timed, seconds=tuple(seconds - startup_s for seconds in timed.seconds))


def _graph(kernel: Kernel, arrays: Arrays) -> Work:
    """Several launches of a kernel as one CUDA graph, so that the host's time to launch does not count."""
    kernel.run(arrays)
    synchronize(arrays.a.device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads of the program go on
        for _ in range(_GRAPH_KERNELS):
            kernel.run(arrays)
    return graph.replay


def _arrays(device: torch.device, elements: int, dtype: torch.dtype) -> Arrays:
    """Random arrays, each page of them written. The factor stays on the host, where torch passes it by value."""
    a, b, c = (torch.rand(elements, device=device).to(dtype) for _ in range(3))
    return Arrays(a, b, c, torch.tensor(_FACTOR, dtype=dtype))


def cuda_l2_bytes(device: torch.device) -> int:
    """Size of a GPU's L2 cache; 0 where torch (before 2.5) does not tell."""
    return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0))


def _last_level_cache(device: torch.device) -> tuple[int, str]:
    if device.type == "cuda":
        size_bytes = cuda_l2_bytes(device)
        if size_bytes:
            return size_bytes, f"L2, {format_bytes(size_bytes)}"
        return (
            _ASSUMED_CACHE_BYTES,
            f"unknown to torch {torch.__version__}; {format_bytes(_ASSUMED_CACHE_BYTES)} assumed",
        )
    caches = cpu_caches()
    if not caches:
        return _ASSUMED_CACHE_BYTES, f"unknown; {format_bytes(_ASSUMED_CACHE_BYTES)} assumed"
    last = caches[-1]
    return last.instance_bytes * last.instances, str(last)


def _median_s(timed: Samples) -> float:
    return statistics.median(timed.seconds)
