"""How does a script run as one rank of many that are not there? Environment, beliefs, and what is left at its end."""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwprof.emulate.believed import Believed
from hwprof.emulate.recording import Memory, Recording, training_device
from hwprof.emulate.run.mail import Mail, UnsentError
from hwprof.emulate.run.rank import EnoughError, Rank, is_own, script_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a script ended.

    Attributes:
        failure: what it raised, in a line; empty where it came to its end or to the steps asked for.
        line: of the script that raised.
        awaits: rank for whose objects it waits, where that is what ended it; -1 elsewhere.
    """

    failure: str = ""
    line: str = ""
    awaits: int = -1


def launcher_environment(rank: int, believed: Believed) -> dict[str, str]:
    """What torchrun and SLURM tell a process; a process other than the first sees its own device as the first."""
    node = min(believed.node, believed.devices)
    local = 0 if rank % node else rank % node
    numbers = {
        "RANK": rank,
        "WORLD_SIZE": believed.devices,
        "LOCAL_RANK": local,
        "LOCAL_WORLD_SIZE": node,
        "GROUP_RANK": rank // node,
        "NODE_RANK": rank // node,
        "SLURM_PROCID": rank,
        "SLURM_NTASKS": believed.devices,
        "SLURM_LOCALID": local,
        "SLURM_NODEID": rank // node,
        "SLURM_JOB_NUM_NODES": -(-believed.devices // node),
        "OMPI_COMM_WORLD_RANK": rank,
        "OMPI_COMM_WORLD_SIZE": believed.devices,
        "OMPI_COMM_WORLD_LOCAL_RANK": local,
    }
    words = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": "emulated",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_DEACTIVATE_ASYNC_LOAD": "1",
        "WANDB_MODE": "disabled",
        "ACCELERATE_USE_CPU": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "NCCL_ASYNC_ERROR_HANDLING": "1",
    }
    return {name: str(value) for name, value in numbers.items()} | words


def record(
    number: int,
    believed: Believed,
    function: Callable[[], Any],
    steps: int | None = None,
    mail: Path | None = None,
    *,
    history: bool = False,
) -> Recording:
    """Run a function as a rank; torch of this process can't be used for anything else afterwards."""
    rank = Rank(number, believed, finished=steps, mail=Mail(mail))
    if history:
        rank.storages.keep_history()
    ended = run(rank, function)
    import torch

    from hwprof.emulate.run.host_time import dispatch_s
    from hwprof.measure.host.environment import device_name

    device = training_device(rank.tape)
    held = rank.storages
    on_device = device == "cuda"
    kinds, places = held.at_peak(device)
    return Recording(
        rank=number,
        devices=believed.devices,
        calls=tuple(rank.tape.calls),
        collectives=tuple(rank.tape.collectives),
        events=tuple(rank.tape.last.events),
        call_count=rank.tape.last.calls,
        steps=rank.tape.steps,
        memory=Memory(
            peak_bytes=held.device.peak_bytes if on_device else held.host.peak_bytes,
            reserved_bytes=held.device.peak_reserved_bytes if on_device else held.host.peak_bytes,
            kinds=kinds,
            places=places,
            refusal=held.refusal,
            capacity_bytes=believed.capacity_bytes,
        ),
        device=device,
        software=software_of(sys.modules, sharded=any(each.op == "reduce_scatter" for each in rank.tape.collectives)),
        tf32=torch.backends.cuda.matmul.allow_tf32,
        made_up=dict(rank.values.made_up),
        notes=tuple(rank.notes),
        failure=ended.failure,
        line=ended.line,
        awaits=ended.awaits,
        host_s=tuple(rank.tape.last.host_s),
        layouts=tuple(rank.tape.last.layouts),
        dispatch_s=dispatch_s(),
        history=held.history(),
        host=device_name(torch.device("cpu")),
    )


