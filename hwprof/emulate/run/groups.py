"""What do the other ranks do? Nothing: each collective is written down and gives back what equal ranks would send."""
# ruff: noqa: SLF001, D102 (this module is a border to names that torch does not promise)

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d
from torch.utils._python_dispatch import _disable_current_modes

from hwprof.emulate.run.rank import Rank
from hwprof.emulate.tape import HOST_WAITS, WAIT, Collective, CollectiveName

BACKEND = "hwprof"

_rank: Rank
"""Whose groups these are; there is one rank in a process."""

_numbers: dict[tuple[int, ...], int] = {}
"""Ranks of a group -> its number."""


_c10d: Any = c10d
_ProcessGroup: Any = dist.ProcessGroup


_BaseWork: Any = _c10d.Work


class _Work(_BaseWork):  # type: ignore[misc]  # a class of C++
    """A collective that is under way."""

    def __init__(self, number: int, result: list[torch.Tensor]) -> None:
        super().__init__()
        self.number = number
        self._result = result

    def wait(self, timeout: Any = None) -> bool:
        del timeout
        if self.number:
            _rank.tape.current.add(WAIT, self.number, _rank.stream)
        return True

    def is_completed(self) -> bool:
        return True

    def is_success(self) -> bool:
        return True

    def exception(self) -> None:
        return None

    def synchronize(self) -> None:
        self.wait()

    def block_current_stream(self) -> None:
        self.wait()

    def result(self) -> list[torch.Tensor]:
        return self._result

    def get_future(self) -> torch.futures.Future[list[torch.Tensor]]:
        future: torch.futures.Future[list[torch.Tensor]] = torch.futures.Future()
        future.set_result(self._result)
        return future


