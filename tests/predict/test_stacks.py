"""Software by the name that a source gives it."""

from __future__ import annotations

import pytest

from hwprof.predict.stacks import STACKS, stack_named
from hwprof.specs.catalogue.published import read_published
from hwprof.specs.catalogue.simulator import simulator_parameters


@pytest.mark.parametrize(
    ("framework", "family"),
    [
        ("Megatron-DeepSpeed", "megatron-deepspeed"),
        ("NeMo 2.0 / Megatron-Core", "megatron"),
        ("llm-foundry/Composer (PyTorch FSDP)", "torch"),
        ("torchtitan", "torch"),
        ("MaxText", "jax"),
        ("Paxml", "jax"),
        ("llm.c", "native"),
        ("something new", "torch"),
        ("", "torch"),
    ],
)
def test_families(framework, family):
    assert stack_named(framework).family == family


def test_deepspeed_is_not_taken_for_megatron():
    stack = stack_named("Megatron-DeepSpeed (ZeRO-1)")
    assert stack.switches["framework"] == "megatron-deepspeed"
    assert not stack.overlaps_gradients


def test_a_stack_is_found_by_its_own_name():
    assert [stack_named(stack.name) for stack in STACKS] == list(STACKS)
    assert len({stack.name for stack in STACKS}) == len(STACKS)


def test_the_parameter_file_knows_the_family_of_every_stack():
    table = simulator_parameters()
    assert {stack.family for stack in STACKS} <= set(table.family)
    assert set(table.stack) <= {stack.name for stack in STACKS}


def test_few_published_frameworks_fall_back_to_torch_unseen():
    words = ("torch", "fsdp", "composer", "lightning", "ddp", "hf", "nanochat", "flash")
    names = {run.framework for run in read_published()}
    unseen = {n for n in names if stack_named(n).name == "torch" and not any(word in n.lower() for word in words)}
    assert len(unseen) <= 3, unseen
