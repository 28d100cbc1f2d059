"""How many bytes a second go between the host and an accelerator, from pinned and from pageable memory?"""

from __future__ import annotations

from typing import Any, Literal

import torch

from hwprof.errors import WorkError
from hwprof.measure.host.accelerator import module_of, synchronize
from hwprof.measure.probes.bench import Bench, CannotRunError
from hwprof.specs.measurement import Ceiling

Direction = Literal["host_to_device", "device_to_host"]
PeerDirection = Literal["to_peer", "from_peer"]
HostMemory = Literal["pinned", "pageable"]

PEER_DIRECTIONS: tuple[PeerDirection, ...] = ("to_peer", "from_peer")
DIRECTIONS: tuple[Direction, ...] = ("host_to_device", "device_to_host")
HOST_MEMORIES: tuple[HostMemory, ...] = ("pinned", "pageable")

NO_ACCELERATOR = "no accelerator: host and device share memory"
TRANSFER_BYTES = 256 * 2**20
"""Large enough that the link's latency (tens of µs) is under 1 % of the copy's time at 64 GB/s."""


def transfer_ceiling(bench: Bench, direction: Direction, host_memory: HostMemory) -> Ceiling:
    """``transfer.<direction>.<host_memory>``: one large copy on the current stream.

    Raises:
        WorkError: the copied bytes differ.
    """
    host = _random_bytes()
    if host_memory == "pinned":
        host = host.pin_memory()
    original = host.to(bench.device)
    if direction == "host_to_device":
        source, target = host, torch.zeros_like(original)
    else:
        source, target = original, torch.zeros_like(host, pin_memory=host_memory == "pinned")
    timed = bench.time(lambda: target.copy_(source, non_blocking=True), deadline_s=bench.probe_s / 4)
    synchronize(bench.device)
    check_copy(source, target)
    name = f"transfer.{direction}.{host_memory}"
    return bench.ceiling(
        name, "transfer", timed, work_per_call=TRANSFER_BYTES, conditions={"copy_bytes": TRANSFER_BYTES}
    )


def both_ways_ceiling(bench: Bench) -> Ceiling:
    """``transfer.both.pinned``: a copy to the device and one from it at the same time, on two streams; bytes of both.

    Raises:
        WorkError: copied bytes differ.
    """
    upward = _random_bytes().pin_memory()
    downward = upward.flip(0).to(bench.device)
    arrived, returned = torch.zeros_like(downward), torch.zeros_like(upward).pin_memory()
    streams = streams_of(bench.device)
    beside = streams.Stream(bench.device)

    def work() -> None:
        here = streams.current_stream(bench.device)
        beside.wait_stream(here)
        arrived.copy_(upward, non_blocking=True)
        with streams.stream(beside):
            returned.copy_(downward, non_blocking=True)
        here.wait_stream(beside)

    timed = bench.time(work, deadline_s=bench.probe_s / 4)
    synchronize(bench.device)
    check_copy(upward, arrived)
    check_copy(downward, returned)
    return bench.ceiling(
        "transfer.both.pinned",
        "transfer",
        timed,
        work_per_call=2 * TRANSFER_BYTES,
        conditions={"copy_bytes": TRANSFER_BYTES, "copies": "one each way at once"},
    )


def peer_ceiling(bench: Bench, other: torch.device, direction: PeerDirection) -> Ceiling:
    """``transfer.<to|from>_peer.<index>``: one large copy between this GPU and another.

    It goes over NVLink or PCIe where CUDA allows peer access, else through the host; the conditions say which.

    Raises:
        WorkError: the copied bytes differ.
    """
    original = _random_bytes()
    here, there = original.to(bench.device), original.to(other)
    source, target = (here, torch.zeros_like(there)) if direction == "to_peer" else (there, torch.zeros_like(here))
    timed = bench.time(lambda: target.copy_(source, non_blocking=True), deadline_s=bench.probe_s / 4)
    synchronize(bench.device)
    check_copy(source, target)
    direct = torch.cuda.can_device_access_peer(bench.device, other)
    return bench.ceiling(
        f"transfer.{direction}.{other.index}",
        "transfer",
        timed,
        work_per_call=TRANSFER_BYTES,
        conditions={"copy_bytes": TRANSFER_BYTES, "path": "direct" if direct else "through the host"},
    )


def _random_bytes() -> torch.Tensor:
    return torch.randint(0, 256, (TRANSFER_BYTES,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def streams_of(device: torch.device) -> Any:
    """Torch's module with a device's streams.

    Raises:
        CannotRunError: it has none, so that nothing runs beside something else.
    """
    module = module_of(device)
    if not hasattr(module, "Stream"):
        raise CannotRunError(f"torch has no streams of {device.type}")
    return module


def check_copy(source: torch.Tensor, target: torch.Tensor) -> None:
    """Compare a copy with its source, on the host.

    Raises:
        WorkError: they differ.
    """
    wrong = int((source.cpu() != target.cpu()).sum())
    if wrong:
        raise WorkError(
            f"{wrong} of {source.numel()} copied bytes differ from their source",
            expectation="expected none",
            remedy="check the device, its link and the memory",
        )