class EmulatedGroup(_ProcessGroup):  # type: ignore[misc]  # torch's own is typed more narrowly than it is called
    """A process group of which one rank is there."""

    def __init__(self, ranks: Sequence[int], place: int) -> None:
        super().__init__(place, len(ranks))
        self.ranks = tuple(ranks)
        self._place = place
        self._name = ""
        self._desc = ""
        self.bound_device_id = None

    def size(self) -> int:
        return len(self.ranks)

    def rank(self) -> int:
        return self._place

    def name(self) -> str:
        return BACKEND

    def getBackendName(self) -> str:  # noqa: N802 (torch's name)
        return BACKEND

    def _get_backend_name(self) -> str:
        return BACKEND

    @property
    def group_name(self) -> str:
        return self._name

    def _set_group_name(self, name: str) -> None:
        self._name = name

    @property
    def group_desc(self) -> str:
        return self._desc

    def _set_group_desc(self, desc: str) -> None:
        self._desc = desc

    def _get_backend(self, device: Any) -> Any:
        del device
        return self

    @property
    def supports_splitting(self) -> bool:
        return False

    @property
    def supports_coalescing(self) -> bool:
        return True

    @property
    def supports_time_estimate(self) -> bool:
        return False

    def _start_coalescing(self, *_: Any) -> None:
        return None

    def _end_coalescing(self, *_: Any) -> _Work:
        return _Work(_rank.tape._works, [])

    def _set_sequence_number_for_group(self) -> None:
        return None

    def _get_sequence_number_for_group(self) -> int:
        return 0

    def set_timeout(self, *_: Any) -> None:
        return None

    def abort(self) -> None:
        return None

    def shutdown(self) -> None:
        return None

    # what scripts ask for

    def allreduce(self, tensors: list[torch.Tensor], opts: Any = None) -> _Work:
        for tensor in tensors:
            _reduced(tensor, self.size(), getattr(opts, "reduceOp", None))
        return self._done("all_reduce", sum(map(_bytes, tensors)), tensors, opts)

    def allreduce_coalesced(self, tensors: list[torch.Tensor], opts: Any = None) -> _Work:
        return self.allreduce(tensors, opts)

    def broadcast(self, tensors: list[torch.Tensor], opts: Any = None) -> _Work:
        return self._done("broadcast", sum(map(_bytes, tensors)), tensors, opts)

    def reduce(self, tensors: list[torch.Tensor], opts: Any = None) -> _Work:
        return self._done("reduce", sum(map(_bytes, tensors)), tensors, opts)

    def allgather(self, outputs: list[list[torch.Tensor]], inputs: list[torch.Tensor], opts: Any = None) -> _Work:
        for parts, tensor in zip(outputs, inputs, strict=True):
            for part in parts:
                _filled(part, tensor)
        flat = [part for parts in outputs for part in parts]
        return self._done("all_gather", sum(map(_bytes, flat)), flat, opts)

    def _allgather_base(self, output: torch.Tensor, tensor: torch.Tensor, opts: Any = None) -> _Work:
        _filled(output, tensor)
        return self._done("all_gather", _bytes(output), [output], opts)

    all_gather_single = _allgather_base

    def allgather_into_tensor_coalesced(
        self, outputs: list[torch.Tensor], inputs: list[torch.Tensor], opts: Any = None
    ) -> _Work:
        for output, tensor in zip(outputs, inputs, strict=True):
            _filled(output, tensor)
            work = self._done("all_gather", _bytes(output), outputs, opts)
        return work

    def allgather_coalesced(
        self, outputs: list[list[torch.Tensor]], inputs: list[torch.Tensor], opts: Any = None
    ) -> _Work:
        return self.allgather([list(parts) for parts in zip(*outputs, strict=True)], inputs, opts)

    def reduce_scatter(self, outputs: list[torch.Tensor], inputs: list[list[torch.Tensor]], opts: Any = None) -> _Work:
        whole = sum(_bytes(part) for parts in inputs for part in parts)
        _unknown(outputs)
        return self._done("reduce_scatter", whole, outputs, opts)

    def _reduce_scatter_base(self, output: torch.Tensor, tensor: torch.Tensor, opts: Any = None) -> _Work:
        _unknown([output])
        return self._done("reduce_scatter", _bytes(tensor), [output], opts)

    def reduce_scatter_tensor_coalesced(
        self, outputs: list[torch.Tensor], inputs: list[torch.Tensor], opts: Any = None
    ) -> _Work:
        for tensor in inputs:
            work = self._done("reduce_scatter", _bytes(tensor), outputs, opts)
        _unknown(outputs)
        return work

    def alltoall_base(
        self, output: torch.Tensor, tensor: torch.Tensor, _out: list[int], _in: list[int], opts: Any = None
    ) -> _Work:
        _exchanged(output, tensor, self.size(), self._place)
        return self._done("all_to_all", _bytes(tensor), [output], opts)

    def alltoall(self, outputs: list[torch.Tensor], inputs: list[torch.Tensor], opts: Any = None) -> _Work:
        for output, tensor in zip(outputs, inputs, strict=True):
            _filled(output, tensor)
        return self._done("all_to_all", sum(map(_bytes, inputs)), outputs, opts)

    all_gather_single_coalesced = allgather_into_tensor_coalesced
    reduce_scatter_single = _reduce_scatter_base
    reduce_scatter_single_coalesced = reduce_scatter_tensor_coalesced
    all_to_all_single = alltoall_base

    def gather(self, outputs: list[list[torch.Tensor]], inputs: list[torch.Tensor], opts: Any = None) -> _Work:
        return self._done("gather", sum(map(_bytes, inputs)) * self.size(), [], opts or outputs)

    def scatter(self, outputs: list[torch.Tensor], inputs: list[list[torch.Tensor]], opts: Any = None) -> _Work:
        del inputs
        return self._done("scatter", sum(map(_bytes, outputs)) * self.size(), outputs, opts)

    def send(self, tensors: list[torch.Tensor], peer: int, tag: int = 0) -> _Work:
        del tag
        return self._done("send", sum(map(_bytes, tensors)), tensors, None, peer=self.ranks[peer])

    def recv(self, tensors: list[torch.Tensor], peer: int, tag: int = 0) -> _Work:
        del tag
        _unknown([each for each in tensors if each.is_floating_point() or each.numel() > FEW])
        return self._done("recv", sum(map(_bytes, tensors)), tensors, None, peer=self.ranks[peer])

    def recv_anysource(self, tensors: list[torch.Tensor], tag: int = 0) -> _Work:
        return self.recv(tensors, (self._place - 1) % self.size(), tag)

    def barrier(self, opts: Any = None) -> _Work:
        del opts
        _rank.tape.current.add(HOST_WAITS, -1)
        return _Work(0, [])

    def monitored_barrier(self, *_: Any, **__: Any) -> None:
        return None

    def _done(
        self, op: CollectiveName, size_bytes: int, result: list[torch.Tensor], opts: Any, *, peer: int = -1
    ) -> _Work:
        beside = peer >= 0 or bool(getattr(opts, "asyncOp", True))
        return _Work(written(op, self.ranks, size_bytes, beside=beside, peer=peer), result)


