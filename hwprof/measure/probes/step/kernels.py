"""How long does one kernel of a step take at the model's sizes, in one direction? torch's own, as training calls it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from functools import partial

import torch

from hwprof.measure.probes.bench import Bench, Conditions
from hwprof.measure.probes.matmul import l2_flush
from hwprof.measure.probes.norm import NormPass, NormShape, norm_ceiling
from hwprof.measure.probes.operators import warmed_up
from hwprof.measure.probes.rotation import rotating
from hwprof.measure.probes.sampling import Work
from hwprof.measure.probes.step.cached import cached_attention
from hwprof.measure.probes.step.rowwise import activation, dropout, loss, residual, rope
from hwprof.measure.probes.step.tables import embedding
from hwprof.measure.probes.step.weights import clip, optimizer
from hwprof.specs.job.step_kernels import StepKernel
from hwprof.specs.measurement import Ceiling

_KERNELS: dict[str, Callable[[torch.device, StepKernel], Work]] = {
    "activation": activation,
    "cached_attention": cached_attention,
    "clip": clip,
    "dropout": dropout,
    "embedding": embedding,
    "loss": loss,
    "optimizer": optimizer,
    "residual": residual,
    "rope": rope,
}

_LARGE = frozenset({"clip", "embedding", "optimizer"})
"""What goes over whole weights, of which one set is more than a cache holds, or over rows of a table."""


def kernel_ceiling(
    bench: Bench, kernel: StepKernel, *, moved_bytes: float, deadline_s: float, swept_bytes: float = math.inf
) -> Ceiling:
    """``<kind>.<variant>.<dtype>.<sizes>.<direction>``: how many of its counted bytes a kernel moves a second.

    Backward is timed alone, over what one forward kept. The conditions have the median time of a call, the bytes that
    are counted for it and how many operators it dispatches.

    Args:
        bench: where to measure.
        kernel: which one.
        moved_bytes: of one call, by the op table.
        deadline_s: time set aside for it.
        swept_bytes: as ``rotating``.

    Raises:
        WorkError: a result or a gradient is wrong.
    """
    if kernel.kind == "norm":
        direction: NormPass = "forward" if kernel.direction == "forward" else "backward"
        return norm_ceiling(bench, NormShape.of(kernel), direction, counted_bytes=moved_bytes, deadline_s=deadline_s)
    with torch.inference_mode(mode=False), torch.enable_grad():
        make = partial(_KERNELS[kernel.kind], bench.device, kernel)
        large = kernel.kind in _LARGE
        work = make() if large else rotating(make, moved_bytes, bench.device, swept_bytes=swept_bytes)
        warm = warmed_up(bench, work, deadline_s=deadline_s)
        timed = warm.bench.time(work, deadline_s=warm.deadline_s, prepare=l2_flush(bench.device))
    call_s = statistics.median(timed.seconds)
    call: Conditions = {"call_s": call_s, "counted_bytes": moved_bytes, "operators": warm.operators}
    return bench.ceiling(str(kernel), "kernel", timed, work_per_call=moved_bytes, dtype=kernel.dtype, conditions=call)
