"""What is one measured number, with its evidence? Raw samples and conditions; statistics are properties."""

from __future__ import annotations

import statistics
from typing import Literal

from pydantic import Field

from hwprof.specs.frozen import Record

STABLE_SPREAD = 0.05
"""Largest relative spread (interquartile range over median) of a measurement that is called stable."""

FEWEST_FOR_INTERVAL = 6
"""A median of fewer samples has no 95 % confidence interval."""

MAX_WAITED_FRACTION = 0.05
"""Thread-seconds of waiting for a CPU, over wall time, up to which a measurement counts as undisturbed."""

Origin = Literal["measured", "calibrated", "datasheet", "assumed"]
CeilingKind = Literal["compute", "memory", "transfer", "latency", "kernel"]
"""``kernel`` is what one sort of kernel reaches, and no roof over others."""
Unit = Literal["flop_per_s", "byte_per_s", "s"]


def quantile(samples: tuple[float, ...], fraction: float) -> float:
    """The ``fraction`` quantile with linear interpolation (Hyndman & Fan type 7, numpy's default)."""
    ordered = sorted(samples)
    place = fraction * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median_interval(samples: tuple[float, ...]) -> tuple[float, float]:
    """A 95 % confidence interval of the median, from order statistics (no assumption on the distribution).

    The ranks are those of the binomial(n, 1/2) distribution (Conover, Practical Nonparametric Statistics, 3.2).
    With fewer than ``FEWEST_FOR_INTERVAL`` samples no such interval exists, and the range of the samples is returned.
    """
    ordered = sorted(samples)
    n = len(ordered)
    if n < FEWEST_FOR_INTERVAL:
        return ordered[0], ordered[-1]
    tail, rank, weight = 0.0, 0, 0.5**n
    while tail + weight <= 0.025:
        tail += weight
        weight *= (n - rank) / (rank + 1)
        rank += 1
    return ordered[max(rank - 1, 0)], ordered[min(n - rank, n - 1)]


class Measurement(Record):
    """Samples of one quantity under fixed conditions."""

    name: str
    unit: Unit
    samples: tuple[float, ...] = Field(min_length=1)
    warmups: int = Field(ge=0)
    conditions: dict[str, str | int | float] = Field(default_factory=dict)

    @property
    def median(self) -> float:
        """The middle sample, in ``unit``."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Interquartile range over median, a fraction."""
        if self.median == 0:
            return 0.0
        return (quantile(self.samples, 0.75) - quantile(self.samples, 0.25)) / self.median

    @property
    def interval(self) -> tuple[float, float]:
        """A 95 % confidence interval of the median, in ``unit``."""
        return median_interval(self.samples)

    @property
    def stable(self) -> bool:
        """Whether the spread is small enough to call the median a property of the machine."""
        return self.spread <= STABLE_SPREAD


class Ceiling(Record):
    """One roof: the best rate (or the least latency) that a device reaches, and where that number is from.

    ``name`` is one of: ``matmul.<dtype>`` (``matmul.bf16``, ``matmul.fp8``), ``matmul.<dtype>.<m>x<n>x<k>`` (at one of
    the model's own shapes), ``matmul.<dtype>.beside_copies`` (with copies to and from the host all the while),
    ``attention.<dtype>.<batch>x<heads>x<kv_heads>x<seq_len>x<head_dim>.<forward|backward>``
    (scores, softmax and mixing of values at the model's own shape; of a causal model half of the products' FLOP),
    ``memory.<level>`` (``memory.dram``, ``memory.l2``),
    ``norm.<layernorm|rmsnorm>.fp32.<tokens>x<width>.<forward|backward>``,
    ``<kind>.<variant>.<dtype>.<sizes>.<forward|backward|update>`` of the other kernels of a step, at the model's own
    sizes (``activation``, ``clip``, ``dropout``, ``embedding``, ``loss``, ``optimizer``, ``residual``, ``rope``: see
    ``hwprof.specs.job.step_kernels``),
    ``transfer.<direction>.<pinned|pageable>`` (``transfer.host_to_device.pinned``; ``transfer.both.pinned``: both ways
    at once, bytes of both), ``transfer.<to_peer|from_peer>.<index>`` (another GPU of this machine),
    ``latency.dispatch`` (host time to dispatch one small op), ``latency.launch`` (device time from launch to end of an
    empty kernel), ``latency.host.<forward|forward_backward|clip|optimizer>`` (host time of a part of the model's step),
    ``call.<operator>.<digest>`` (one call of an operator as a script makes it, see ``specs.record.saved_calls``).
    """

    name: str
    kind: CeilingKind
    value: float = Field(gt=0)
    unit: Unit
    origin: Origin
    source: str
    dtype: str = ""
    level: str = ""
    level_bytes: float | None = None
    samples: tuple[float, ...] = ()
    spread: float | None = None
    stable: bool | None = None
    conditions: dict[str, str | int | float] = Field(default_factory=dict)


class Skipped(Record):
    """A probe or reader that could not run here, and why."""

    name: str
    reason: str
    remedy: str = ""
