"""How long do the kernels of a micro-batch take on a device? Roofs with an efficiency that depends on shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from hwprof.count.device_work import Part, Pass, Row, Unit
from hwprof.predict.parameters import Parameters

Floats = NDArray[np.float64]

TILE = 128
"""Rows and columns of the tile that one compute unit makes of a product's result; tiles are waves of as many as there
are units. An assumption: libraries choose among several."""

PADDED = 64
"""Results are padded to multiples of this many rows and columns."""

WAVE_LOSS = 0.3
"""Share of the idle units in the last wave that costs time, assumed; the rest is made up for by splitting tiles."""

FEW_UNITS = 16
"""Devices with fewer, larger units than this (TPU) have no waves and no padding to speak of."""

SMOOTH = 4.0
"""Host and device run beside each other: (device^4 + host^4)^(1/4), a maximum with a rounded corner."""


@dataclass(frozen=True, slots=True)
class RowTable:
    """Rows of several shares, as arrays; ``share`` says to which share each row belongs, of ``shares`` in all."""

    share: NDArray[np.int64]
    shares: int
    part: NDArray[np.int64]
    when: NDArray[np.int64]
    unit: NDArray[np.int64]
    m: Floats
    n: Floats
    k: Floats
    groups: Floats
    flop: Floats
    moved_bytes: Floats
    times: Floats


def row_table(rows_by_share: Sequence[Sequence[Row]]) -> RowTable:
    """The rows of each share, in order."""
    share = np.repeat(np.arange(len(rows_by_share)), [len(rows) for rows in rows_by_share])
    numbers = chain.from_iterable(chain.from_iterable(rows_by_share))
    values = np.fromiter(numbers, dtype=float, count=len(share) * len(Row._fields)).reshape(-1, len(Row._fields))
    part, when, unit = (values[:, column].astype(np.int64) for column in range(3))
    return RowTable(share, len(rows_by_share), part, when, unit, *(values[:, column] for column in range(3, 10)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a device offers to each share of a table: datasheet rates, as arrays of one for each share."""

    peak_flop_per_s: Floats
    narrow_flop_per_s: Floats
    fp4: NDArray[np.bool_]
    memory_byte_per_s: Floats
    units: Floats
    expert_layers: Floats
    new_attention: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatchTimes:
    """Seconds of one micro-batch, arrays of one for each share; of the average layer, of the embedding, of the head.

    Attributes:
        forward_s, input_s, weight_s, recompute_s: of the average layer, with what the host adds.
        attention_s: attention's forward pass in it.
        embedding_forward_s, embedding_backward_s, head_forward_s, head_backward_s: of the ends.
        host_s: what the host adds to a layer's passes because it launches too slowly.
        traffic_share: share of the layer's kernels whose roof is the memory.
    """

    forward_s: Floats
    input_s: Floats
    weight_s: Floats
    recompute_s: Floats
    attention_s: Floats
    embedding_forward_s: Floats
    embedding_backward_s: Floats
    head_forward_s: Floats
    head_backward_s: Floats
    host_s: Floats
    traffic_share: Floats

    def of(self, index: NDArray[np.int64]) -> MicroBatchTimes:
        """The times of the shares at ``index``, which may repeat."""
        return MicroBatchTimes(**{name: getattr(self, name)[index] for name in self.__slots__})


def micro_batch_times(table: RowTable, rates: Rates, p: Parameters) -> MicroBatchTimes:
    """Sums over each share's kernels; where the host is slower than the device, the host's time counts."""
    once_s, by_traffic = kernel_s(table, rates, p)
    seconds = once_s * table.times
    in_layer = table.part == Part.LAYER

    def total(part: Part, *passes: Pass) -> Floats:
        chosen = (table.part == part) & _runs_in(table, passes)
        return _sums(table, seconds, chosen)

    def launches(*passes: Pass) -> Floats:
        chosen = in_layer & _runs_in(table, passes)
        return _sums(table, table.times, chosen)

    expert_s = p.expert_layer_host_s * rates.expert_layers
    forward_s, recompute_s = total(Part.LAYER, Pass.FORWARD), total(Part.LAYER, Pass.RECOMPUTE)
    input_s, weight_s = total(Part.LAYER, Pass.INPUT), total(Part.LAYER, Pass.WEIGHT)
    forward_host_s = launches(Pass.FORWARD) * p.kernel_host_s + expert_s
    backward_host_s = launches(Pass.INPUT, Pass.WEIGHT) * p.kernel_host_s + BACKWARD_EXPERT_HOST * expert_s
    backward_s = _beside(input_s + weight_s, backward_host_s)
    stretch = backward_s / np.maximum(input_s + weight_s, TINY)
    paced_forward_s = _beside(forward_s, forward_host_s)
    return MicroBatchTimes(
        forward_s=paced_forward_s,
        input_s=input_s * stretch,
        weight_s=weight_s * stretch,
        recompute_s=_beside(recompute_s, launches(Pass.RECOMPUTE) * p.kernel_host_s),
        attention_s=_sums(table, seconds, table.unit == Unit.ATTENTION),
        embedding_forward_s=total(Part.EMBEDDING, Pass.FORWARD),
        embedding_backward_s=total(Part.EMBEDDING, Pass.INPUT, Pass.WEIGHT),
        head_forward_s=total(Part.HEAD, Pass.FORWARD),
        head_backward_s=total(Part.HEAD, Pass.INPUT, Pass.WEIGHT),
        host_s=paced_forward_s - forward_s + backward_s - input_s - weight_s,
        traffic_share=_sums(table, seconds, in_layer & by_traffic) / np.maximum(_sums(table, seconds, in_layer), TINY),
    )


