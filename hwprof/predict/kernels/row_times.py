"""How long does each kernel of many shares of a model take on its device, run alone? Asked of the model of its kind.

Products, experts' products and attention are asked by their shapes, each distinct shape once; what is left is traffic
at the rate that streaming kernels reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.count.job.device_work import FLASH_BACKWARD_PRODUCTS
from hwprof.count.job.rows import Pass, Unit
from hwprof.predict.curves.kernel_time import KernelTime
from hwprof.predict.kernels.attention.base import AttentionKernel, AttentionKind, Direction
from hwprof.predict.kernels.attention.sequences import AttentionSizes, attention_s
from hwprof.predict.kernels.device_rates import rates_of
from hwprof.predict.kernels.formats import ProductFormat
from hwprof.predict.kernels.grouped import Experts, experts_s
from hwprof.predict.kernels.products import Products, product_s
from hwprof.predict.kernels.row_table import ExpertSizes, Floats, RowTable
from hwprof.specs.catalogue.kernel_points import KernelPoints, kernel_table
from hwprof.specs.hardware.spec import DeviceSpec

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """What runs the kernels of a job: one device, the formats of its products, its attention.

    Attributes:
        device: the device.
        scale: devices of a package that count as one.
        wide, narrow: formats of products that the device has a path for; the same where nothing is narrow.
        wide_flop_per_s, narrow_flop_per_s: their dense peaks, of all ``scale``.
        memory_byte_per_s: that streaming kernels reach, of all ``scale``.
        attention: its kernel.
        causal, head_dim, value_dim, group: of the model; ``group`` query heads share a key head.
        here: products and attention that were measured on the machine itself.
    """

    device: DeviceSpec
    scale: int
    wide: ProductFormat
    narrow: ProductFormat
    wide_flop_per_s: float
    narrow_flop_per_s: float
    memory_byte_per_s: float
    attention: AttentionKernel
    causal: bool
    head_dim: int
    value_dim: int
    group: float
    here: tuple[KernelPoints | None, KernelPoints | None] = (None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTimes:
    """Of each row, once: arrays of one for each.

    Attributes:
        alone_s: time of the kernel on a cool device.
        arithmetic_s: what of it is arithmetic at the peak, which a slower clock stretches.
        traffic: whether the memory takes so long.
        basis: who says the times of products and attention, in words.
    """

    alone_s: Floats
    arithmetic_s: Floats
    traffic: NDArray[np.bool_]
    basis: tuple[str, ...]


def row_times(table: RowTable, runners: Sequence[Runner], runner_of: Integers) -> RowTimes:
    """The time of every row; ``runner_of`` says which of the runners has each share.

    Raises:
        SpecError: a peak is not known.
    """
    alone_s, arithmetic_s = np.zeros(len(table.share)), np.zeros(len(table.share))
    owner = runner_of[table.share]
    basis: dict[str, None] = {}
    for place, runner in enumerate(runners):
        mine = owner == place
        for units, ask, peak_flop_per_s in _asked(runner):
            rows = np.flatnonzero(mine & np.isin(table.unit, units))
            if len(rows):
                found = ask(table, rows)
                alone_s[rows] = found.seconds / runner.scale
                arithmetic_s[rows] = table.flop[rows] / peak_flop_per_s
                basis[found.basis.text] = None
        moved = mine & np.isin(table.unit, (Unit.TRAFFIC, Unit.COPY))
        alone_s[moved] = table.moved_bytes[moved] / runner.memory_byte_per_s
    at_peak_s = _memory_s(table, runners, owner)
    return RowTimes(alone_s=alone_s, arithmetic_s=arithmetic_s, traffic=at_peak_s > arithmetic_s, basis=tuple(basis))


def _memory_s(table: RowTable, runners: Sequence[Runner], owner: Integers) -> Floats:
    rates = np.array([runner.memory_byte_per_s for runner in runners])
    seconds: Floats = table.moved_bytes / rates[owner]
    return seconds


Ask = Callable[[RowTable, Integers], KernelTime]


def _asked(runner: Runner) -> tuple[tuple[tuple[Unit, ...], Ask, float], ...]:
    """Which units are asked of which model, and the peak of their arithmetic."""

    def product(dtype: ProductFormat) -> Ask:
        def ask(table: RowTable, rows: Integers) -> KernelTime:
            sizes = np.stack([table.m[rows], table.n[rows], table.k[rows], np.maximum(table.groups[rows], 1.0)], axis=1)
            distinct, back = np.unique(np.maximum(sizes, 1e-3), axis=0, return_inverse=True)
            m, n, k, batch = distinct.T
            asked = Products(m=m, n=n, k=k, batch=batch)
            found = product_s(asked, runner.device, dtype, table=kernel_table("gemm"), here=runner.here[0])
            return found.at(back).at_least(_unaligned_s(runner, dtype, table, rows))

        return ask

    def attention(direction: Direction) -> Ask:
        return lambda table, rows: _attention(runner, direction, table, rows)

    def experts(dtype: ProductFormat) -> Ask:
        return lambda table, rows: _experts(runner, dtype, table, rows) or product(dtype)(table, rows)

    return (
        ((Unit.MATMUL,), product(runner.wide), runner.wide_flop_per_s),
        ((Unit.GROUPED,), experts(runner.wide), runner.wide_flop_per_s),
        ((Unit.NARROW_MATMUL,), product(runner.narrow), runner.narrow_flop_per_s),
        ((Unit.NARROW_GROUPED,), experts(runner.narrow), runner.narrow_flop_per_s),
        ((Unit.ATTENTION,), attention("forward"), runner.wide_flop_per_s),
        ((Unit.ATTENTION_BACKWARD,), attention("backward"), runner.wide_flop_per_s),
    )


ALIGNED_ELEMENTS = 8
"""Rows of this many 16-bit numbers are 16 bytes."""


def _unaligned_s(runner: Runner, dtype: ProductFormat, table: RowTable, rows: Integers) -> Floats:
    """The least time of products of scores and values whose heads are no multiple of 16 bytes wide: 0 for all others.

    They do without matrix units, which libraries before cuBLAS 11 could not use on them at all (NVIDIA, Matrix
    Multiplication Background User's Guide, "Tensor Core Requirements").
    """
    odd = (table.n[rows] % ALIGNED_ELEMENTS != 0) | (table.k[rows] % ALIGNED_ELEMENTS != 0)
    odd &= (table.unit[rows] == Unit.MATMUL) & (table.groups[rows] > 1) & (dtype in {"bf16", "fp16"})
    seconds: Floats = np.where(odd, table.flop[rows] / rates_of(runner.device).vector_flop_per_s, 0.0)
    return seconds


def _experts(runner: Runner, dtype: ProductFormat, table: RowTable, rows: Integers) -> KernelTime | None:
    """Products of several experts, at the rate of whole expert layers of their sizes; None where nobody measured any.

    Only forward passes were measured: products of the backward pass are as large, and run at the same rate.
    """
    tokens = np.where(table.when[rows] == Pass.WEIGHT, table.k[rows], table.m[rows])
    groups = table.groups[rows]
    sizes = np.column_stack([tokens * groups, groups, table.experts[table.share[rows]]])
    distinct, back = np.unique(sizes, axis=0, return_inverse=True)
    layer = Experts(**dict(zip(("rows", "experts", *ExpertSizes._fields), distinct.T, strict=True)))
    found = experts_s(layer, runner.device, dtype, table=kernel_table("grouped"))
    if found.basis.word == "assumed":
        return None
    return found.at(back).times(table.flop[rows] / layer.flop[back])


def _attention(runner: Runner, direction: Direction, table: RowTable, rows: Integers) -> KernelTime:
    """Attention by its sequence length and by as many heads as do the row's work.

    Ranks that split a sequence, and layers whose window is shorter, do the work of a part of the heads.
    """
    kind = AttentionKind(
        kernel=runner.attention,
        direction=direction,
        causal=runner.causal,
        head_dim=runner.head_dim,
        value_dim=runner.value_dim,
    )
    seq_len = table.m[rows]
    products = 2.0 if direction == "forward" else float(FLASH_BACKWARD_PRODUCTS)
    seen = seq_len**2 / 2 if runner.causal else seq_len**2
    head_flop = products * seen * (runner.head_dim + runner.value_dim)
    sizes, back = np.unique(np.stack([table.flop[rows] / head_flop, seq_len], axis=1), axis=0, return_inverse=True)
    asked = AttentionSizes(batch_heads=sizes[:, 0], seq_len=sizes[:, 1], group=np.full(len(sizes), runner.group))
    return attention_s(asked, runner.device, kind, table=kernel_table("attention"), here=runner.here[1]).at(back)
