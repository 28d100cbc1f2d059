"""How is a script or a function emulated? It runs in a process of its own, and its recording is priced here."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hwprof.emulate.answer import Emulation, emulation
from hwprof.emulate.believed import Believed
from hwprof.emulate.recording import Recording
from hwprof.errors import InputError, WorkError
from hwprof.predict.machine import Machine, machine_of
from hwprof.specs.catalogue.lookup import cluster_of
from hwprof.specs.catalogue.simulator import simulator_parameters
from hwprof.specs.leftovers import scratch_prefix


def machine_named(hardware: str, devices: int) -> Machine:
    """So many devices of the catalogue's hardware, or of a file, in their usual nodes."""
    return machine_of(cluster_of(devices, hardware))


def believed_of(machine: Machine, expert_skew: float = 1.0) -> Believed:
    """What a script is told of a machine's device, and of its router."""
    device = machine.device
    target = device.compute.target.split(".")
    numbered = len(target) == 2 and all(part.isdigit() for part in target)
    return Believed(
        name=device.names[0] if device.names else device.id,
        capability=(int(target[0]), int(target[1])) if numbered else (9, 0),
        capacity_bytes=int(machine.capacity_bytes),
        units=machine.units,
        devices=machine.devices,
        node=machine.node,
        kind="cpu" if device.kind == "cpu" else "cuda",
        expert_skew=expert_skew,
    )


LAUNCHERS = frozenset({"torchrun", "accelerate", "deepspeed", "srun", "mpirun", "mpiexec"})
"""Programs that start ranks; those of torch and accelerate are modules, too."""


def script_of(words: Sequence[str]) -> list[str]:
    """``train.py ARGS`` or ``-m module ARGS`` of what people type: without Python, and without what would start ranks.

    Raises:
        InputError: a launcher stands before something that is no Python file.
    """
    found = list(words)
    if Path(found[0]).name.startswith("python"):
        found = found[1:]
        while found and found[0].startswith("-") and found[0] != "-m":
            found = found[1:]
    first = found[1] if found[:1] == ["-m"] and len(found) > 1 else Path(found[0]).name if found else ""
    if first not in LAUNCHERS and not first.startswith(("torch.distributed.", "accelerate.commands.")):
        return found
    place = next((place for place, word in enumerate(found) if word.endswith(".py")), None)
    if place is None:
        raise InputError(
            f"{first} starts ranks, and no Python file stands behind it",
            expectation="each rank is emulated: --devices says how many there are",
            remedy="leave it out: hwprof emulate ... -- train.py ARGS",
        )
    return found[place:]


def recorded(
    words: list[str],
    machine: Machine,
    *,
    rank: int = 0,
    steps: int | None = None,
    expert_skew: float = 1.0,
    history: bool = False,
) -> tuple[Recording, ...]:
    """Run ``train.py ARGS`` as one rank of a machine's devices, and as those that it exchanges messages with.

    Each runs in a process of its own, so that a pipeline has one for each stage. With ``history`` each keeps what its
    allocator did. ``expert_skew``: tokens of the busiest expert over the mean.

    Returns:
        The rank itself first.

    Raises:
        InputError: there is no such script or rank.
        WorkError: the script could not be followed to the end of a step.
    """
    if not words or (words[0] != "-m" and not Path(words[0]).is_file()):
        raise InputError(
            f"there is no script {words[0] if words else ''!r}",
            expectation="what follows -- is a Python file and its arguments, or -m and a module",
            remedy="write for example: hwprof emulate --hardware h100-sxm --devices 8 -- train.py --lr 1e-4",
        )
    _check_rank(rank, machine)
    _check_torch()
    found: dict[int, Recording] = {}
    with tempfile.TemporaryDirectory(prefix=scratch_prefix()) as name:
        waiting, held = [rank], dict[int, int]()
        while waiting and (len(found) < MOST_RANKS or rank not in found):
            number = waiting[-1]
            asked = {"words": words, "rank": number, "steps": steps, "mail": name, "history": history}
            one = _in_child(asked, believed_of(machine, expert_skew))
            if one.awaits >= 0 and one.awaits not in found and not _circle(held, number, one.awaits):
                held[number] = one.awaits
                waiting = [each for each in waiting if each != one.awaits] + [one.awaits]
                continue
            if one.awaits in found and one.steps:  # that rank had shown enough before it would have sent this
                one = replace(one, failure="")
            found[number] = _whole(one)
            waiting.pop()
            held.pop(number, None)
            waiting[:0] = [each for each in one.peers if each not in found and each not in waiting]
    return (found.pop(rank), *(found[number] for number in sorted(found)))


def _circle(held: Mapping[int, int], number: int, awaited: int) -> bool:
    """Whether a rank that is awaited waits for the one that awaits it: rank -> for which it waits."""
    while awaited != number and awaited in held:
        awaited = held[awaited]
    return awaited == number


