"""How far may a prediction be off? Circumstances that widen it, and the interval that follows."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from hwprof.predict.machine import Machine
from hwprof.predict.parameters import device_set
from hwprof.predict.stacks import Stack
from hwprof.specs.catalogue.kernel_points import kernel_table
from hwprof.specs.catalogue.simulator import ErrorModel, SimulatorParameters
from hwprof.specs.job.step import TrainingJob

SMALL_WIDTH = 2048
"""Models of at most this width leave the device waiting for the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a prediction could rest on, beside the job itself.

    Attributes:
        software: whether the job's software stack took part in the fit.
        device: whether its device did, itself or through the same chip.
        kernels: whether products were measured on the device.
        recompute: whether the job says what it computes again.
        network: whether the way between domains is known, where the job crosses it.
    """

    software: bool
    device: bool
    kernels: bool
    recompute: bool
    network: bool


def known_of(
    machine: Machine, stack: Stack, table: SimulatorParameters, *, recompute: bool = True, network: bool = True
) -> Known:
    """What is known of a machine and a stack; ``recompute`` and ``network`` as in ``Known``."""
    software = table.stack.get(stack.name)
    return Known(
        software=software is not None and software.basis == "fitted",
        device=device_set(table, machine.device)[0] is not None,
        kernels=kernel_table("gemm").of(machine.device.id) is not None,
        recompute=recompute,
        network=network and not any("network" in each for each in machine.assumed_links),
    )


def circumstances(job: TrainingJob, machine: Machine, known: Known) -> tuple[str, ...]:
    """What holds of a job that makes its prediction less sure, by the names of the error model."""
    return tuple(_circumstances(job, machine, known))


def _circumstances(job: TrainingJob, machine: Machine, known: Known) -> Iterator[str]:
    layout = job.layout
    several = layout.devices > machine.domain
    holds = {
        "experts": job.model.moe is not None,
        "narrow products": job.dtype in {"fp8", "fp4"},
        "pipeline": layout.pipeline_parallel > 1,
        "several domains": several,
        "small model": job.model.d_model <= SMALL_WIDTH,
        "stored scores": job.attention == "materialised",
        "offload": job.offload != "none",
        "update on the host": job.offloads("optimizer"),
        UNKNOWN[0]: not known.software,
        UNKNOWN[1]: not known.device,
        UNKNOWN[2]: not known.kernels,
        UNKNOWN[3]: not known.recompute,
        UNKNOWN[4]: several and not known.network,
    }
    yield from (name for name, held in holds.items() if held)


UNKNOWN = (
    "software not fitted",
    "device not fitted",
    "kernels not measured",
    "recompute not stated",
    "network not stated",
)
"""Circumstances that never make an interval narrower."""


def interval(predicted: float, model: ErrorModel, names: Collection[str]) -> tuple[float, float]:
    """Low and high end of what 90 % of comparable held-out runs measured where hwprof predicted as much."""
    scale = math.exp(model.coefficients["base"] + sum(model.coefficients.get(name, 0.0) for name in names))
    return predicted * math.exp(model.low * scale), predicted * math.exp(model.high * scale)
