"""At which rate do products and attention of a shape run? Shares of the peak by curves that were fitted on runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwprof.count.job.device_work import Unit
from hwprof.predict.kernels.row_table import Floats, Rates, RowTable
from hwprof.predict.parameters import Parameters

TILE = 128
"""Rows and columns of the tile that one compute unit makes of a product's result; tiles are waves of as many as there
are units. An assumption: libraries choose among several."""

PADDED = 64
"""Results are padded to multiples of this many rows and columns."""

WAVE_LOSS = 0.3
"""Share of the idle units in the last wave that costs time, assumed; the rest is made up for by splitting tiles."""

FEW_UNITS = 16
"""Devices with fewer, larger units than this (TPU) have no waves and no padding to speak of."""


def at(values: float | Floats, index: NDArray[np.int64]) -> float | Floats:
    """One value for each row; a plain number holds for all."""
    return values[index] if isinstance(values, np.ndarray) else values


def matmul_flop_per_s(table: RowTable, rates: Rates, p: Parameters) -> Floats:
    """Rate of each row as a product [m, k]·[k, n]: the limit of its format, times shares for size, kind and tiles."""
    here = table.share
    plain = rates.peak_flop_per_s * p.matmul_share
    narrow = rates.narrow_flop_per_s * np.where(rates.fp4, p.fp4_matmul_share, p.fp8_matmul_share)
    small = (table.unit == Unit.NARROW_MATMUL) | (table.unit == Unit.NARROW_GROUPED)
    grouped = (table.unit == Unit.GROUPED) | (table.unit == Unit.NARROW_GROUPED)
    limit = np.where(small, at(narrow * p.matmul_factor, here), at(plain * p.matmul_factor, here))
    m, n, k = (np.maximum(size, 1.0) for size in (table.m, table.n, table.k))
    by_size = 1 / (1 + at(p.inner_half, here) / k + at(p.column_half, here) / n + at(p.row_half, here) / m)
    batched = (table.unit == Unit.MATMUL) & (table.groups > 1)
    by_kind = np.where(grouped, at(p.grouped_share, here), np.where(batched, at(p.batched_share, here), 1.0))
    units = rates.units[here]
    tiled = units >= FEW_UNITS
    padding = 1 - at(p.padding_loss, here) * (1 - (m / _up(m, PADDED)) * (n / _up(n, PADDED)))
    unaligned = batched & tiled & (_odd(table.n) | _odd(table.k))
    by_tiles = np.where(tiled, padding * _wave_share(m, n, table.groups, units), 1.0)
    aligned = np.where(unaligned, at(p.unaligned_share, here), 1.0)
    rate: Floats = limit * by_size * by_kind * by_tiles * aligned
    return rate


def _wave_share(m: Floats, n: Floats, groups: Floats, units: Floats) -> Floats:
    waves = np.ceil(m / TILE) * np.ceil(n / TILE) * np.maximum(groups, 1) / units
    share: Floats = 1 - WAVE_LOSS * (1 - waves / np.ceil(waves))
    return share


def _up(size: Floats, multiple: int) -> Floats:
    padded: Floats = multiple * np.ceil(size / multiple)
    return padded


def _odd(size: Floats) -> NDArray[np.bool_]:
    """Whether rows of so many 2-byte elements are not aligned to 16 bytes, which tensor cores want."""
    odd: NDArray[np.bool_] = (size % 8 != 0) & (size == np.floor(size))
    return odd


def attention_flop_per_s(table: RowTable, rates: Rates, p: Parameters) -> Floats:
    """Rate of each row as flash attention over sequences of length m."""
    here = table.share
    factor = np.where(rates.new_attention, p.attention_factor, 1.0)
    limit = at(rates.peak_flop_per_s * p.attention_share * factor, here)
    length = np.maximum(table.m, 1.0)
    backward = np.where(table.unit == Unit.ATTENTION_BACKWARD, at(p.attention_backward_share, here), 1.0)
    rate: Floats = limit * length / (length + at(p.sequence_half, here)) * backward
    return rate
