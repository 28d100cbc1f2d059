"""How much memory does torch's caching allocator reserve for tensors that come and go?

A model of ``c10/cuda/CUDACachingAllocator.cpp``: sizes are rounded up to 512 bytes; blocks of at most 1 MiB come from
segments of 2 MiB, larger ones from segments of 20 MiB, from 10 MiB on from one of their own size, rounded up to 2 MiB.
A free block that fits best is split where enough is left; free neighbours join. Each stream has its own blocks. With
expandable segments the blocks of a stream and kind lie in one range that grows by whole pages.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

MIB = 2**20
ROUND_BYTES = 512
SMALL_BYTES, SMALL_SEGMENT_BYTES = MIB, 2 * MIB
LARGE_SEGMENT_BYTES, OWN_SEGMENT_BYTES, SEGMENT_STEP_BYTES = 20 * MIB, 10 * MIB, 2 * MIB


class OutOfMemoryError(Exception):
    """No segment of this size fits the device any more.

    Attributes:
        asked_bytes: of the block.
    """

    def __init__(self, asked_bytes: int) -> None:
        super().__init__(asked_bytes)
        self.asked_bytes = asked_bytes


@dataclass(slots=True, eq=False)
class Block:
    """A piece of a segment. Mutable: it is split and joined.

    Attributes:
        address: where it begins.
        size_bytes: how long it is.
        pool: stream, and whether it is of small blocks.
        segment: number of its segment.
        free: whether nothing is in it.
        before, after: neighbours in the segment.
    """

    address: int
    size_bytes: int
    pool: tuple[int, bool]
    segment: int
    free: bool = False
    before: Block | None = None
    after: Block | None = None


@dataclass(slots=True)
class Allocator:
    """The allocator of one device. Mutable: that is its business.

    Attributes:
        capacity_bytes: of the device, for this process.
        expandable: whether segments grow (``expandable_segments:True``).
        split_limit_bytes: blocks of this size are not split (``max_split_size_mb``); 0 for no limit.
        allocated_bytes, peak_bytes: in blocks that are in use, now and at most.
        reserved_bytes, peak_reserved_bytes: in segments, now and at most.
        history: what happened, in torch's words: action, address, bytes, stream and line; None where nobody asks.
        line: of the script, which asks at present.
    """

    capacity_bytes: float
    expandable: bool = False
    split_limit_bytes: int = 0
    allocated_bytes: int = 0
    peak_bytes: int = 0
    reserved_bytes: int = 0
    peak_reserved_bytes: int = 0
    history: deque[tuple[str, int, int, int, str]] | None = None
    line: str = ""
    _free: dict[tuple[int, bool], list[tuple[int, int, Block]]] = field(default_factory=dict)
    _segments: dict[int, int] = field(default_factory=dict)
    _ends: dict[tuple[int, bool], Block] = field(default_factory=dict)
    _next: int = 0

    def allocate(self, size_bytes: int, stream: int = 0) -> Block:
        """A block of at least this size.

        Raises:
            OutOfMemoryError: it does not fit, not even when all that is free is given back to the device.
        """
        size = max(ROUND_BYTES, -(-size_bytes // ROUND_BYTES) * ROUND_BYTES)
        pool = (stream, size <= SMALL_BYTES)
        block = self._best_fit(pool, size) or self._fresh(pool, size)
        self._split(block, size)
        self.allocated_bytes += block.size_bytes
        self.peak_bytes = max(self.peak_bytes, self.allocated_bytes)
        self._happened("alloc", block.address, block.size_bytes, stream)
        return block

    def release(self, block: Block) -> None:
        """Nothing is in a block any more."""
        self.allocated_bytes -= block.size_bytes
        self._happened("free_requested", block.address, block.size_bytes, block.pool[0])
        self._happened("free_completed", block.address, block.size_bytes, block.pool[0])
        self._give_back(block)

    def blocks(self, used: Iterable[Block]) -> list[Block]:
        """All blocks in the order of their addresses; ``used`` are those in use."""
        free = [block for blocks in self._free.values() for _, _, block in blocks]
        return sorted([*used, *free], key=lambda block: block.address)

    def _happened(self, action: str, address: int, size_bytes: int, stream: int) -> None:
        if self.history is not None:
            self.history.append((action, address, size_bytes, stream, self.line))

    def trim(self) -> None:
        """``torch.cuda.empty_cache``: segments in which nothing is go back to the device."""
        for blocks in list(self._free.values()):
            for _, _, block in list(blocks):
                if self.expandable:
                    self._trim_end(block)
                elif block.before is None and block.after is None:
                    self._take(block)
                    self.reserved_bytes -= self._segments.pop(block.segment)
                    self._happened("segment_free", block.address, block.size_bytes, block.pool[0])

    def _trim_end(self, block: Block) -> None:
        if block.after is None and block.free:
            self._take(block)
            self.reserved_bytes -= block.size_bytes
            self._segments[block.segment] -= block.size_bytes
            self._happened("segment_unmap", block.address, block.size_bytes, block.pool[0])
            if block.before is None:
                self._ends.pop(block.pool, None)
            else:
                block.before.after = None
                self._ends[block.pool] = block.before

    def _best_fit(self, pool: tuple[int, bool], size: int) -> Block | None:
        blocks = self._free.get(pool)
        if not blocks:
            return None
        place = bisect_left(blocks, (size, -1))
        if place == len(blocks):
            return None
        block = blocks[place][2]
        limit = self.split_limit_bytes
        if (
            limit
            and not self.expandable
            and (
                (size < limit <= block.size_bytes) or (size >= limit and block.size_bytes >= size + LARGE_SEGMENT_BYTES)
            )
        ):
            return None
        del blocks[place]
        block.free = False
        return block

    def _fresh(self, pool: tuple[int, bool], size: int) -> Block:
        if self.expandable:
            return self._grown(pool, size)
        segment = _segment_bytes(size)
        self._reserve(segment, size)
        self._next += 1
        self._segments[self._next] = segment
        self._happened("segment_alloc", self._next << 44, segment, pool[0])
        return Block(self._next << 44, segment, pool, self._next)

    def _grown(self, pool: tuple[int, bool], size: int) -> Block:
        page = SMALL_SEGMENT_BYTES if pool[1] else LARGE_SEGMENT_BYTES
        end = self._ends.get(pool)
        spare = end.size_bytes if end is not None and end.free else 0
        grown = -(-(size - spare) // page) * page
        self._reserve(grown, size)
        end = self._ends.get(pool)
        if end is None:
            self._next += 1
            self._segments[self._next] = 0
            block = Block(self._next << 44, grown, pool, self._next)
        else:
            block = Block(end.address + end.size_bytes, grown, pool, end.segment, before=end)
            end.after = block
        self._segments[block.segment] += grown
        self._happened("segment_map", block.address, grown, pool[0])
        self._ends[pool] = block
        if end is not None and end.free:
            self._take(end)
            block = self._joined(end, block)
        return block

    def _reserve(self, segment_bytes: int, asked_bytes: int) -> None:
        if self.reserved_bytes + segment_bytes > self.capacity_bytes:
            self.trim()
            if self.reserved_bytes + segment_bytes > self.capacity_bytes:
                raise OutOfMemoryError(asked_bytes)
        self.reserved_bytes += segment_bytes
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)

    def _split(self, block: Block, size: int) -> None:
        left = block.size_bytes - size
        small = block.pool[1]
        enough = left >= ROUND_BYTES if small or self.expandable else left > SMALL_BYTES
        if self.split_limit_bytes and not small and size >= self.split_limit_bytes:
            enough = False
        if not enough:
            return
        rest = Block(block.address + size, left, block.pool, block.segment, before=block, after=block.after)
        if block.after is not None:
            block.after.before = rest
        elif self._ends.get(block.pool) is block:
            self._ends[block.pool] = rest
        block.after, block.size_bytes = rest, size
        self._keep(rest)

    def _give_back(self, block: Block) -> None:
        if block.after is not None and block.after.free:
            self._take(block.after)
            block = self._joined(block, block.after)
        if block.before is not None and block.before.free:
            self._take(block.before)
            block = self._joined(block.before, block)
        self._keep(block)

    def _joined(self, first: Block, second: Block) -> Block:
        first.size_bytes += second.size_bytes
        first.after = second.after
        if second.after is not None:
            second.after.before = first
        if self._ends.get(first.pool) is second:
            self._ends[first.pool] = first
        return first

    def _keep(self, block: Block) -> None:
        block.free = True
        insort(self._free.setdefault(block.pool, []), (block.size_bytes, block.address, block), key=lambda one: one[:2])

    def _take(self, block: Block) -> None:
        blocks = self._free[block.pool]
        place = bisect_left(blocks, (block.size_bytes, block.address), key=lambda one: one[:2])
        del blocks[place]
        block.free = False


def _segment_bytes(size: int) -> int:
    if size <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if size < OWN_SEGMENT_BYTES:
        return LARGE_SEGMENT_BYTES
    return -(-size // SEGMENT_STEP_BYTES) * SEGMENT_STEP_BYTES