TRAINERS: Mapping[str, str] = {
    "torchtitan.components": "torchtitan",
    "torchtune.training": "torchtune",
    "litgpt": "litgpt",
    "xtuner": "xtuner",
    "nanotron.trainer": "nanotron",
    "megatron.core": "megatron-core",
    "deepspeed.runtime.engine": "deepspeed",
    "unsloth": "unsloth",
    "transformers.trainer": "huggingface",
}
"""Module that is imported where a program or library trains -> its stack; the first that is found."""


def software_of(modules: Collection[str], *, sharded: bool) -> str:
    """The stack whose program trains; a loop of the user's own is ``fsdp`` or ``torch``."""
    return next((stack for name, stack in TRAINERS.items() if name in modules), "fsdp" if sharded else "torch")


def run(rank: Rank, function: Callable[[], Any]) -> Ended:
    """Run a function as this rank; torch of this process can't be used for anything else any more."""
    os.environ.update(launcher_environment(rank.number, rank.believed))
    if rank.believed.devices == 1:
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            os.environ.pop(name, None)
    import torch

    from hwprof.emulate.run import replicas, stand_ins, threads, worlds
    from hwprof.emulate.run.cuda import kernels, names
    from hwprof.emulate.run.cuda.accelerator import Mode, believe_in_cuda
    from hwprof.emulate.run.host_time import way_s
    from hwprof.emulate.run.steps import Steps
    from hwprof.emulate.run.witness import Witness

    torch.set_num_threads(1)
    believe_in_cuda()
    if rank.believed.kind == "cuda":
        kernels.install(rank)
        names.install(rank)
    worlds.install(rank)
    replicas.install(rank)
    stand_ins.install(rank)
    steps = Steps(rank)
    steps.install()
    fake, clock = Mode(), rank.host_time
    witness = Witness(rank, fake)
    threads.install(rank, (fake, witness))
    with fake, witness:
        clock.way_s = way_s(clock, rank.tape.current.host_s)
        rank.tape.begin()
        ended = _ended(function)
    steps.finish()
    return ended


def _ended(function: Callable[[], Any]) -> Ended:
    try:
        function()
    except EnoughError:
        return Ended()
    except UnsentError as error:
        text = f"it waits for an object that rank {error.sender} does not send"
        return Ended(failure=text, line=_line_of(error), awaits=error.sender)
    except SystemExit as error:
        return Ended() if not error.code else Ended(failure=f"the script ends with exit code {error.code}")
    except Exception as error:  # noqa: BLE001 (whatever somebody's script raises)
        return Ended(failure=_reason(error), line=_line_of(error))
    return Ended()


_NO_SHAPES = re.compile(r"(\w+::\w+)\S*: attempted to run this operator with Meta tensors")
"""What torch says of an operator without a rule for fake tensors, before it tries to compute it."""


def _reason(error: BaseException) -> str:
    """What ended a script, in a line."""
    step: BaseException | None = error
    while step is not None:
        found = _NO_SHAPES.match(str(step))
        if found:
            return f"torch has no rule for what {found[1]} gives of tensors without numbers"
        step = step.__cause__ or step.__context__
    message = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {message}"


def _line_of(error: BaseException) -> str:
    """The innermost line on the way to an error of the user's own files; of a library's, where there are none."""
    own, others, step = "", "", error.__traceback__
    while step is not None:
        path = Path(step.tb_frame.f_code.co_filename)
        if is_own(str(path)):
            own = f"{path.name}:{step.tb_lineno}"
        elif "site-packages" in path.parts and not {"torch", "hwprof"} & {*path.parts}:
            others = f"{path.parent.name}/{path.name}:{step.tb_lineno}"
        step = step.tb_next
    return own or others or script_line()


@contextmanager
def _arguments(words: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, words
    try:
        yield
    finally:
        sys.argv = before


def program(words: list[str]) -> Callable[[], Any]:
    """``train.py ARGS``, or ``-m package.module ARGS``, as Python would start it."""

    def start() -> None:
        if words[0] == "-m":
            with _arguments(words[1:]):
                sys.path.insert(0, str(Path.cwd()))
                runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            with _arguments(words):
                sys.path.insert(0, str(Path(words[0]).resolve().parent))
                runpy.run_path(words[0], run_name="__main__")

    return start
