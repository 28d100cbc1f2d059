"""What are this machine's ceilings? Runs each probe in turn; what cannot run says why."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from hwprof.measure.host.accelerator import current, table_of
from hwprof.measure.host.caches import cpu_caches
from hwprof.measure.host.contention import waited_s
from hwprof.measure.host.environment import device_name
from hwprof.measure.host.numa import near
from hwprof.measure.probes.attention import AttentionPass, attention_ceiling
from hwprof.measure.probes.bench import Bench, Budget, CannotRunError, attempt
from hwprof.measure.probes.beside_copies import beside_copies_ceiling
from hwprof.measure.probes.calls import call_ceiling
from hwprof.measure.probes.fp8 import FP8, fp8_ceiling
from hwprof.measure.probes.latency import dispatch_ceiling, launch_ceiling
from hwprof.measure.probes.matmul import MatmulShape, matmul_ceiling, shape_ceiling
from hwprof.measure.probes.memory import cpu_level_ceiling, cuda_l2_ceiling, dram_ceiling
from hwprof.measure.probes.norm import NORM_PASSES, NormPass, NormShape, norm_ceiling
from hwprof.measure.probes.numa import node_cpus, numa_ceiling, require_nodes
from hwprof.measure.probes.played import played
from hwprof.measure.probes.step.host import HostStep, host_ceiling
from hwprof.measure.probes.step.kernels import kernel_ceiling
from hwprof.measure.probes.step.parts import Part, Ranked, Shares, ranked
from hwprof.measure.probes.thread_sweep import with_sweep
from hwprof.measure.probes.transfer import (
    DIRECTIONS,
    HOST_MEMORIES,
    NO_ACCELERATOR,
    PEER_DIRECTIONS,
    both_ways_ceiling,
    peer_ceiling,
    transfer_ceiling,
)
from hwprof.measure.telemetry.clock import clock_of
from hwprof.measure.timing import ThreadTimer, Timer, WallTimer, timer_for
from hwprof.specs.job.settings import Dtype
from hwprof.specs.job.step_kernels import StepKernel
from hwprof.specs.measurement import Ceiling, Skipped
from hwprof.specs.record.captured import AtenCall
from hwprof.specs.record.saved_calls import Step, call_name

TRAINED_DTYPES: dict[str, tuple[Dtype, ...]] = {"cpu": ("fp32", "bf16"), "cuda": ("bf16", "tf32", "fp16", "fp32")}
"""Kind of device -> what a training on it computes in."""
STEP_PROBES = 4.5
"""The parts of a model's step together may take this many times what one probe may."""
NORM_PROBES = 0.5
"""A norm forward and backward, without a model, together may take this many times what one probe may."""
NORM_WITHOUT_MODEL = {
    "cpu": NormShape(kind="rmsnorm", tokens=1024, width=1024),
    "cuda": NormShape(kind="rmsnorm", tokens=16384, width=4096),
}
SPIN_HZ = 2e9
"""Cycles of a spinning kernel in a second, about."""
CPU_SAMPLE_S = 20e-3
"""Shortest sample on a CPU: several time slices of the scheduler, so that one interruption does not fill a sample."""

