"""Which kernels does a job run? Those of its device, in its products' formats, with the attention of its software."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from hwprof.count.job.device_work import FLASH_BACKWARD_PRODUCTS
from hwprof.predict.kernels.attention.base import AttentionKernel
from hwprof.predict.kernels.attention.sequences import runs_on
from hwprof.predict.kernels.formats import ProductFormat
from hwprof.predict.kernels.row_times import Integers, Runner
from hwprof.predict.machine import Machine
from hwprof.predict.stacks import Stack
from hwprof.specs.catalogue.kernel_points import KernelPoints, table_of
from hwprof.specs.catalogue.simulator import MeasuredRate
from hwprof.specs.hardware.spec import MatmulDtype
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.job.switches import JobDtype

Placed = tuple[TrainingJob, Machine, Stack]
"""A job on a machine with its software."""


def wide_dtype(dtype: JobDtype) -> MatmulDtype:
    """The format of everything that is not a linear layer of a narrow job."""
    return "bf16" if dtype in {"fp8", "fp4"} else dtype


def runners_of(placed: Sequence[Placed], measured: Sequence[tuple[MeasuredRate, ...]]) -> tuple[list[Runner], Integers]:
    """What runs the kernels of each job, and which of them is that of each; ``measured`` on its own device.

    Raises:
        SpecError: a peak is not known.
    """
    places: dict[Runner, int] = {}
    of = [
        places.setdefault(_runner(job, machine, attention_kernel(job, machine, stack), here), len(places))
        for (job, machine, stack), here in zip(placed, measured, strict=True)
    ]
    return list(places), np.array(of, dtype=np.int64)


@functools.lru_cache(maxsize=1024)
def _runner(job: TrainingJob, machine: Machine, kernel: AttentionKernel, measured: tuple[MeasuredRate, ...]) -> Runner:
    wide = wide_dtype(job.dtype)
    model = job.model
    return Runner(
        device=machine.device,
        scale=machine.scale,
        wide=_format(machine, wide, job),
        narrow=_format(machine, job.dtype, job),
        wide_flop_per_s=machine.peak_flop_per_s(wide),
        narrow_flop_per_s=machine.peak_flop_per_s(job.dtype),
        memory_byte_per_s=machine.memory_byte_per_s,
        attention=kernel,
        causal=is_causal(job),
        head_dim=model.head_dim,
        value_dim=model.value_dim,
        group=model.heads / model.kv_heads,
        here=_points(measured, machine, job, kernel),
    )


def _format(machine: Machine, dtype: MatmulDtype, job: TrainingJob) -> ProductFormat:
    """The products' format: what the device has for it, by the scales of the recipe."""
    used = machine.format_used(dtype)
    if used == "fp4":
        return "nvfp4"
    if used == "fp8" and job.narrow_recipe == "blockwise":
        return "fp8-block"
    return used


_BY_SOFTWARE = frozenset({"flash", "materialised"})
"""Words for attention that name no kernel."""


def attention_kernel(job: TrainingJob, machine: Machine, stack: Stack) -> AttentionKernel:
    """The kernel that a job's word for attention means on a device under a software.

    Transformer Engine and XLA take cuDNN's from Hopper on; PyTorch's own fused attention is elsewhere what ``flash``
    means, but for flash attention 2 on Ampere, which most training code installs there. A stack's own goes before.
    """
    if machine.device.kind != "gpu":
        return "vendor"
    if job.attention not in _BY_SOFTWARE:
        return cast("AttentionKernel", job.attention)
    if stack.flash and runs_on(machine.device, stack.flash):
        return stack.flash
    if machine.architecture in {"hopper", "blackwell"}:
        return "torch-sdpa" if stack.family == "torch" else "cudnn"
    return "flash-2" if machine.architecture == "ampere" else "torch-sdpa"


def _points(
    measured: tuple[MeasuredRate, ...], machine: Machine, job: TrainingJob, kernel: AttentionKernel
) -> tuple[KernelPoints | None, KernelPoints | None]:
    """Products and attention that were measured on the machine itself, as rows of the tables of kernels."""
    products: list[dict[str, str | float]] = []
    attention: list[dict[str, str | float]] = []
    for rate in measured:
        dtype = job.dtype if rate.unit == "narrow matmul" else wide_dtype(job.dtype)
        flop_per_s = rate.share * machine.peak_flop_per_s(dtype)
        if rate.unit in {"matmul", "narrow matmul"}:
            seconds = 2 * rate.m * rate.n * rate.k / flop_per_s
            sizes = {"batch": 1, "m": rate.m, "n": rate.n, "k": rate.k}
            products.append({"dtype": _format(machine, dtype, job), **sizes, "seconds": seconds})
        else:
            group = job.model.heads / job.model.kv_heads
            attention.append(attention_point(rate, flop_per_s, kernel, causal=is_causal(job), group=group))
    return points_table(products), points_table(attention)


def attention_point(
    rate: MeasuredRate, flop_per_s: float, kernel: AttentionKernel, *, causal: bool, group: float
) -> dict[str, str | float]:
    """A row of the table of kernels: attention of ``n`` heads over ``m`` tokens, ``group`` of them to a key head.

    Its rate is of the products that the kernel does.
    """
    backward = rate.unit == "attention backward"
    products = FLASH_BACKWARD_PRODUCTS if backward else 2
    flop = products * rate.n * rate.m**2 / (2 if causal else 1) * 2 * rate.k
    return {
        "kernel": kernel,
        "direction": "backward" if backward else "forward",
        "causal": "yes" if causal else "no",
        "batch_size": 1,
        "seq_len": rate.m,
        "heads": rate.n,
        "kv_heads": rate.n / group,
        "head_dim": rate.k,
        "value_dim": rate.k,
        "window": 0,
        "seconds": flop / flop_per_s,
    }


def points_table(rows: Sequence[Mapping[str, str | float]]) -> KernelPoints | None:
    """Rows of a table of kernels as such a table; None where there are none."""
    if not rows:
        return None
    return table_of(tuple(rows[0]), [[str(cell) for cell in row.values()] for row in rows], where="what was probed")


def is_causal(job: TrainingJob) -> bool:
    """Whether a token sees none after it."""
    return job.model.kind in {"decoder", "encoder_decoder"}
