"""How long does a micro-batch take on a device? Its kernels added up, beside the host that launches them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.count.job.rows import Part, Pass, Unit
from hwprof.predict.kernels.row_table import Floats, RowTable
from hwprof.predict.kernels.row_times import RowTimes
from hwprof.predict.parameters import Parameters

SMOOTH = 4.0
"""Host and device run beside each other: (device^4 + host^4)^(1/4), a maximum with a rounded corner."""

SORTS = 5
PRODUCTS, NARROW, ATTENTION, TRAFFIC, COPIES = range(SORTS)
"""Sorts of kernels that software stretches in its own way; copies are single kernels in all software."""


SORT_OF = np.array(
    [
        {
            Unit.TRAFFIC: TRAFFIC,
            Unit.COPY: COPIES,
            Unit.ATTENTION: ATTENTION,
            Unit.ATTENTION_BACKWARD: ATTENTION,
        }.get(unit, NARROW if unit in {Unit.NARROW_MATMUL, Unit.NARROW_GROUPED} else PRODUCTS)
        for unit in Unit
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareTimes:
    """Kernels of each share of a model added up; arrays [shares, parts, passes, sorts], but for the last three.

    Attributes:
        alone_s: kernels run alone.
        arithmetic_s: what of them is arithmetic at the peak, which a slower clock stretches.
        launches: of the average layer, by the host. [shares, passes]
        expert_layers: share of the layers that have experts for which the host waits. [shares]
        traffic_share: share of the average layer's time whose roof is the memory. [shares]
    """

    alone_s: Floats
    arithmetic_s: Floats
    launches: Floats
    expert_layers: Floats
    traffic_share: Floats

    def at(self, shares: NDArray[np.int64]) -> ShareTimes:
        """Those of some shares, which may repeat."""
        return ShareTimes(**{name: getattr(self, name)[shares] for name in self.__slots__})


def share_times(
    table: RowTable, times: RowTimes, expert_layers: Floats, launched: Floats, by_expert: Floats
) -> ShareTimes:
    """The sums over each share's rows, which no parameter changes.

    ``expert_layers`` as in ``ShareTimes``; ``launched`` is 1 where the host launches kernel by kernel, 0 where graphs;
    ``by_expert`` is 1 where it launches the product of each expert, 0 where one kernel has those of all.
    """
    sort = SORT_OF[table.unit]
    grouped = np.isin(table.unit, (Unit.GROUPED, Unit.NARROW_GROUPED)) & (by_expert[table.share] > 0)
    kernels = np.where(grouped, np.maximum(table.groups, 1.0), 1.0)
    shape = (table.shares, len(Part), len(Pass), SORTS)
    place = np.ravel_multi_index((table.share, table.part, table.when, sort), shape)

    def summed(values: Floats) -> Floats:
        found: Floats = np.bincount(place, values * table.times, minlength=int(np.prod(shape))).astype(np.float64)
        return found.reshape(shape)

    alone_s = summed(times.alone_s)
    by_traffic = summed(np.where(times.traffic, times.alone_s, 0.0))[:, Part.LAYER].sum(axis=(1, 2))
    return ShareTimes(
        alone_s=alone_s,
        arithmetic_s=summed(times.arithmetic_s),
        launches=summed(kernels)[:, Part.LAYER].sum(axis=2) * launched[:, None],
        expert_layers=expert_layers * launched,
        traffic_share=by_traffic / np.maximum(alone_s[:, Part.LAYER].sum(axis=(1, 2)), TINY),
    )


TINY = 1e-30


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


def micro_batch_times(shares: ShareTimes, p: Parameters) -> MicroBatchTimes:
    """Sums over each share's kernels as its software runs them; where the host is slower, the host's time counts."""
    kernels_s = _stretched_s(shares, p)
    layer, embedding, head = (kernels_s[:, part] for part in (Part.LAYER, Part.EMBEDDING, Part.HEAD))
    host_s = shares.launches * _column(p.kernel_host_s)
    expert_s = p.expert_layer_host_s * shares.expert_layers
    forward_s, recompute_s = layer[:, Pass.FORWARD], layer[:, Pass.RECOMPUTE]
    input_s, weight_s = layer[:, Pass.INPUT], layer[:, Pass.WEIGHT]
    backward_host_s = host_s[:, Pass.INPUT] + host_s[:, Pass.WEIGHT] + BACKWARD_EXPERT_HOST * expert_s
    backward_s = _beside(input_s + weight_s, backward_host_s)
    stretch = backward_s / np.maximum(input_s + weight_s, TINY)
    paced_forward_s = _beside(forward_s, host_s[:, Pass.FORWARD] + expert_s)
    return MicroBatchTimes(
        forward_s=paced_forward_s,
        input_s=input_s * stretch,
        weight_s=weight_s * stretch,
        recompute_s=_beside(recompute_s, host_s[:, Pass.RECOMPUTE]),
        attention_s=shares.alone_s[:, Part.LAYER, Pass.FORWARD, ATTENTION],
        embedding_forward_s=embedding[:, Pass.FORWARD],
        embedding_backward_s=embedding[:, Pass.INPUT] + embedding[:, Pass.WEIGHT],
        head_forward_s=head[:, Pass.FORWARD],
        head_backward_s=head[:, Pass.INPUT] + head[:, Pass.WEIGHT],
        host_s=paced_forward_s - forward_s + backward_s - input_s - weight_s,
        traffic_share=shares.traffic_share,
    )


def _stretched_s(shares: ShareTimes, p: Parameters) -> Floats:
    """Kernels as they run in a step, on a hot chip and with what the software adds. [shares, parts, passes]."""
    slower = (1 / _column(p.sustained_share) - 1)[..., None]
    slower_narrow = (1 / _column(p.narrow_share) - 1)[..., None]
    alone_s, arithmetic_s = shares.alone_s, shares.arithmetic_s
    products_s = alone_s[..., PRODUCTS] + slower * arithmetic_s[..., PRODUCTS]
    products_s = products_s + alone_s[..., NARROW] + slower_narrow * arithmetic_s[..., NARROW]
    attention_s = alone_s[..., ATTENTION] + slower * arithmetic_s[..., ATTENTION]
    by_part = np.stack(np.broadcast_arrays(p.traffic_factor, p.traffic_factor, p.loss_traffic_factor), axis=-1)
    moved_s = alone_s[..., TRAFFIC] * by_part[..., None] + alone_s[..., COPIES]
    moved_s = moved_s / _column(p.memory_share)[..., None]
    product_factor, attention_factor = (_column(factor)[..., None] for factor in (p.product_factor, p.attention_factor))
    kernels_s = products_s * product_factor + attention_s * attention_factor + moved_s
    found: Floats = kernels_s / _column(p.kernel_share)[..., None]
    return found


def _column(values: float | Floats) -> Floats:
    return np.asarray(values, dtype=np.float64).reshape(-1, 1)


BACKWARD_EXPERT_HOST = 1.3
"""Host time of an expert layer's backward pass over its forward pass."""


def _beside(device_s: Floats, host_s: Floats) -> Floats:
    return (device_s**SMOOTH + host_s**SMOOTH) ** (1 / SMOOTH)