MOST_RANKS = 64
"""Ranks that exchange messages and are emulated for that; of more the rest is taken to be as fast as these."""


def _in_child(asked: Mapping[str, Any], believed: Believed) -> Recording:
    with tempfile.TemporaryDirectory(prefix=scratch_prefix()) as name:
        folder = Path(name)
        content = {**asked, "believed": asdict(believed)}
        (folder / "asked.json").write_text(json.dumps(content), encoding="utf-8")
        package = str(Path(__file__).parents[2])
        paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
        environment = os.environ | {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}
        ended = subprocess.run(  # noqa: S603 (this interpreter, this package)
            [sys.executable, "-m", "hwprof.emulate.run.child", name], check=False, env=environment
        )
        file = folder / "recording.pickle"
        if not file.exists():
            raise WorkError(
                f"the process that ran the script ended with code {ended.returncode}",
                expectation="it leaves a recording, even where the script fails",
                remedy="see what it printed above",
            )
        with file.open("rb") as opened:
            found = pickle.load(opened)  # noqa: S301 (this process asked for it)
    assert isinstance(found, Recording)
    return found


def _check_rank(rank: int, machine: Machine) -> None:
    if not 0 <= rank < machine.devices:
        raise InputError(
            f"there is no rank {rank} among {machine.devices} devices", expectation=f"0 to {machine.devices - 1}"
        )


def _check_torch() -> None:
    """A script is followed through parts of torch that older releases have elsewhere; torch itself is not imported."""
    found = find_spec("torch")
    if found is None or found.origin is None:
        raise InputError("torch is not installed, and the script trains with it", remedy="pip install torch")
    if not Path(found.origin).with_name("distributed").joinpath("tensor", "_sharding_prop.py").exists():
        raise InputError(
            f"torch {version('torch')} is too old to emulate a script with",
            expectation="2.5 or newer; 2.13 and 2.14 were tried",
            remedy="install a newer torch",
        )


def _whole(found: Recording) -> Recording:
    """A recording that has a step.

    Raises:
        WorkError: the script failed before its first step was over, or never trained.
    """
    if found.failure:
        raise WorkError(
            f"{found.line or 'the script'}: {found.failure}",
            expectation="the script runs as on the machine, but tensors hold no numbers",
            remedy="what looks at numbers, files of other ranks or kernels of its own can't be followed; leave it out",
        )
    if not found.steps:
        raise WorkError(
            "the script ended without a forward or backward pass",
            expectation="it trains for at least one step",
            remedy="give it the arguments with which it trains",
        )
    return found


def emulate(
    function: Callable[[], Any], *, hardware: str, devices: int = 1, rank: int = 0, steps: int | None = None
) -> Emulation:
    """Run a function that trains as one rank of many devices that are not here; nothing is computed.

    The function runs in a copy of this process, with ``torch.cuda``, process groups and launcher variables as on the
    machine, until two steps do the same work.

    Args:
        function: trains for some steps; without arguments.
        hardware: a device of the catalogue, or a file.
        devices: how many there are.
        rank: which of them to be.
        steps: after how many steps to end; None: when two that follow each other are alike.

    Returns:
        The step: ``step_s``, ``interval_s``, the ``recording`` with FLOP, collectives and memory, and more.

    Raises:
        InputError: the hardware is not known, or this system can't copy a process.
        WorkError: the function could not be followed to the end of a step.
    """
    machine = machine_named(hardware, devices)
    _check_rank(rank, machine)
    _check_torch()
    if not hasattr(os, "fork"):
        raise InputError("this system can't copy a process", remedy="run the script with `hwprof emulate -- train.py`")
    with tempfile.TemporaryDirectory(prefix=scratch_prefix()) as name:
        file = Path(name) / "recording.pickle"
        process = os.fork()
        if process == 0:
            _in_copy(function, machine, rank, steps, file)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if not file.exists():
            raise WorkError(
                "the copy of this process in which the function ran ended "
                + (f"by signal {-code}" if code < 0 else f"with code {code}, without a recording"),
                expectation="it leaves one, even where the function fails",
                remedy="see what it printed above, or emulate a script: `hwprof emulate -- train.py`",
            )
        with file.open("rb") as opened:
            found: Recording = pickle.load(opened)  # noqa: S301 (written by the copy of this process)
    return emulation([_whole(found)], machine, simulator_parameters())


def _in_copy(function: Callable[[], Any], machine: Machine, rank: int, steps: int | None, file: Path) -> None:
    """Never comes back."""
    try:
        from hwprof.emulate.run.script import record

        found = record(rank, believed_of(machine), function, steps)
        file.write_bytes(pickle.dumps(found, protocol=pickle.HIGHEST_PROTOCOL))
    except BaseException:  # noqa: BLE001 (of whatever kind: this process ends here, and must say why)
        traceback.print_exc()
        os._exit(1)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
