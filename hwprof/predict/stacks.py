"""Which software trained? Stacks differ in what they overlap, fuse and launch, not in arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.specs.job import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A family of training software that shares kernels and ways of overlapping.

    Attributes:
        name: of the stack, as parameter files name it.
        storage: formats in which it keeps weights, gradients and optimizer state.
        assumed_zero_stage: sharding where a run does not say.
        compiled: whether a compiler emits the step (no host between kernels).
    """

    name: str
    storage: Storage
    assumed_zero_stage: int = 0
    compiled: bool = False


STACKS = (
    Stack(name="megatron-core", storage="mixed", assumed_zero_stage=1),
    Stack(name="megatron-lm", storage="mixed"),
    Stack(name="megatron-deepspeed", storage="mixed"),
    Stack(name="torch", storage="autocast", assumed_zero_stage=3),
    Stack(name="jax", storage="autocast", assumed_zero_stage=3, compiled=True),
    Stack(name="native", storage="mixed", assumed_zero_stage=1, compiled=True),
)
"""``torch``: PyTorch with FSDP or DDP (llm-foundry, torchtitan, Lightning); ``jax``: MaxText, Paxml and others on XLA;
``native``: hand-written kernels (llm.c)."""

_BY_NAME = {stack.name: stack for stack in STACKS}

_FRAMEWORKS: tuple[tuple[str, str], ...] = (
    ("megatron-deepspeed", "megatron-deepspeed"),
    ("internevo", "megatron-deepspeed"),
    ("deepspeed", "megatron-deepspeed"),
    ("colossal", "megatron-deepspeed"),
    ("te 2", "megatron-core"),
    ("megatron-core", "megatron-core"),
    ("megatron-bridge", "megatron-core"),
    ("nemo", "megatron-core"),
    ("primus", "megatron-core"),
    ("megatron", "megatron-lm"),
    ("maxtext", "jax"),
    ("paxml", "jax"),
    ("jax", "jax"),
    ("levanter", "jax"),
    ("llm.c", "native"),
)
"""Words in a framework's name, first match first."""


def stack_named(framework: str) -> Stack:
    """The stack of a framework's name; PyTorch where no word of it is known."""
    lowered = framework.lower()
    return _BY_NAME[next((stack for word, stack in _FRAMEWORKS if word in lowered), "torch")]
