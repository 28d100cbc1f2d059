"""What are the collectives? Each with its buffers, its call, and a check of what arrived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from hwprof.errors import WorkError
from hwprof.specs.record.collective import CollectiveName

ELEMENT_BYTES = 4
_PATTERN = 251
"""Values repeat after this many elements: a prime, so that no shifted or swapped piece looks right."""


@dataclass(frozen=True, slots=True)
class RankGroup:
    """Ranks that talk to each other, as one of them sees them: their global numbers, and torch's process group."""

    ranks: tuple[int, ...]
    rank: int
    group: Any

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return len(self.ranks)

    @property
    def place(self) -> int:
        """Which of them this one is."""
        return self.ranks.index(self.rank)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A collective on fixed buffers: the call, and what to do once to see whether its result is right."""

    run: Callable[[], None]
    check: Callable[[], None]


def exchange(name: CollectiveName, group: RankGroup, size_bytes: int, device: torch.device) -> Exchange:
    """The collective on fp32 vectors of ``size_bytes``, which nccl-tests' definition gives its meaning.

    The size is rounded down to whole elements for each rank, and is at least one such element a rank.
    """
    return _BUILDERS[name](group, elements_of(size_bytes, group.size), device)


def elements_of(size_bytes: int, ranks: int) -> int:
    """Elements of the whole vector: a multiple of the number of ranks, at least one for each."""
    return max(size_bytes // ELEMENT_BYTES // ranks, 1) * ranks


def _values(elements: int, rank: int, device: torch.device, *, start: int = 0) -> torch.Tensor:
    """What a rank puts in: small whole numbers, so that sums are exact in fp32."""
    places = torch.arange(start, start + elements, device=device)
    return (places % _PATTERN + rank).float()


def _require(name: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    wrong = int((found != expected).sum())
    if wrong:
        raise WorkError(
            f"{wrong} of {found.numel()} elements of a {name} are wrong",
            expectation="expected none",
            remedy="check the links between the devices, and the communication library",
        )


def _all_reduce(group: RankGroup, elements: int, device: torch.device) -> Exchange:
    vector = _values(elements, group.place, device)

    def run() -> None:
        dist.all_reduce(vector, group=group.group)

    def check() -> None:
        vector.copy_(_values(elements, group.place, device))
        run()
        _require("all_reduce", vector, _summed(elements, group.size, device))
        vector.zero_()  # sums of sums would grow from call to call

    return Exchange(run, check)


def _summed(elements: int, ranks: int, device: torch.device, *, start: int = 0) -> torch.Tensor:
    return _values(elements, 0, device, start=start) * ranks + ranks * (ranks - 1) / 2


def _all_gather(group: RankGroup, elements: int, device: torch.device) -> Exchange:
    share = elements // group.size
    own, whole = _values(share, group.place, device), torch.empty(elements, device=device)
    gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)

    def run() -> None:
        gather(whole, own, group=group.group)

    def check() -> None:
        run()
        _require("all_gather", whole, torch.cat([_values(share, rank, device) for rank in range(group.size)]))

    return Exchange(run, check)


def _reduce_scatter(group: RankGroup, elements: int, device: torch.device) -> Exchange:
    share = elements // group.size
    vector, own = _values(elements, group.place, device), torch.empty(share, device=device)
    scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor

    def run() -> None:
        scatter(own, vector, group=group.group)

    def check() -> None:
        run()
        _require("reduce_scatter", own, _summed(share, group.size, device, start=share * group.place))

    return Exchange(run, check)


def _all_to_all(group: RankGroup, elements: int, device: torch.device) -> Exchange:
    share = elements // group.size
    sent, received = _values(elements, group.place, device), torch.empty(elements, device=device)

    def run() -> None:
        dist.all_to_all_single(received, sent, group=group.group)

    def check() -> None:
        run()
        start = share * group.place
        _require(
            "all_to_all",
            received,
            torch.cat([_values(share, rank, device, start=start) for rank in range(group.size)]),
        )

    return Exchange(run, check)


def _broadcast(group: RankGroup, elements: int, device: torch.device) -> Exchange:
    vector = _values(elements, group.place, device)

    def run() -> None:
        dist.broadcast(vector, src=group.ranks[0], group=group.group)

    def check() -> None:
        vector.copy_(_values(elements, group.place, device))
        run()
        _require("broadcast", vector, _values(elements, 0, device))

    return Exchange(run, check)


def _send_recv(group: RankGroup, elements: int, device: torch.device) -> Exchange:
    after = group.ranks[(group.place + 1) % group.size]
    before = group.ranks[group.place - 1]
    sent, received = _values(elements, group.place, device), torch.empty(elements, device=device)

    def run() -> None:
        pair = [
            dist.P2POp(dist.isend, sent, after, group.group),
            dist.P2POp(dist.irecv, received, before, group.group),
        ]
        for work in dist.batch_isend_irecv(pair):
            work.wait()

    def check() -> None:
        run()
        _require("send_recv", received, _values(elements, group.ranks.index(before), device))

    return Exchange(run, check)


_BUILDERS: dict[CollectiveName, Callable[[RankGroup, int, torch.device], Exchange]] = {
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "all_to_all": _all_to_all,
    "broadcast": _broadcast,
    "send_recv": _send_recv,
}


def one_way(group: RankGroup, source: int, target: int, elements: int, device: torch.device) -> Callable[[], None]:
    """A message from one rank to another and its acknowledgement of one element; others return at once."""
    if group.rank not in {source, target}:
        return lambda: None
    message = torch.zeros(elements, device=device)
    receipt = torch.zeros(1, device=device)

    def send() -> None:
        dist.send(message, target, group=group.group)
        dist.recv(receipt, target, group=group.group)

    def receive() -> None:
        dist.recv(message, source, group=group.group)
        dist.send(receipt, source, group=group.group)

    return send if group.rank == source else receive


def ranks_by_node(nodes_of: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Node -> its ranks."""
    nodes = sorted(set(nodes_of))
    return {node: tuple(rank for rank, own in enumerate(nodes_of) if own == node) for node in nodes}
