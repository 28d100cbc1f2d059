"""A plan as every framework is told it: the same devices and steps, or a word on what is lacking."""

from __future__ import annotations

import pytest

from hwprof.plan.answer.cost import rates_of
from hwprof.plan.answer.machines import option_of
from hwprof.plan.settings.frameworks import FILE_NAMES, settings_of
from hwprof.plan.settings.launch import launch_of
from hwprof.plan.space.question import Choices, Question
from hwprof.predict.machine import machine_of
from hwprof.predict.stacks import stack_named
from hwprof.specs.catalogue.lookup import load_cluster, load_model
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.job.step import TrainingJob


@pytest.fixture(scope="module")
def plan_on():
    def planned(cluster, tokens=None):
        base = TrainingJob(model=load_model("llama-3.1-8b"), seq_len=2048, global_batch=64, storage="autocast")
        machine = machine_of(load_cluster(cluster))
        narrow = Choices(tensor=(1,), context=(1,), pipeline=(1,), zero=(3,), recompute=("full",), hybrid=False)
        question = Question(
            base=base, machine=machine, stack=stack_named("torch"), table=simulator_parameters(), choices=narrow
        )
        return option_of(question, rates_of(machine.device), tokens=tokens).plans[0]

    return planned


def test_a_launch_has_the_devices_and_the_steps_of_the_plan(plan_on):
    """16 devices are 2 nodes of 8; 1e9 tokens in steps of 64 x 2048 are 7629.4."""
    launch = launch_of(plan_on("16xh100-sxm", tokens=1e9))
    assert (launch.nodes, launch.devices_per_node, launch.devices) == (2, 8, 16)
    assert (launch.backend, launch.steps) == ("cuda", 7629)
    assert launch_of(plan_on("4xh100-sxm")).steps is None


@pytest.mark.parametrize(("cluster", "backend"), [("8xmi300x", "cuda"), ("8xtpu-v5p", "other")])
def test_torch_calls_an_amd_gpu_cuda_and_a_tpu_something_else(cluster, backend, plan_on):
    assert launch_of(plan_on(cluster)).backend == backend


def test_every_framework_is_told_the_plan_or_says_what_it_lacks(plan_on):
    told = settings_of(plan_on("16xh100-sxm", tokens=1e9))
    assert tuple(one.file_name for one in told) == FILE_NAMES
    assert all(bool(one.text) != bool(one.lacks) for one in told)
    fsdp = next(one for one in told if one.file_name.endswith("torchtitan.toml"))
    assert "data_parallel_shard_degree = 16" in fsdp.text


def test_no_framework_of_pytorch_is_told_of_a_tpu(plan_on):
    for one in settings_of(plan_on("8xtpu-v5p")):
        if one.file_name == "maxtext.sh":
            assert not any("device" in word for word in one.lacks)
            continue
        assert not one.text
        assert any("tpu-v5p" in word for word in one.lacks)
