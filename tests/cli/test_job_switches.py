"""Every option of a job in every command that has it: each value is taken or refused in words, and all agree."""

from __future__ import annotations

import json
from typing import Any, get_args

import click
import pytest
from click.testing import CliRunner

from hwprof.cli.count.command import command as count
from hwprof.cli.plan.command import command as plan
from hwprof.cli.simulate import command as simulate
from hwprof.errors import HwprofError
from hwprof.predict.stacks import STACKS
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.job.switches import Switches

SIZE = ("--model", "tinyllama-1.1b", "--seq-len", "512")
COMMANDS = {
    "simulate": (simulate, (*SIZE, "--hardware", "h100-sxm", "--devices", "4", "--tp", "2", "--global-batch", "8")),
    "count": (count, (*SIZE, "--batch-size", "1", "--tp", "2", "--dp", "2")),
    "plan": (
        plan,
        (*SIZE, "--hardware", "h100-sxm", "--devices", "4", "--global-batch", "8", "--tp", "2", "--pp", "1"),
    ),
}
"""A command, and a small job."""

BESIDE = {
    "optimizer_paged": (),
    "qlora": ("--lora-rank", "8"),
    "lora_targets": ("--lora-rank", "8"),
    "adapter_library": ("--lora-rank", "8", "--qlora"),
    "fp8_recipe": ("--dtype", "fp8"),
    "offload_to": ("--offload", "optimizer"),
    "offload_layers": ("--offload", "activations"),
    "selective": ("--recompute", "selective"),
    "recompute_layers": ("--recompute", "full"),
    "expert_skew": ("--model", "mixtral-8x7b", "--ep", "2"),
}
"""Options that say something only beside others."""

REFUSED = ("nvfp4",)
"""Values that contradict the job beside them: a recipe of another format."""


def values_of(option: click.Option) -> list[list[str]]:
    """Ways to type an option, one for each of its choices."""
    kind = getattr(option.type, "kind", option.type)  # of lists, that of their items
    if option.is_flag:
        return [[spelt] for spelt in (*option.opts, *option.secondary_opts)]
    if isinstance(kind, click.Choice):
        return [[option.opts[0], choice] for choice in kind.choices]
    low = getattr(kind, "min", None)
    return [[option.opts[0], str(low if low and low > 1 else 2)]]


def switches_of(command: click.Command) -> list[click.Option]:
    """The options of a command that set a field of a job."""
    fields = {
        *Switches.__annotations__,
        "compile",
        "async_tp",
        "repeat_kv",
        *BESIDE,
        "optimizer",
        "recompute",
        "offload",
    }
    return [each for each in command.params if isinstance(each, click.Option) and each.name in fields]


CASES = [
    pytest.param(name, option.name, typed, id=f"{name} {' '.join(typed)}")
    for name, (command, _) in COMMANDS.items()
    for option in switches_of(command)
    for typed in values_of(option)
]


@pytest.mark.parametrize(("name", "option", "typed"), CASES)
def test_every_value_of_every_switch_is_taken_or_refused_in_words(name: str, option: str, typed: list[str]) -> None:
    command, job = COMMANDS[name]
    result = CliRunner().invoke(command, [*job, *BESIDE.get(option, ()), *typed, "--format", "json"])
    if typed[-1] in REFUSED:
        assert isinstance(result.exception, HwprofError) or result.exit_code == 2
        return
    assert result.exception is None, result.output
    assert json.loads(result.stdout)


def test_every_switch_of_a_stack_is_an_option_of_every_command() -> None:
    spelt = {"compiled": "compile", "async_tensor_parallel": "async_tp", "repeats_kv": "repeat_kv"}
    wanted = {spelt.get(field, field) for field in Switches.__annotations__}
    for command, _ in COMMANDS.values():
        assert wanted <= {parameter.name for parameter in command.params}


def peak(command: click.Command, *arguments: str) -> Any:
    result = CliRunner().invoke(command, [*arguments, "--format", "json"], catch_exceptions=False)
    memory = json.loads(result.stdout)["memory"]
    return [round(memory[key]) for key in ("peak_bytes", "reserved_bytes", "device_bytes")]


@pytest.mark.parametrize("stack", [stack.name for stack in STACKS if not stack.name[-1].isdigit()])
@pytest.mark.parametrize("more", [(), ("--lora-rank", "8", "--qlora"), ("--no-compile", "--optimizer", "adamw-8bit")])
def test_count_and_simulate_need_the_same_memory(stack: str, more: tuple[str, ...]) -> None:
    shared = (*SIZE, "--tp", "2", "--zero", "1", "--stack", stack, *more)
    counted = peak(count, *shared, "--batch-size", "2", "--dp", "2")
    simulated = peak(simulate, *shared, "--micro-batch", "2", "--hardware", "h100-sxm", "--devices", "4")
    assert counted == simulated


def test_words_of_the_switches_are_those_of_the_job() -> None:
    for field, kind in Switches.__annotations__.items():
        assert field in TrainingJob.model_fields, kind
    assert {stack.switches.get("loss", "fused") for stack in STACKS} <= set(
        get_args(TrainingJob.model_fields["loss"].annotation)
    )
