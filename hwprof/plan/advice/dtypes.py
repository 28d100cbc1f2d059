"""Does this device multiply faster in another number format?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hwprof.specs.measurement import Ceiling, Origin
from hwprof.specs.record.loop import LoopSettings, SeenDtype
from hwprof.specs.record.run import Dtype, RunSettings

CLEARLY_FASTER = 1.1
"""A dtype is proposed where its ceiling is this many times the present one's."""

_ORIGINS: tuple[Origin, ...] = ("measured", "calibrated", "datasheet")
_PREFERENCE: tuple[Dtype, ...] = ("fp32", "tf32", "bf16", "fp16")
"""Among dtypes of much the same rate, the one with more range and precision."""


def matmul_ceilings(ceilings: Sequence[Ceiling], now: Dtype | SeenDtype) -> dict[Dtype, Ceiling]:
    """Matrix-multiply ceilings by dtype, all of the best origin that covers ``now`` and another; else empty."""
    for origin in _ORIGINS:
        found = {ceiling.name: ceiling for ceiling in ceilings if ceiling.origin == origin}
        known = {dtype: found[f"matmul.{dtype}"] for dtype in _PREFERENCE if f"matmul.{dtype}" in found}
        if now in known and len(known) > 1:
            return known
    return {}


def faster_dtype(ceilings: Sequence[Ceiling], settings: RunSettings | LoopSettings) -> Dtype | None:
    """The dtype to multiply in instead of the run's; None where none is clearly faster.

    A CPU's datasheet says nothing about what its libraries reach, so there a measurement decides alone.
    """
    known = matmul_ceilings(ceilings, settings.dtype)
    faster = _fastest(known, settings.dtype)
    if faster is None or (settings.device == "cpu" and known[faster].origin == "datasheet"):
        return None
    return faster


def _fastest(known: Mapping[Dtype, Ceiling], now: Dtype | SeenDtype) -> Dtype | None:
    if now not in known:
        return None
    present = next(ceiling for dtype, ceiling in known.items() if dtype == now)
    top = max(ceiling.value for ceiling in known.values())
    if top < CLEARLY_FASTER * present.value:
        return None
    return next(dtype for dtype in _PREFERENCE if dtype in known and known[dtype].value * CLEARLY_FASTER >= top)
