"""Which parts does a step's time have, and what holds a device back in each?"""

from __future__ import annotations

from enum import StrEnum

from hwprof.specs.record.run import BoundClass


class StepPart(StrEnum):
    """A part of a step, by the name under which it is shown."""

    COMPUTE = "compute"
    RECOMPUTE = "recompute"
    HOST = "host"
    ENDS = "embedding and head"
    TENSOR = "tensor communication"
    CONTEXT = "context communication"
    EXPERT = "expert communication"
    GATHERING = "weight gathering"
    OFFLOAD = "offload"
    SENDS = "pipeline sends"
    REDUCTION = "gradient reduction"
    BUBBLE = "pipeline bubble"
    OPTIMIZER = "optimizer"
    STRAGGLERS = "stragglers"
    FIXED = "fixed"


BOUND_OF_PART: dict[StepPart, BoundClass | None] = {
    StepPart.COMPUTE: None,
    StepPart.RECOMPUTE: None,
    StepPart.HOST: "host",
    StepPart.ENDS: None,
    StepPart.TENSOR: "communication",
    StepPart.CONTEXT: "communication",
    StepPart.EXPERT: "communication",
    StepPart.GATHERING: "communication",
    StepPart.OFFLOAD: "transfer",
    StepPart.SENDS: "communication",
    StepPart.REDUCTION: "communication",
    StepPart.BUBBLE: "latency",
    StepPart.OPTIMIZER: "memory",
    StepPart.STRAGGLERS: "communication",
    StepPart.FIXED: "host",
}
"""None: kernels, which arithmetic or memory bounds, each in its own way."""

COMMUNICATION = tuple(part for part in StepPart if BOUND_OF_PART[part] == "communication")
"""Parts that are traffic between devices, exposed, or waiting for a slower one."""

WAITING = tuple(part for part in StepPart if BOUND_OF_PART[part] in {"communication", "latency"})
"""Parts in which a device does not work on its own."""

WORKING = tuple(part for part in StepPart if BOUND_OF_PART[part] in {None, "memory"})
"""Parts in which it does. The rest is of the host: dispatch of kernels, copies, what a step costs at any size."""
