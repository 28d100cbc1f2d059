"""What has a framework to be told of a plan? The job, the nodes, the steps; and what came of telling it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from hwprof.plan.answer.plans import Plan
from hwprof.specs.hardware.spec import ArchitectureFamily, DeviceSpec
from hwprof.specs.job.step import TrainingJob

Backend = Literal["cuda", "cpu", "other"]
"""What runs PyTorch on the device: CUDA or ROCm, the CPU, or something that is started in another way (TPUs)."""

_CUDA_VENDORS = frozenset({"nvidia", "amd"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A plan as a framework sees it.

    Attributes:
        job: the step.
        backend: what runs PyTorch on the device.
        device: its name in the catalogue.
        stack: software that the plan was made for.
        nodes, devices_per_node: how the devices are housed.
        steps: optimizer steps of the whole training; None = nobody said how many tokens.
        architecture: family of the device, by which programs tell what they must be told.
        task: what is trained for: ``sft``, ``dpo``, ``reward``.
    """

    job: TrainingJob
    backend: Backend
    device: str
    stack: str
    nodes: int
    devices_per_node: int
    steps: int | None
    architecture: ArchitectureFamily | None = None
    task: str = "sft"

    @property
    def devices(self) -> int:
        """All of them."""
        return self.nodes * self.devices_per_node

    @property
    def about(self) -> tuple[str, str]:
        """Two lines for the head of a file, with nothing in them that could end a comment."""
        job = self.job
        name = "".join(char if char.isprintable() else " " for char in job.model.name)
        step = f"{job.global_batch} sequences of {job.seq_len} tokens a step"
        return (
            f"hwprof plan: {name} on {self.devices} x {self.device}, {step}",
            f"planned for {self.stack}; data, tokenizer and learning rate are left to you",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a framework was told.

    Attributes:
        framework: and its version or the version that its keys are of.
        file_name: of the file.
        text: its content; empty where the framework can't express the plan.
        lacks: settings of the plan that it has no key for.
        besides: what has to be set elsewhere: in code or on the command line.
    """

    framework: str
    file_name: str
    text: str = ""
    lacks: tuple[str, ...] = ()
    besides: tuple[str, ...] = ()


def launch_of(plan: Plan) -> Launch:
    """The plan as frameworks see it."""
    machine = plan.question.machine
    per_node = min(machine.device.node.devices, machine.devices)
    return Launch(
        job=plan.job,
        backend=backend_of(machine.device),
        device=machine.device.id,
        stack=plan.question.stack.name,
        nodes=machine.devices // per_node,
        devices_per_node=per_node,
        steps=round(plan.bill.steps) if plan.bill.steps > 1 else None,
        architecture=machine.device.architecture_family,
    )


def backend_of(device: DeviceSpec) -> Backend:
    """What runs PyTorch on a device."""
    if device.kind == "cpu":
        return "cpu"
    return "cuda" if device.vendor.lower() in _CUDA_VENDORS else "other"


def told(rules: Iterable[tuple[bool, str]]) -> tuple[str, ...]:
    """The words of the rules that hold."""
    return tuple(words for holds, words in rules if holds)
