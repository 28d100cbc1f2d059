"""Which roofs stand over an operation? Ceilings by precedence: measured here, then calibrated, then datasheet."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hwprof.predict.ceilings.host import HostTimes, host_times
from hwprof.predict.ceilings.kernel_times import NO_KERNELS, KernelTimes, kernel_times
from hwprof.predict.kernels.nearest import nearest_mean
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.loop import SeenDtype
from hwprof.specs.record.run import Direction, Dtype

AttentionShape = tuple[int, int, int, int, int]
"""Batch, query heads, key/value heads, tokens of a sequence, width of a head."""

_PRECEDENCE = {"measured": 0, "calibrated": 1, "datasheet": 2, "assumed": 3}
_ATTENTION = re.compile(r"attention\.(?P<dtype>\w+)\.(?P<shape>\d+(x\d+){4})\.(?P<direction>forward|backward)")
_SHAPE = re.compile(r"matmul\.(?P<dtype>\w+)\.(?P<m>\d+)x(?P<n>\d+)x(?P<k>\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRoof:
    """One level of the memory hierarchy: how much it holds, how fast it is read and written."""

    name: str
    capacity_bytes: float
    byte_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofs:
    """The roofs over operations of one dtype on one device.

    Attributes:
        matmul_name, matmul_flop_per_s: the flat roof; None where no ceiling is known.
        shape_flop_per_s: (m, n, k) -> rate at the model's own shapes, as far as steadily measured.
        attention_flop_per_s: rate of attention at the model's own shape, or by the nearest that were probed, by
            direction; of a causal model half of the products' FLOP are counted. Empty where none was probed.
        memory: slanted roofs, smallest and fastest level first; the last one holds everything.
        dispatch_s: least time of one operator or kernel, however small.
        host_to_device_byte_per_s: None where host and device share memory or the copy was not probed.
        kernels: probed kernels of a step beside products and attention.
        host: what the host adds to a step; None where it was not probed.
    """

    matmul_name: str
    matmul_flop_per_s: float | None
    shape_flop_per_s: dict[tuple[int, int, int], float]
    attention_flop_per_s: dict[Direction, float]
    memory: tuple[MemoryRoof, ...]
    dispatch_s: float
    host_to_device_byte_per_s: float | None
    kernels: KernelTimes = NO_KERNELS
    host: HostTimes | None = None

    @property
    def known(self) -> bool:
        """Whether there is any roof to hold an operation against."""
        return bool(self.matmul_flop_per_s or self.memory)

    def memory_for(self, working_set_bytes: float) -> MemoryRoof | None:
        """The fastest level that holds the working set; None where no memory ceiling is known."""
        holding = (roof for roof in self.memory if working_set_bytes <= roof.capacity_bytes)
        return max(holding, key=lambda roof: roof.byte_per_s, default=None)


def best_ceilings(ceilings: Iterable[Ceiling]) -> dict[str, Ceiling]:
    """One ceiling a name: the origin that stands first in the precedence."""
    ordered = sorted(ceilings, key=lambda ceiling: -_PRECEDENCE[ceiling.origin])
    return {ceiling.name: ceiling for ceiling in ordered}


def roofs_of(
    ceilings: Sequence[Ceiling], dtype: Dtype | SeenDtype, *, device: str, attention: AttentionShape | None = None
) -> Roofs:
    """The roofs that hold for ``dtype`` among all ceilings of a device (``cpu`` or ``cuda``).

    Args:
        ceilings: all that are known.
        dtype: the run's format.
        device: "cpu", or an accelerator.
        attention: the shape of the model's attention; None where none is wanted.
    """
    best = best_ceilings(ceilings)
    matmul = best.get(f"matmul.{dtype}")
    latency = best.get("latency.dispatch" if device == "cpu" else "latency.launch")
    transfer = best.get("transfer.host_to_device.pinned") or best.get("transfer.host_to_device.pageable")
    host = host_times(best)
    added_s = latency.value if latency and host and device == "cpu" else 0.0
    return Roofs(
        matmul_name=matmul.name if matmul else f"matmul.{dtype}",
        matmul_flop_per_s=matmul.value if matmul else None,
        shape_flop_per_s=_shapes(best.values(), dtype),
        attention_flop_per_s=_attention(best, dtype, attention) if attention else {},
        memory=_memory(best.values()),
        dispatch_s=latency.value if latency else 0.0,
        host_to_device_byte_per_s=transfer.value if transfer else None,
        kernels=kernel_times(best.values(), dispatch_s=added_s),
        host=host,
    )


def _shapes(ceilings: Iterable[Ceiling], dtype: str) -> dict[tuple[int, int, int], float]:
    """Rates by shape, without unsteady ones where at least half are steady: the nearest of these know more.

    An unsteady probe ran beside other work; what it lost is no property of its shape.
    """
    matches = ((_SHAPE.fullmatch(ceiling.name), ceiling) for ceiling in ceilings)
    found = {
        (int(match["m"]), int(match["n"]), int(match["k"])): ceiling
        for match, ceiling in matches
        if match is not None and match["dtype"] == dtype
    }
    steady = {shape: ceiling for shape, ceiling in found.items() if ceiling.stable is not False}
    return {shape: ceiling.value for shape, ceiling in (steady if 2 * len(steady) >= len(found) else found).items()}


def _attention(best: Mapping[str, Ceiling], dtype: str, shape: AttentionShape) -> dict[Direction, float]:
    """By direction, as far as probed, at this shape or by the nearest; again at the rate of its forward."""
    probed: dict[str, dict[tuple[int, ...], float]] = {"forward": {}, "backward": {}}
    for name, ceiling in best.items():
        if (found := _ATTENTION.fullmatch(name)) and found["dtype"] == dtype:
            probed[found["direction"]][tuple(map(int, found["shape"].split("x")))] = ceiling.value
    passes: dict[Direction, str] = {"forward": "forward", "recompute": "forward", "backward": "backward"}
    return {direction: _nearest(probed[one], shape) for direction, one in passes.items() if probed[one]}


def _nearest(rates: Mapping[tuple[int, ...], float], shape: AttentionShape) -> float:
    if shape in rates:
        return rates[shape]
    sizes = np.array(list(rates), float)
    return float(nearest_mean(np.array([shape], float), sizes, np.array(list(rates.values())))[0])


def _memory(ceilings: Iterable[Ceiling]) -> tuple[MemoryRoof, ...]:
    levels = [ceiling for ceiling in ceilings if ceiling.kind == "memory"]
    roofs = [
        MemoryRoof(
            name=ceiling.name,
            capacity_bytes=math.inf if ceiling.name == "memory.dram" else ceiling.level_bytes or 0.0,
            byte_per_s=ceiling.value,
        )
        for ceiling in levels
    ]
    return tuple(sorted(roofs, key=lambda roof: roof.capacity_bytes))
