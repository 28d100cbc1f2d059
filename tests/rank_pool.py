"""Several gloo ranks that stay alive over many tests: each call runs a function of a test file in all of them."""

from __future__ import annotations

import importlib.util
import inspect
import multiprocessing
import os
import socket
import sys
import traceback
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection

ANSWER_S = 120.0
"""A call that takes longer has hung: the pool is ended and the test fails."""


_IMPORTED = [
    "hwprof.cli.run",
    "hwprof.report.files.run",
    "hwprof.session.ranks",
    "hwprof.session.start",
    "hwprof.train.data",
    "hwprof.train.parallel.loop",
    "hwprof.measure.world",
    "hwprof.measure.watch.recorder",
    "torch._dynamo",
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.fsdp",
    "torch.distributed.pipelining",
    "torch.distributed.tensor.parallel",
]
"""What ranks take seconds to import: once, in the fork server, instead of in each."""


def prepare_ranks() -> None:
    """Start the process that ranks come from; returns at once. Without effect where it runs already."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(_IMPORTED)
    forkserver.ensure_running()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def rank_environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun sets, for one of ``size`` ranks on this machine; rank 0 hosts the store."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


class RankPool:
    """Ranks of one world; ``run`` calls ``function(world, *arguments)`` in each and returns their answers.

    With ``joined`` false the ranks have what a launcher sets, but join no world; what they run does so itself. With
    ``store_port`` the store is there already, as torchrun's agent hosts it.
    """

    def __init__(self, size: int, *, joined: bool = True, store_port: int | None = None) -> None:
        prepare_ranks()
        context = multiprocessing.get_context("forkserver")
        port = store_port or free_port()
        agent = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"} if store_port else {}
        self._ends = []
        self.processes = []
        for rank in range(size):
            own, theirs = context.Pipe()
            process = context.Process(
                target=_serve,
                args=(theirs, rank_environment(rank, size, port) | agent, joined),
                name=f"rank-{rank}",
                daemon=True,
            )
            process.start()
            self._ends.append(own)
            self.processes.append(process)

    def start(self, function, *arguments):
        """Call a function in each rank without waiting for an answer."""
        for end in self._ends:
            end.send((inspect.getfile(function), function.__name__, arguments))

    def exit_codes(self):
        """Wait until all ranks have left, each with which code; negative for a signal."""
        for process in self.processes:
            process.join(ANSWER_S)
        return [process.exitcode for process in self.processes]

    def run(self, function, *arguments):
        self.start(function, *arguments)
        answers = []
        for rank, end in enumerate(self._ends):
            if not end.poll(ANSWER_S):
                self.close()
                raise AssertionError(f"rank {rank} did not answer {function.__name__} within {ANSWER_S} s")
            answers.append(end.recv())
        failures = [f"rank {rank}: {answer}" for rank, (ok, answer) in enumerate(answers) if not ok]
        assert not failures, "\n".join(failures)
        return [answer for _, answer in answers]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


def _serve(connection: Connection, environment: dict[str, str], joined: bool) -> None:
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)
    from hwprof.measure.world import open_world

    world = None
    while True:
        try:
            file, name, arguments = connection.recv()
        except EOFError:
            return
        try:
            world = world or (open_world("cpu", timeout_s=60.0) if joined else None)
            answer = (True, getattr(_module(file), name)(world, *arguments))
        except BaseException:  # noqa: BLE001 (told to the test)
            answer = (False, traceback.format_exc())
        connection.send(answer)


@cache
def _module(file: str):
    spec = importlib.util.spec_from_file_location(f"ranks_of_{abs(hash(file))}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
