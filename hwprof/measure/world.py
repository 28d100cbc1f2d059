"""Which rank is this, among which others? The process group that a launcher set up, and small agreements."""

from __future__ import annotations

import functools
import itertools
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Protocol, cast

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from hwprof.errors import InputError, WorkError
from hwprof.measure.host.accelerator import make_current
from hwprof.measure.host.environment import resolve_device, visible

_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_LAUNCH = "torchrun --nproc-per-node <ranks> -m hwprof ..."
BACKENDS = {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl", "npu": "hccl"}
"""Kind of device -> what its ranks talk through, as torch calls it; there is none between Apple's GPUs."""
TORCH_LATER_S = 60.0
"""torch's own limit for one collective comes so much later than hwprof's for a rank that hangs, which names it."""
OWN_KEYS = "hwprof"
"""Prefix of what hwprof itself writes into the store of the rendezvous."""
_MEETINGS = itertools.count()
"""How often this process has met others, as often as they: the store may still have what an earlier meeting wrote."""


class Store(Protocol):
    """The part of torch's key-value store that hwprof uses; no call waits for a key."""

    def set(self, key: str, value: str | bytes, /) -> None:
        """Put a value."""
        ...

    def get(self, key: str, /) -> bytes:
        """The value of a key that is there."""
        ...

    def multi_get(self, keys: list[str], /) -> list[bytes]:
        """The values of keys that are there."""
        ...

    def check(self, keys: list[str], /) -> bool:
        """Whether all of the keys are there."""
        ...

    def add(self, key: str, amount: int, /) -> int:
        """Add to a counter; its new value."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The ranks of a run, as one of them sees them.

    Attributes:
        node: which machine, counted from 0 (torchrun's group rank).
        nodes_of: the node of each rank.
        host: this machine's name.
        backend: ``gloo`` for CPUs, else the devices' own as torch calls it; what the measured collectives run on.
        store: key-value store of all ranks; survives a rank that dies under torchrun, whose agent hosts it.
        control: a gloo group for small agreements, apart from the measured traffic.
    """

    rank: int
    size: int
    local_rank: int
    node: int
    nodes_of: tuple[int, ...]
    host: str
    backend: str
    device: torch.device
    store: Store
    control: Any

    @property
    def library(self) -> str:
        """What the backend is called where it comes from: AMD's is ``nccl`` to torch, too."""
        return "rccl" if self.backend == "nccl" and torch.version.hip else self.backend

    @property
    def nodes(self) -> int:
        """How many machines there are."""
        return len(set(self.nodes_of))

    def barrier(self) -> None:
        """Wait until every rank is here; the devices may still be at work."""
        dist.barrier(group=self.control)

    def largest(self, values: Sequence[float]) -> list[float]:
        """The largest of all ranks' values, one by one; every rank must call it with equally many."""
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.control)
        return [float(value) for value in tensor]

    def any(self, *, flag: bool) -> bool:
        """Whether the flag is set on any rank; every rank must call it."""
        return self.largest([float(flag)])[0] > 0


def launched() -> bool:
    """Whether this process is one of several ranks."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank_of_environment() -> int:
    """This process's rank as its launcher set it; 0 where there is none."""
    return int(os.environ.get("RANK", "0"))


def open_world(device_text: str, *, timeout_s: float) -> World:
    """Join the other ranks; waits until all are there.

    Args:
        device_text: ``auto``, ``cpu`` or a kind of accelerator; each rank takes the device of its local rank, or the
            only one that it sees.
        timeout_s: how long a rank may take to join, and to move on.

    Raises:
        InputError: not launched as several ranks, or no device for this one.
        WorkError: the others did not come.
    """
    missing = [name for name in _NEEDED if name not in os.environ]
    if missing:
        raise InputError(f"{', '.join(missing)} not set", expectation="a launcher sets them", remedy=f"run {_LAUNCH}")
    rank, size, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    device = _device_of(device_text, local_rank)
    backend = BACKENDS[device.type]
    there = device.type != "cpu"
    timeout = timedelta(seconds=timeout_s + TORCH_LATER_S)
    meeting = str(next(_MEETINGS))
    try:
        store = PrefixStore(meeting, _store(timeout))
        if there:
            make_current(device)
        dist.init_process_group(
            f"cpu:gloo,{device.type}:{backend}" if there else backend,
            store=store,
            rank=rank,
            world_size=size,
            timeout=timeout,
            device_id=device if there else None,
        )
        control = dist.new_group(backend="gloo", timeout=timeout)
        node = int(os.environ.get("GROUP_RANK", os.environ.get("SLURM_NODEID", "0")))
        nodes_of: list[int] = [0] * size
        dist.all_gather_object(nodes_of, node, group=control)
    except (RuntimeError, ValueError, OSError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise WorkError(
            f"rank {rank} could not join the {size} ranks at {place}: {str(error).splitlines()[0]}",
            remedy="check that every rank runs, that the machines reach each other on that port, and their firewalls",
        ) from error
    return World(
        rank=rank,
        size=size,
        local_rank=local_rank,
        node=node,
        nodes_of=tuple(nodes_of),
        host=socket.gethostname(),
        backend=backend,
        device=device,
        store=cast("Store", PrefixStore(f"{OWN_KEYS}/{meeting}", _store(timeout))),
        control=control,
    )


def sized_as(backend: str) -> Literal["gloo", "nccl"]:
    """Whose messages those of a backend are as large as: the CPUs', or the devices'."""
    return "gloo" if backend == "gloo" else "nccl"


def close_world() -> None:
    """Leave the other ranks; harmless where none were joined."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _store(timeout: timedelta) -> Any:
    """A connection of its own to the rendezvous, so that no thread waits for another's reply."""
    _kept(os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"], timeout)
    return _connection(timeout)


@functools.cache
def _kept(_address: str, _port: str, timeout: timedelta) -> Any:
    """One that lasts as long as the process: rank 0 may host the store, and others may meet before it does again."""
    return _connection(timeout)


def _connection(timeout: timedelta) -> Any:
    return next(iter(rendezvous("env://", timeout=timeout)))[0]


def _device_of(text: str, local_rank: int) -> torch.device:
    kind, _, number = text.strip().lower().partition(":")
    if number:
        raise InputError(
            f"--device {text} names one device for all ranks",
            expectation="each rank takes the device of its local rank, or the only one that it sees",
            remedy=f"give --device {kind}, and choose devices with a variable of the driver's (CUDA_VISIBLE_DEVICES)",
        )
    device = resolve_device(text)
    if device.type == "cpu":
        return device
    backend = BACKENDS.get(device.type)
    if backend is None or not dist.is_backend_available(backend):
        lacks = "talk through nothing that torch has" if backend is None else f"need {backend}, which torch lacks here"
        raise InputError(
            f"several ranks on {device.type} {lacks}",
            expectation="NCCL or RCCL (cuda), XCCL (xpu), HCCL of torch_npu (npu), gloo between CPUs",
            remedy="run one process, use --device cpu, or install a torch with that library",
        )
    own = 0 if visible(device.type) == 1 else local_rank  # a launcher may show each rank its own device only
    return resolve_device(f"{device.type}:{own}")
