"""What is known of a training loop that somebody else wrote? Its module and one step of it, as they were seen."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hwprof.specs.frozen import Record
from hwprof.specs.job.settings import DeviceKind

SeenDtype = Literal["fp32", "tf32", "bf16", "fp16", "fp64", "unknown"]
"""The format of most matrix-multiply FLOP of a step; fp64 has no ceiling."""


class ModuleSpec(Record):
    """A module that was passed to ``hwprof.profile``.

    Attributes:
        name: its class.
        source: the Python module that defines the class.
        parameters: numbers that it holds, over all ranks that share them; each once however many names it has.
        trainable_parameters: those that get a gradient.
        wrapper: what it was wrapped in: DistributedDataParallel, FSDP2, torch.compile, ...; empty for nothing.
    """

    name: str
    source: str = ""
    parameters: int = Field(ge=0)
    trainable_parameters: int = Field(ge=0)
    wrapper: str = ""


class LoopSettings(Record):
    """One optimizer step of the loop on this rank. None is what was not seen.

    Attributes:
        model: the class of the module.
        device: where it runs.
        dtype: the format of most matrix-multiply FLOP.
        inputs: names, shapes and types of the tensors that one forward pass got (``input_ids 8x128 int64``).
        gradient_accumulation: backward passes of a step.
        samples_per_step: rows of all forward passes: the leading size of the first input tensor.
        tokens_per_step: elements of all token-id inputs; None where the inputs are no token ids.
        optimizer: the class of the optimizer.
        optimizer_implementation: which of torch's implementations it asks for; empty where it has no such choice.
        recompute: whether a part of the forward pass ran again in the backward pass.
        compile: whether torch.compile is in use.
        workers: processes that prepare batches.
        warmup_steps, steps, profiled_steps: the schedule.
    """

    model: str
    device: DeviceKind
    dtype: SeenDtype = "unknown"
    inputs: tuple[str, ...] = ()
    gradient_accumulation: int | None = None
    samples_per_step: int | None = None
    tokens_per_step: int | None = None
    optimizer: str = ""
    optimizer_implementation: Literal["for-loop", "foreach", "fused", ""] = ""
    recompute: Literal["none", "seen"] = "none"
    compile: bool = False
    workers: int | None = None
    warmup_steps: int = Field(ge=0)
    steps: int = Field(gt=0)
    profiled_steps: int = Field(ge=0)
