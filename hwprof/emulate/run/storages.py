"""Which memory does the script hold, from when to when? Storages of fake tensors, followed from birth to death."""
# ruff: noqa: SLF001 (this module is a border to names that torch does not promise)

from __future__ import annotations

import os
import weakref
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import torch

from hwprof.emulate.allocator import Allocator, Block, OutOfMemoryError
from hwprof.emulate.recording import History, Refusal
from hwprof.emulate.run.host_time import HostTime

HOPPER_BYTES, USUAL_BYTES = 32 * 2**20, (2 * 4096 + 8 * 16) * 2**10
"""Of a cuBLAS workspace, from Hopper on and before, where ``CUBLAS_WORKSPACE_CONFIG`` says nothing."""


def _configured_bytes() -> int:
    """Sizes in KiB and their numbers, in turn: ``:4096:2:16:8``."""
    words = [word for word in os.environ.get("CUBLAS_WORKSPACE_CONFIG", "").split(":") if word]
    if not words or len(words) % 2 or not all(word.isdigit() for word in words):
        return 0
    numbers = [int(word) for word in words]
    return sum(size * count for size, count in zip(numbers[::2], numbers[1::2], strict=True)) * 2**10


MOST_EVENTS = 200_000
"""Of the allocator, that are kept: the latest."""
MOST_PLACES = 40
"""Modules that are named with what they hold at the peak."""


@dataclass(slots=True)
class Held:
    """One storage while it lives. Mutable: it is resized.

    Attributes:
        size_bytes: of the storage.
        device: type of its device.
        kind: what it is for.
        place: module in which it was made.
        roots: storages from which it can be computed again, which live as long; where it is not stored itself.
        reference: to torch's object, which says when it dies.
        block: where the allocator put it; None on the host.
    """

    size_bytes: int
    device: str
    kind: str
    place: str
    reference: Any
    born: int
    block: Block | None = None
    roots: tuple[Any, ...] = ()


@dataclass(slots=True)
class HostMemory:
    """Bytes of the host: allocated as asked for."""

    allocated_bytes: int = 0
    peak_bytes: int = 0

    def change(self, size_bytes: int) -> None:
        """More or less of it."""
        self.allocated_bytes += size_bytes
        self.peak_bytes = max(self.peak_bytes, self.allocated_bytes)