BACKWARD_EXPERT_HOST = 1.3
"""Host time of an expert layer's backward pass over its forward pass."""

TINY = 1e-30


def _runs_in(table: RowTable, passes: tuple[Pass, ...]) -> NDArray[np.bool_]:
    """Which rows run in one of the passes; comparing is ten times faster than ``np.isin`` for so few rows."""
    chosen: NDArray[np.bool_] = table.when == passes[0]
    for one in passes[1:]:
        chosen |= table.when == one
    return chosen


def _sums(table: RowTable, values: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """Sum of the chosen rows' values for each share."""
    return np.bincount(table.share[chosen], values[chosen], minlength=table.shares).astype(np.float64)


def _beside(device_s: Floats, host_s: Floats) -> Floats:
    return (device_s**SMOOTH + host_s**SMOOTH) ** (1 / SMOOTH)


def kernel_s(table: RowTable, rates: Rates, p: Parameters) -> tuple[Floats, NDArray[np.bool_]]:
    """Time of each row's kernels, once, and whether it is traffic that takes so long.

    The slower of arithmetic and traffic, and the gap before the next kernel.
    """
    here = table.share
    matmul = table.unit <= Unit.NARROW_GROUPED
    attention = (table.unit == Unit.ATTENTION) | (table.unit == Unit.ATTENTION_BACKWARD)
    arithmetic_s = np.where(
        matmul,
        table.flop / _matmul_flop_per_s(table, rates, p),
        np.where(attention, table.flop / _attention_flop_per_s(table, rates, p), 0.0),
    )
    traffic_s = table.moved_bytes / _at(rates.memory_byte_per_s * p.memory_share, here)
    factor = np.where(table.part == Part.HEAD, _at(p.loss_traffic_factor, here), _at(p.traffic_factor, here))
    traffic_s = np.where(table.unit == Unit.TRAFFIC, traffic_s * factor, traffic_s)
    return np.maximum(arithmetic_s, traffic_s) + _at(p.kernel_gap_s, here), traffic_s > arithmetic_s


def _at(values: float | Floats, index: NDArray[np.int64]) -> float | Floats:
    """One value for each row; a plain number holds for all."""
    return values[index] if isinstance(values, np.ndarray) else values


def _matmul_flop_per_s(table: RowTable, rates: Rates, p: Parameters) -> Floats:
    here = table.share
    plain = rates.peak_flop_per_s * p.matmul_share
    narrow = rates.narrow_flop_per_s * np.where(rates.fp4, p.fp4_matmul_share, p.fp8_matmul_share)
    small = (table.unit == Unit.NARROW_MATMUL) | (table.unit == Unit.NARROW_GROUPED)
    grouped = (table.unit == Unit.GROUPED) | (table.unit == Unit.NARROW_GROUPED)
    limit = np.where(small, _at(narrow * p.matmul_factor, here), _at(plain * p.matmul_factor, here))
    m, n, k = (np.maximum(size, 1.0) for size in (table.m, table.n, table.k))
    by_size = 1 / (1 + _at(p.inner_half, here) / k + _at(p.column_half, here) / n + _at(p.row_half, here) / m)
    batched = (table.unit == Unit.MATMUL) & (table.groups > 1)
    by_kind = np.where(grouped, _at(p.grouped_share, here), np.where(batched, _at(p.batched_share, here), 1.0))
    units = rates.units[here]
    tiled = units >= FEW_UNITS
    padding = 1 - _at(p.padding_loss, here) * (1 - (m / _up(m, PADDED)) * (n / _up(n, PADDED)))
    unaligned = batched & tiled & (_odd(table.n) | _odd(table.k))
    by_tiles = np.where(tiled, padding * _wave_share(m, n, table.groups, units), 1.0)
    aligned = np.where(unaligned, _at(p.unaligned_share, here), 1.0)
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


def _attention_flop_per_s(table: RowTable, rates: Rates, p: Parameters) -> Floats:
    here = table.share
    factor = np.where(rates.new_attention, p.attention_factor, 1.0)
    limit = _at(rates.peak_flop_per_s * p.attention_share * factor, here)
    length = np.maximum(table.m, 1.0)
    backward = np.where(table.unit == Unit.ATTENTION_BACKWARD, _at(p.attention_backward_share, here), 1.0)
    rate: Floats = limit * length / (length + _at(p.sequence_half, here)) * backward
    return rate
