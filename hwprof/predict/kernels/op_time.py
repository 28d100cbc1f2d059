"""How long do the kernels of a micro-batch take on a device? Roofs with an efficiency that depends on shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.count.job.device_work import Part, Pass, Unit
from hwprof.predict.kernels.measured_rates import corrections
from hwprof.predict.kernels.rates import at, attention_flop_per_s, matmul_flop_per_s
from hwprof.predict.kernels.row_table import Floats, Rates, RowTable
from hwprof.predict.parameters import Parameters

SMOOTH = 4.0
"""Host and device run beside each other: (device^4 + host^4)^(1/4), a maximum with a rounded corner."""


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

    The slower of arithmetic and traffic, and the gap before the next kernel. Rates that were measured stand before the
    fitted curves.
    """
    here = table.share
    matmul = table.unit <= Unit.NARROW_GROUPED
    attention = (table.unit == Unit.ATTENTION) | (table.unit == Unit.ATTENTION_BACKWARD)
    rate = np.where(attention, attention_flop_per_s(table, rates, p), matmul_flop_per_s(table, rates, p))
    if p.measured:
        rate = rate * corrections(table, rates, p)
    arithmetic_s = np.where(matmul | attention, table.flop / rate, 0.0)
    traffic_s = table.moved_bytes / at(rates.memory_byte_per_s * p.memory_share, here)
    factor = np.where(table.part == Part.HEAD, at(p.loss_traffic_factor, here), at(p.traffic_factor, here))
    traffic_s = np.where(table.unit == Unit.TRAFFIC, traffic_s * factor, traffic_s)
    return np.maximum(arithmetic_s, traffic_s) + at(p.kernel_gap_s, here), traffic_s > arithmetic_s