@dataclass(slots=True)
class Storages:
    """All memory behind fake tensors. Mutable: it follows the script.

    Attributes:
        capacity_bytes: of the device.
        clock: of the script's own code, of which this is none.
        device, host: what is allocated there.
        refusal: the first allocation that did not fit; the script goes on as if there were room.
    """

    capacity_bytes: float
    clock: HostTime = field(default_factory=HostTime)
    device: Allocator = field(init=False)
    host: HostMemory = field(default_factory=HostMemory)
    refusal: Refusal | None = None
    _moment: int = 0
    _peaks: dict[str, int] = field(default_factory=lambda: {"cuda": 0, "cpu": 0})
    _dead: list[tuple[int, int, str, str, str, int]] = field(default_factory=list)
    _live: dict[int, Held] = field(default_factory=dict)
    _configured: bool = False

    def __post_init__(self) -> None:
        self.device = Allocator(capacity_bytes=self.capacity_bytes)

    def number(self, tensor: torch.Tensor) -> int:
        """Of its storage; no other has had it, not even one at the same address."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        held = self._live.get(key)
        if held is None:  # it was there before anybody looked: its memory is not followed
            self._moment += 1
            reference = weakref.ref(storage, lambda _: self._die(key))
            held = self._live[key] = Held(0, "", "", "", reference, self._moment)
        return held.born

    def settle(self) -> None:
        """What was held until now is no measure of what will be: count anew, and give back what is free."""
        self.device.capacity_bytes, self.refusal = self.capacity_bytes, None
        self.device.trim()
        self.device.peak_bytes, self.device.peak_reserved_bytes = (
            self.device.allocated_bytes,
            self.device.reserved_bytes,
        )
        self.host.peak_bytes = self.host.allocated_bytes
        self._peaks = dict.fromkeys(self._peaks, self._moment)

    def roots(self, tensors: list[torch.Tensor]) -> tuple[Any, ...]:
        """Storages in memory from which results of these can be computed."""
        found: dict[int, Any] = {}
        for tensor in tensors:
            storage = tensor.untyped_storage()
            held = self._live.get(storage._cdata)
            for each in held.roots if held is not None and held.roots else (storage,):
                found[each._cdata] = each
        return tuple(found.values())

    def born(
        self, tensor: torch.Tensor, kind: str, place: str, stream: int, line: Any, *, roots: tuple[Any, ...] = ()
    ) -> bool:
        """Follow the storage of a result, unless it is known; whether it is new.

        Args:
            tensor: the result.
            kind: what it is for.
            place: module in which it was made.
            stream: of its kernel.
            line: of the script, when asked.
            roots: from what it is computed wherever it is read, because it is not stored.
        """
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return False
        device = tensor.device.type
        self._moment += 1
        reference = weakref.ref(storage, lambda _: self._die(key))
        held = Held(0 if roots else storage.nbytes(), device, kind, place, reference, self._moment, roots=roots)
        self._live[key] = held
        self._put(held, stream, line)
        return True

    def workspace(self, backward: bool, capability: tuple[int, int], stream: int, line: Any) -> None:
        """Room for cuBLAS, which each thread that multiplies takes once for each stream, and keeps.

        The engine of the backward pass has a thread of its own (``CublasHandlePool.cpp``; torch's notes on CUDA
        semantics, "cuBLAS workspaces").
        """
        key = -1 - 2 * stream - backward
        if key in self._live or capability == (0, 0):
            return
        size_bytes = _configured_bytes() or (HOPPER_BYTES if capability >= (9, 0) else USUAL_BYTES)
        self._moment += 1
        held = Held(size_bytes, "cuda", "cuBLAS workspaces", "", None, self._moment)
        self._live[key] = held
        self._put(held, stream, line)

    def resized(self, storage: torch.UntypedStorage, size_bytes: int, stream: int, line: Any) -> None:
        """A storage has another size from now on."""
        held = self._live.get(storage._cdata)
        if held is None or held.size_bytes == size_bytes:
            return
        self._bury(held)
        held.size_bytes = size_bytes
        self._moment += 1
        held.born = self._moment
        self._put(held, stream, line)

    def empty(self, storage: torch.UntypedStorage) -> None:
        """A storage is in memory no longer, whoever holds it."""
        held = self._live.get(storage._cdata)
        if held is not None:
            self._bury(held)
            held.size_bytes = 0

    def kinds(self, kind: str, tensors: list[torch.Tensor]) -> None:
        """Say what the storages of some tensors are for."""
        for tensor in tensors:
            held = self._live.get(tensor.untyped_storage()._cdata)
            if held is not None:
                held.kind = kind

    def at_peak(self, device: str) -> tuple[dict[str, int], dict[str, int]]:
        """Bytes by what they are for, and by the module that made them, when most was allocated on a type of device."""
        moment = self._peaks.get(device, 0)
        kinds: Counter[str] = Counter()
        places: Counter[str] = Counter()
        for born, died, where, kind, place, size_bytes in self._dead:
            if where == device and born <= moment < died:
                kinds[kind] += size_bytes
                places[place] += size_bytes
        for held in list(self._live.values()):
            if held.device == device and held.born <= moment and held.size_bytes:
                kinds[held.kind] += held.size_bytes
                places[held.place] += held.size_bytes
        return dict(kinds.most_common()), dict(places.most_common(MOST_PLACES))

    def keep_history(self) -> None:
        """From now on write down what the allocator does, as far back as torch's own history goes by default."""
        self.device.history = deque(maxlen=MOST_EVENTS)

    def history(self) -> History | None:
        """What the allocator did and holds; None where nobody asked."""
        if self.device.history is None:
            return None
        used = {id(held.block): held.kind for held in list(self._live.values()) if held.block is not None}
        blocks = [held.block for held in list(self._live.values()) if held.block is not None]
        return History(
            events=tuple(self.device.history),
            blocks=tuple(
                (block.segment, block.address, block.size_bytes, *block.pool, used.get(id(block), ""))
                for block in self.device.blocks(blocks)
            ),
        )

    def _put(self, held: Held, stream: int, line: Any) -> None:
        before = self._most(held.device)
        self._place(held, stream, line)
        if self._most(held.device) > before:
            self._peaks[held.device] = self._moment

    def _most(self, device: str) -> int:
        return self.device.peak_bytes if device == "cuda" else self.host.peak_bytes

    def _place(self, held: Held, stream: int, line: Any) -> None:
        if held.device == "cpu":
            self.host.change(held.size_bytes)
        elif held.device == "cuda" and held.size_bytes:
            self._configure()
            if self.device.history is not None:
                self.device.line = line() or held.kind  # the backward pass has no line of the script
            try:
                held.block = self.device.allocate(held.size_bytes, stream)
            except OutOfMemoryError as error:
                self.refusal = Refusal(
                    error.asked_bytes, self.device.allocated_bytes, self.device.reserved_bytes, line()
                )
                if self.device.history is not None:
                    left = int(self.capacity_bytes) - self.device.reserved_bytes
                    self.device.history.append(("oom", left, error.asked_bytes, stream, self.refusal.line))
                self.device.capacity_bytes = float("inf")
                held.block = self.device.allocate(held.size_bytes, stream)

    def _drop(self, held: Held) -> None:
        if held.device == "cpu":
            self.host.change(-held.size_bytes)
        elif held.block is not None:
            self.device.release(held.block)
            held.block = None

    def _die(self, key: int) -> None:
        with self.clock:
            held = self._live.pop(key, None)
            if held is not None:
                self._bury(held)

    def _bury(self, held: Held) -> None:
        """What was alive at the peak is remembered; what came and went since it can't have been."""
        self._drop(held)
        if held.size_bytes and held.born <= self._peaks.get(held.device, 0):
            self._dead.append((held.born, self._moment + 1, held.device, held.kind, held.place, held.size_bytes))

    def _configure(self) -> None:
        """As the environment says when the first block is asked for."""
        if self._configured:
            return
        self._configured = True
        words = os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF") or ""
        options = dict(word.split(":", 1) for word in words.replace(" ", "").split(",") if ":" in word)
        self.device.expandable = options.get("expandable_segments", "").lower() == "true"
        self.device.split_limit_bytes = int(options.get("max_split_size_mb", "0")) * 2**20
