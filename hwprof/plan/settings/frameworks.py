"""Which frameworks can a plan be told to? All of them, in the order in which they are shown."""

from __future__ import annotations

from hwprof.plan.answer.plans import Plan
from hwprof.plan.settings import (
    accelerate,
    axolotl,
    deepspeed,
    fsdp2,
    maxtext,
    megatron,
    megatron_bridge,
    torchrun,
    torchtitan,
    trl,
)
from hwprof.plan.settings.launch import Settings, launch_of

FRAMEWORKS = (
    torchtitan,
    megatron,
    megatron_bridge,
    deepspeed,
    accelerate,
    fsdp2,
    trl,
    axolotl,
    maxtext,
    torchrun,
)

FILE_NAMES = tuple(framework.FILE_NAME for framework in FRAMEWORKS)


def settings_of(plan: Plan) -> tuple[Settings, ...]:
    """What each framework is told of the plan."""
    launch = launch_of(plan)
    return tuple(framework.settings_for(launch) for framework in FRAMEWORKS)
