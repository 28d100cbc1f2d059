"""How long does the smallest piece of work take: to dispatch from the host, and to run on the device?"""

from __future__ import annotations

import torch

from hwprof.measure.host.accelerator import synchronize
from hwprof.measure.probes.bench import Bench, CannotRunError
from hwprof.measure.probes.matmul import l2_flush
from hwprof.measure.probes.sampling import Work, sample_s
from hwprof.measure.timing import Timer
from hwprof.specs.measurement import Ceiling

DISPATCH_SAMPLE_S = 1e-3
"""Dispatches in one sample: some hundreds, so that they stay below the 1024 launches that a CUDA queue holds."""


def dispatch_ceiling(bench: Bench, wall: Timer) -> Ceiling:
    """``latency.dispatch``: host seconds for one elementwise addition of one element, a Python call included.

    On a CPU that includes running it; on CUDA it is the time to enqueue it, with the queue drained before each sample.

    Args:
        bench: where to measure.
        wall: the host's clock, whatever the device's timeline is.
    """
    apart = bench.device.type != "cpu"
    timed = sample_s(
        wall,
        _smallest_work(bench.device),
        warmups=bench.warmups,
        samples=bench.samples,
        deadline_s=bench.probe_s / 2,
        minimum_sample_s=DISPATCH_SAMPLE_S,
        prepare=(lambda: synchronize(bench.device)) if apart else None,
        waited_s=bench.waited_s,
    )
    includes = "enqueueing without waiting" if apart else "dispatch and the addition itself"
    return bench.ceiling("latency.dispatch", "latency", timed, conditions={"includes": includes})


def launch_ceiling(bench: Bench) -> Ceiling:
    """``latency.launch``: device seconds from one mark to the next with a one-element kernel between them.

    The device is kept busy before each sample, so that marks and kernel are queued by the time that it reaches them.

    Raises:
        CannotRunError: a CPU launches nothing.
    """
    if bench.device.type == "cpu":
        raise CannotRunError("a CPU runs operations itself and launches no kernels; see latency.dispatch")
    timed = bench.time(_smallest_work(bench.device), deadline_s=bench.probe_s / 2, prepare=l2_flush(bench.device))
    return bench.ceiling("latency.launch", "latency", timed)


def _smallest_work(device: torch.device) -> Work:
    x, y = torch.ones(1, device=device), torch.ones(1, device=device)
    return lambda: torch.add(x, x, out=y)
