"""How far may a prediction be off? Circumstances that widen it, and the interval that follows."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from hwprof.predict.machine import Machine
from hwprof.specs.catalogue.simulator import ErrorModel
from hwprof.specs.job.step import TrainingJob

SMALL_WIDTH = 2048
"""Models of at most this width leave the device waiting for the host."""

UNKNOWN_DEVICE = 0.7
"""Added to the logarithm of the scale where no published run of the device's architecture took part in the fit: the
interval is twice as wide. An assumption, not measured."""


def circumstances(job: TrainingJob, machine: Machine, *, recompute_stated: bool = True) -> tuple[str, ...]:
    """What holds of a job that makes its prediction less sure, by the names of the error model."""
    return tuple(_circumstances(job, machine, recompute_stated=recompute_stated))


def _circumstances(job: TrainingJob, machine: Machine, *, recompute_stated: bool) -> Iterator[str]:
    layout = job.layout
    holds = {
        "experts": job.model.moe is not None,
        "recompute not stated": not recompute_stated,
        "narrow products": job.dtype in {"fp8", "fp4"},
        "pipeline": layout.pipeline_parallel > 1,
        "several domains": layout.devices > machine.domain,
        "small model": job.model.d_model <= SMALL_WIDTH,
        "stored scores": job.attention == "materialised",
    }
    yield from (name for name, held in holds.items() if held)


def interval(
    predicted: float, model: ErrorModel, names: Collection[str], *, known_device: bool = True
) -> tuple[float, float]:
    """Low and high end of what 90 % of comparable held-out runs measured where hwprof predicted as much."""
    logarithm = model.coefficients["base"] + sum(model.coefficients.get(name, 0.0) for name in names)
    scale = math.exp(logarithm + (0.0 if known_device else UNKNOWN_DEVICE))
    return predicted * math.exp(model.low * scale), predicted * math.exp(model.high * scale)
