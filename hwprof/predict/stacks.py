"""Which software trained? They differ in what they overlap, fuse and launch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hwprof.count.job.storage import Framework
from hwprof.specs.job.schedules import Schedule
from hwprof.specs.job.step import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A family of training software that shares kernels and ways of overlapping.

    Attributes:
        name: of the stack, as parameter files name it.
        family: stacks that are alike; what is not known of one is taken from the family.
        storage: formats in which it keeps weights, gradients and optimizer state.
        assumed_zero_stage: sharding where a run does not say.
        memory: whose way of keeping gradients and states it has, by the names of the memory model.
        gradient_bytes: width of gradients where a run does not say; None = as ``storage`` has it.
        dropout: share of elements dropped where a run does not say.
        device_reading: whether its published memory figures are the device's (nvidia-smi), not the allocator's.
        overlaps_gradients: whether gradients are reduced while backward goes on.
        fused: whether chains of elementwise operations are single kernels.
        schedules: of a pipeline that it can run. gpipe takes as long as 1f1b and holds more; zb-h1 and dualpipe are in
            no released stack. These have to be asked for by name.
        zero_stages_in_pipeline: ZeRO stages that it combines with a pipeline. Most stop at 1, since 2 and 3 would
            reduce or gather for every micro-batch (DeepSpeed refuses them, Megatron-Core's distributed optimizer is
            stage 1).
    """

    name: str
    family: str
    storage: Storage
    assumed_zero_stage: Literal[0, 1, 2, 3] = 0
    memory: Framework = "megatron-core"
    gradient_bytes: Literal[2, 4] | None = None
    dropout: float = 0.0
    device_reading: bool = False
    overlaps_gradients: bool = True
    fused: bool = True
    schedules: tuple[Schedule, ...] = ("1f1b", "interleaved")
    zero_stages_in_pipeline: tuple[int, ...] = (0, 1)


def _deepspeed(name: str, memory: Framework) -> Stack:
    """Megatron-DeepSpeed and its kin: narrow gradients, no reduction beside backward, GPT-3's dropout."""
    return Stack(
        name=name,
        family="megatron",
        storage="mixed",
        memory=memory,
        gradient_bytes=2,
        dropout=0.1 if memory == "megatron-deepspeed" else 0.0,
        device_reading=True,
        overlaps_gradients=False,
        fused=memory != "internevo",
    )


def _xla(name: str) -> Stack:
    """Programs that XLA compiles."""
    return Stack(
        name=name,
        family="jax",
        storage="autocast",
        assumed_zero_stage=3,
        memory="torch",
        zero_stages_in_pipeline=(0, 1, 2, 3),
    )


STACKS = (
    *(
        Stack(name=f"megatron-bridge-{version}", family="megatron", storage="mixed", assumed_zero_stage=1)
        for version in ("25.09", "25.11", "26.02", "26.04", "26.06", "26.08")
    ),
    *(
        Stack(name=f"nemo-{version}", family="megatron", storage="mixed", assumed_zero_stage=1)
        for version in ("23", "24.11", "25.02", "25.04", "25.05")
    ),
    Stack(name="megatron-core", family="megatron", storage="mixed", assumed_zero_stage=1),
    Stack(name="megatron-lm", family="megatron", storage="mixed", dropout=0.1),
    _deepspeed("megatron-deepspeed", "megatron-deepspeed"),
    _deepspeed("megatron-deepspeed-bigscience", "megatron-deepspeed"),
    _deepspeed("internevo", "internevo"),
    Stack(
        name="torch",
        family="torch",
        storage="autocast",
        assumed_zero_stage=3,
        memory="torch",
        schedules=("1f1b", "interleaved", "zb-v"),
        zero_stages_in_pipeline=(0, 1, 2, 3),
    ),
    _xla("maxtext"),
    _xla("paxml"),
    _xla("jax"),
    Stack(name="native", family="native", storage="mixed", assumed_zero_stage=1),
)
"""``torch``: PyTorch with FSDP or DDP (llm-foundry, torchtitan, Lightning); ``jax``: others on XLA;
``native``: hand-written kernels (llm.c). torch's pipelines are ``torch.distributed.pipelining``. InternEvo's chains of
elementwise operations are kernels of their own. BigScience's fork runs DeepSpeed's own pipeline engine."""

_BY_NAME = {stack.name: stack for stack in STACKS}

_FRAMEWORKS: tuple[tuple[str, str], ...] = (
    ("bigscience", "megatron-deepspeed-bigscience"),
    ("megatron-deepspeed", "megatron-deepspeed"),
    ("internevo", "internevo"),
    ("deepspeed", "megatron-deepspeed"),
    ("colossal", "megatron-deepspeed"),
    ("te 2", "megatron-core"),
    ("megatron-bridge", "megatron-bridge"),
    ("nemo", "nemo"),
    ("megatron-core", "megatron-core"),
    ("primus", "megatron-core"),
    ("megatron", "megatron-lm"),
    ("maxtext", "maxtext"),
    ("paxml", "paxml"),
    ("jax", "jax"),
    ("levanter", "jax"),
    ("llm.c", "native"),
)
"""Words in a framework's name, first match first."""


_TORCH_WORDS = ("fsdp", "pytorch", "torch", "lightning", "fabric", "composer", "ddp")


def framework_known(framework: str) -> bool:
    """Whether a word of the name says which stack it is; else ``stack_named`` takes PyTorch's."""
    lowered = framework.lower()
    words = (*_BY_NAME, *(word for word, _ in _FRAMEWORKS), *_TORCH_WORDS)
    return any(word in lowered for word in words)


_VERSION = re.compile(r"\d+\.\d+|\b\d\d\b")


def stack_named(framework: str) -> Stack:
    """The stack of a framework's name: of its versions the last up to the asked one; PyTorch where nothing is known.

    >>> stack_named("Megatron-Bridge 26.02.01 NeMo Container").name
    'megatron-bridge-26.02'
    """
    lowered = framework.lower()
    if lowered in _BY_NAME:
        return _BY_NAME[lowered]
    product = next((stack for word, stack in _FRAMEWORKS if word in lowered), "torch")
    if product in _BY_NAME:
        return _BY_NAME[product]
    versions = sorted((_number(name), name) for name in _BY_NAME if name.startswith(product + "-"))
    asked = _number(lowered)
    return _BY_NAME[next((name for number, name in reversed(versions) if number <= asked), versions[-1][1])]


def _number(text: str) -> float:
    found = _VERSION.search(text)
    return float(found.group()) if found else float("inf")
