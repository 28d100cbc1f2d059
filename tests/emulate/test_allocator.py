"""Does the model of the caching allocator do what CUDACachingAllocator.cpp says? Sizes worked out by hand."""

import pytest

from hwprof.emulate.allocator import MIB, Allocator, OutOfMemoryError


def _allocator(**options):
    return Allocator(capacity_bytes=options.pop("capacity_bytes", 1024 * MIB), **options)


@pytest.mark.parametrize(
    ("asked", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (11 * MIB, 12 * MIB, 12 * MIB),  # 1 MiB is too little to split off
    ],
)
def test_a_first_block_takes_its_segment(asked, allocated, reserved):
    memory = _allocator()
    memory.allocate(asked)
    assert (memory.allocated_bytes, memory.reserved_bytes) == (allocated, reserved)


def test_a_freed_block_serves_again_and_neighbours_join():
    memory = _allocator()
    first, second = memory.allocate(8 * MIB), memory.allocate(8 * MIB)
    assert memory.reserved_bytes == 20 * MIB
    memory.release(first)
    memory.release(second)
    memory.allocate(20 * MIB - 512)
    assert memory.reserved_bytes == 20 * MIB
    assert memory.peak_bytes == 20 * MIB  # what is left is too small to split off


def test_streams_do_not_share_blocks():
    memory = _allocator()
    memory.release(memory.allocate(30 * MIB, stream=0))
    memory.allocate(30 * MIB, stream=1)
    assert memory.reserved_bytes == 60 * MIB


def test_fragments_of_fixed_segments_serve_nothing_large_but_expandable_ones_do():
    fixed, growing = _allocator(), _allocator(expandable=True)
    for memory in (fixed, growing):
        memory.release(memory.allocate(40 * MIB))
        memory.allocate(60 * MIB)
    assert fixed.reserved_bytes == 100 * MIB
    assert growing.reserved_bytes == 60 * MIB


def test_what_is_free_goes_back_before_memory_is_out():
    memory = _allocator(capacity_bytes=100 * MIB)
    memory.release(memory.allocate(60 * MIB))
    memory.allocate(80 * MIB)
    assert memory.reserved_bytes == 80 * MIB
    with pytest.raises(OutOfMemoryError) as refused:
        memory.allocate(30 * MIB)
    assert refused.value.asked_bytes == 30 * MIB


def test_all_that_is_released_leaves_one_free_block_a_segment():
    memory = _allocator()
    blocks = [memory.allocate(size * MIB // 4) for size in (1, 7, 2, 9, 30, 3, 60, 5)]
    for block in blocks[::2] + blocks[1::2]:
        memory.release(block)
    memory.trim()
    assert (memory.allocated_bytes, memory.reserved_bytes) == (0, 0)