FEW = 16
"""Whole numbers that are received: so few keep what the buffer held before (votes, lengths); more are unknown."""


def play(rank: Rank) -> None:
    """Say whose groups these are."""
    global _rank  # noqa: PLW0603 (a process has one rank)
    _rank = rank


def written(op: CollectiveName, ranks: tuple[int, ...], size_bytes: int, *, beside: bool, peer: int = -1) -> int:
    """Write a collective down; the number of its work."""
    number = _numbers.setdefault(ranks, len(_numbers))
    place = sharded_module() or _rank.place
    kind = Collective(op=op, ranks=ranks, size_bytes=size_bytes, peer=peer, group=number, place=place)
    return _rank.tape.collective(kind, _rank.stream, beside=beside)


def sharded_module() -> str:
    """The module whose parameters a sharding library gathers or reduces right now; empty where it does not say."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(MOST_FRAMES):
        if frame is None:
            break
        if _SHARDING in frame.f_code.co_filename:  # a frame whose locals were looked at keeps them until it ends
            name = getattr(frame.f_locals.get("self"), "_module_fqn", None)
            if isinstance(name, str):
                return name or "root"
        frame = frame.f_back
    return ""


_SHARDING = "_fully_shard"
"""What the paths of a library have in them that gathers parameters."""
MOST_FRAMES = 24
"""Callers that are looked at."""


def ranks_named(name: Any) -> tuple[int, ...]:
    """The ranks of a group by torch's name of it."""
    group = _c10d._resolve_process_group(name) if isinstance(name, str) else name
    return group.ranks if isinstance(group, EmulatedGroup) else tuple(dist.get_process_group_ranks(group))


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _unknown(tensors: Sequence[torch.Tensor]) -> None:
    for tensor in tensors:
        _rank.values.forget(tensor)


def _reduced(tensor: torch.Tensor, ranks: int, op: Any) -> None:
    """A sum over equal ranks is so many times the value; a mean, a maximum and others leave it."""
    value = _rank.values.known(tensor)
    if value is None:
        return
    if op is None or op == dist.ReduceOp.SUM:
        with _disable_current_modes():
            value.mul_(ranks)


def exchanged(value: torch.Tensor, shape: torch.Size, ranks: int, place: int) -> torch.Tensor | None:
    """What a rank gets of equal ranks: from each its own part; None where the parts are not equally long."""
    if value.numel() % ranks or value.numel() != shape.numel():
        return None
    return value.reshape(ranks, -1)[place].repeat(ranks).view(shape)


def _exchanged(output: torch.Tensor, given: torch.Tensor, ranks: int, place: int) -> None:
    value = _rank.values.known(given)
    if value is not None:
        with _disable_current_modes():
            value = exchanged(value, output.shape, ranks, place)
    if value is None:
        _unknown([output])
        return
    _rank.values.tell(output, value)


def _filled(output: torch.Tensor, part: torch.Tensor) -> None:
    """A result that consists of equal parts."""
    value = _rank.values.known(part)
    if value is None or not part.numel() or output.numel() % part.numel():
        _unknown([output])
        return
    with _disable_current_modes():
        flat = value.reshape(-1).repeat(output.numel() // part.numel())
        _rank.values.tell(output, flat.view(output.shape))