Probe = tuple[str, Callable[[], Ceiling]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What was measured, and what was not and why."""

    ceilings: tuple[Ceiling, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    def plus(self, outcome: Ceiling | Skipped) -> ProbeResult:
        """This and one more outcome."""
        if isinstance(outcome, Ceiling):
            return ProbeResult(ceilings=(*self.ceilings, outcome), skipped=self.skipped)
        return ProbeResult(ceilings=self.ceilings, skipped=(*self.skipped, outcome))


def probe_device(
    device: torch.device,
    *,
    dtypes: Sequence[Dtype],
    parts: Sequence[Part] = (),
    dtype: Dtype = "fp32",
    step: HostStep | None = None,
    peers: bool = True,
    calls: Sequence[AtenCall] = (),
    steps: Sequence[Step] = (),
    quick: bool,
    timer: Timer | None = None,
    report: Callable[[str], None] = lambda _line: None,
    on_result: Callable[[ProbeResult], None] = lambda _result: None,
) -> ProbeResult:
    """Measure a device's ceilings.

    Args:
        device: the device.
        dtypes: formats whose matrix-multiply ceiling is wanted.
        parts: kernels of a model's step, those measured first that take most of it at the roofs.
        dtype: the format of their products and of their attention.
        step: whose cost on the host is measured; None for no model.
        calls: of operators, each timed alone but those of steps.
        steps: that a processor plays, to time their calls in their places.
        peers: copy between this device and the others that are visible; not where these are other ranks' own.
        quick: at most about 20 s on two CPU cores, otherwise about 70 s.
        timer: the clock on the device's timeline; None for its own.
        report: gets one line before each probe.
        on_result: gets all results so far after each probe, so that an interrupt loses only the probe under way.
    """
    bench = bench_for(device, quick=quick, timer=timer)
    first, last = (
        _first_probes(bench, dtypes),
        (
            *_host_probes(bench, step),
            *_last_probes(bench, dtypes, parts, peers=peers),
            *_call_probes(bench, calls, steps),
        ),
    )
    total, result = len(first) + len(parts) + len(last), ProbeResult()

    def probes() -> Iterator[Probe]:
        yield from first
        yield from _part_probes(bench, parts, dtype, result)
        yield from last

    for number, (name, probe) in enumerate(probes(), start=1):
        report(f"measuring {name} ({number} of {total})")
        with torch.inference_mode(), _current(device):
            result = result.plus(attempt(name, probe))
        on_result(result)
    return result


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Makes a CUDA device the current one, whose stream the timer marks."""
    return current(device)


def bench_for(device: torch.device, *, quick: bool, timer: Timer | None = None) -> Bench:
    """How thoroughly to measure on a device."""
    return Bench(
        device=device,
        device_name=device_name(device),
        timer=timer_for(device) if timer is None else timer,
        warmups=2 if quick else 3,
        samples=7 if quick else 15,
        probe_s=2.0 if quick else 7.0,
        minimum_sample_s=CPU_SAMPLE_S if device.type == "cpu" else 0.0,
        waited_s=waited_s if device.type == "cpu" else (lambda: None),
        thorough=not quick,
        clock_hz=clock_of(device),
        spin=_spin if device.type == "cuda" else None,
    )


def _spin(seconds: float) -> None:
    """Keep the current CUDA device busy: torch counts in cycles of its clock, which is 1 to 3 GHz."""
    torch.cuda._sleep(round(seconds * SPIN_HZ))  # type: ignore[no-untyped-call]  # noqa: SLF001 (torch has no other)


def _first_probes(bench: Bench, dtypes: Sequence[Dtype]) -> tuple[Probe, ...]:
    """The roofs, by which the parts of a step are ranked."""
    return (
        ("latency.dispatch", lambda: dispatch_ceiling(bench, _dispatching(bench))),
        ("latency.launch", lambda: launch_ceiling(bench)),
        *(
            (f"matmul.{dtype}", _swept(bench, functools.partial(matmul_ceiling, dtype=dtype)))
            for dtype in dict.fromkeys(dtypes)
        ),
        (f"matmul.{FP8}", lambda: fp8_ceiling(bench)),
        ("memory.dram", _swept(bench, dram_ceiling)),
        *_cache_probes(bench),
    )


def _dispatching(bench: Bench) -> Timer:
    """A CPU's thread does the smallest work alone; an accelerator's may wait for room in its queue."""
    return ThreadTimer() if bench.device.type == "cpu" else WallTimer()


def _last_probes(
    bench: Bench, dtypes: Sequence[Dtype], parts: Sequence[Part], *, peers: bool = True
) -> tuple[Probe, ...]:
    with_norm = any(isinstance(part.work, StepKernel) and part.work.kind == "norm" for part in parts)
    return (
        *(() if with_norm else _norm_probes(bench)),
        *_numa_probes(bench),
        *_transfer_probes(bench, peers=peers),
        *_beside_copies_probes(bench, dtypes[:1]),
    )


def _part_probes(bench: Bench, parts: Sequence[Part], dtype: Dtype, roofs: ProbeResult) -> Iterator[Probe]:
    """The parts of a step, the largest first; those that there is no time for say how much of the step they are."""
    rates = {ceiling.name: ceiling.value for ceiling in roofs.ceilings}
    flop_per_s, byte_per_s = (rates.get(name, math.inf) for name in (f"matmul.{dtype}", "memory.dram"))
    order = ranked(parts, bench, flop_per_s=flop_per_s, byte_per_s=byte_per_s)
    shares = Shares(bench.timer, order, total_s=bench.probe_s * STEP_PROBES)
    slow = next((one.reason for one in roofs.skipped if one.name == f"matmul.{dtype}"), "")
    for one in order:
        probe: Callable[[], Ceiling] = functools.partial(_part_ceiling, bench, dtype, one, shares)
        if one.part.flop and slow:
            probe = _refuse(slow)
        elif left_out := shares.reason(one):
            probe = _refuse(left_out, remedy="probe with --full")
        yield one.part.name(dtype), probe


def _part_ceiling(bench: Bench, dtype: Dtype, one: Ranked, shares: Shares) -> Ceiling:
    work, deadline_s, swept_bytes = one.part.work, shares.next_s(one), one.part.swept_bytes
    if isinstance(work, MatmulShape):
        return shape_ceiling(bench, dtype, work, deadline_s=deadline_s, swept_bytes=swept_bytes)
    if isinstance(work, AttentionPass):
        return attention_ceiling(bench, dtype, work.shape, work.direction, deadline_s=deadline_s)
    moved_bytes = one.part.moved_bytes
    return kernel_ceiling(bench, work, moved_bytes=moved_bytes, deadline_s=deadline_s, swept_bytes=swept_bytes)


def _host_probes(bench: Bench, step: HostStep | None) -> tuple[Probe, ...]:
    if step is None:
        return ()
    return tuple(
        (f"latency.host.{part}", functools.partial(host_ceiling, bench, step, part, WallTimer())) for part in step.parts
    )


def _call_probes(bench: Bench, calls: Sequence[AtenCall], steps: Sequence[Step]) -> tuple[Probe, ...]:
    """Calls in their places where a processor can play their steps; else alone."""
    in_place = functools.cache(lambda: played(bench, steps if bench.device.type == "cpu" else ()))

    def of_call(call: AtenCall) -> Ceiling:
        return in_place().get(call_name(call)) or call_ceiling(bench, call)

    return tuple((call_name(call), functools.partial(of_call, call)) for call in calls)


def _norm_probes(bench: Bench) -> tuple[Probe, ...]:
    shape = NORM_WITHOUT_MODEL[table_of(bench.device)]
    budget = Budget(bench.timer, total_s=bench.probe_s * NORM_PROBES, pieces=len(NORM_PASSES))

    def of_pass(direction: NormPass) -> Ceiling:
        return norm_ceiling(bench, shape, direction, deadline_s=budget.next_s())

    return tuple((f"norm.{shape.kind}.fp32.{shape}.{one}", functools.partial(of_pass, one)) for one in NORM_PASSES)


def _cache_probes(bench: Bench) -> tuple[Probe, ...]:
    if bench.device.type == "cuda":
        return (("memory.l2", lambda: cuda_l2_ceiling(bench)),)
    if bench.device.type != "cpu":
        return (("memory.l2", _refuse(f"torch does not tell how large the caches of {bench.device.type} are")),)
    caches = cpu_caches()
    if not caches:
        return (("memory.caches", _refuse("the operating system does not list the CPU's caches in /sys")),)
    return tuple((f"memory.l{cache.level}", functools.partial(cpu_level_ceiling, bench, cache)) for cache in caches)


def _swept(bench: Bench, probe: Callable[[Bench], Ceiling]) -> Callable[[], Ceiling]:
    """A full probe of a CPU measures with fewer threads, too."""
    sweeps = bench.thorough and bench.device.type == "cpu"
    return functools.partial(with_sweep, bench, probe) if sweeps else functools.partial(probe, bench)


def _numa_probes(bench: Bench) -> tuple[Probe, ...]:
    """Memory of each node read from each; a quick probe leaves it to the full one, as no prediction needs it."""
    if bench.device.type != "cpu" or not bench.thorough:
        return ()
    cpus = node_cpus()
    try:
        require_nodes(cpus)
    except CannotRunError as stop:
        return (("transfer.numa", _refuse(stop.reason)),)
    return tuple(
        (f"transfer.numa.{source}.{target}", functools.partial(numa_ceiling, bench, source, target, cpus))
        for source in cpus
        for target in cpus
    )


def _transfer_probes(bench: Bench, *, peers: bool = True) -> tuple[Probe, ...]:
    if bench.device.type == "cpu":
        return (("transfer", _refuse(NO_ACCELERATOR)),)
    one_way = tuple(
        (f"transfer.{direction}.{memory}", _near(bench, functools.partial(transfer_ceiling, bench, direction, memory)))
        for direction in DIRECTIONS
        for memory in HOST_MEMORIES
    )
    both = ("transfer.both.pinned", _near(bench, functools.partial(both_ways_ceiling, bench)))
    count = torch.cuda.device_count() if peers and bench.device.type == "cuda" else 0
    others = [torch.device("cuda", index) for index in range(count) if index != bench.device.index]
    between = tuple(
        (f"transfer.{direction}.{other.index}", functools.partial(peer_ceiling, bench, other, direction))
        for other in others
        for direction in PEER_DIRECTIONS
    )
    return (*one_way, both, *between)


def _beside_copies_probes(bench: Bench, dtypes: Sequence[Dtype]) -> tuple[Probe, ...]:
    """Nothing on a CPU, where there are no copies."""
    return tuple(
        (f"matmul.{dtype}.beside_copies", _near(bench, functools.partial(beside_copies_ceiling, bench, dtype)))
        for dtype in dtypes
        if bench.device.type != "cpu"
    )


def _near(bench: Bench, probe: Callable[[], Ceiling]) -> Callable[[], Ceiling]:
    """A copy between host and GPU, run on the CPUs near the GPU; its conditions say so."""

    def nearby() -> Ceiling:
        with near(bench.device) as where:
            found = probe()
        return found.changed(conditions=found.conditions | {"host_thread": where})

    return nearby


def _refuse(reason: str, *, remedy: str = "") -> Callable[[], Ceiling]:
    def probe() -> Ceiling:
        raise CannotRunError(reason, remedy=remedy)

    return probe
