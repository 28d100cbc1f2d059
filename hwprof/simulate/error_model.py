"""How far may a prediction be off? Circumstances that widen it, and the interval that follows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hwprof.specs.simulator import ErrorModel

if TYPE_CHECKING:
    from hwprof.simulate.published import Case

SHORT_STEP_TOKENS = 4096
"""Micro-batches of fewer tokens, or narrow models, leave the device waiting for the host."""


def circumstances(case: Case) -> tuple[str, ...]:
    """What holds of a case that makes a prediction less sure, by the names of the error model."""
    return tuple(_circumstances(case))


def _circumstances(case: Case) -> Iterator[str]:
    job, layout = case.job, case.job.layout
    if job.model.moe:
        yield "experts"
    if not case.recompute_stated:
        yield "recompute not stated"
    if job.dtype in {"fp8", "fp4"}:
        yield "narrow products"
    if layout.pipeline_parallel > 1:
        yield "pipeline"
    if layout.devices > case.machine.domain:
        yield "several domains"
    if job.model.d_model <= SMALL_WIDTH:
        yield "small model"
    if job.attention == "materialised":
        yield "stored scores"


SMALL_WIDTH = 2048


def interval(step_s: float, scale_of: ErrorModel, names: tuple[str, ...]) -> tuple[float, float]:
    """Low and high end of what 90 % of comparable held-out runs measured where hwprof predicted ``step_s``."""
    coefficients = scale_of.coefficients
    scale = math.exp(coefficients["base"] + sum(coefficients.get(name, 0.0) for name in names))
    return step_s * math.exp(scale_of.low * scale), step_s * math.exp(scale_of.high * scale)
