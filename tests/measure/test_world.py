"""Ranks that meet, leave and meet again in the same processes, at the same place."""

import pytest
import torch.distributed as dist
from rank_pool import RankPool, free_port

from hwprof.measure.world import close_world, open_world


def meet_twice(_):
    """The largest of what each rank brings each time, and how often its own store was counted up."""
    seen = []
    for turn in range(2):
        world = open_world("cpu", timeout_s=20.0)
        world.store.add("seen", 1)
        largest = world.largest([10.0 * turn + world.rank])
        seen.append((largest, world.store.add("seen", 0)))
        world.barrier()
        close_world()
    return seen


@pytest.mark.parametrize("hosted", [False, True])
def test_a_second_meeting_knows_nothing_of_the_first(hosted):
    """With the store of a launcher's agent, which outlives a meeting, or with that of rank 0."""
    port = free_port() if hosted else None
    store = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False) if hosted else None
    pool = RankPool(2, joined=False, store_port=port)
    try:
        assert pool.run(meet_twice) == [[([1.0], 2), ([11.0], 2)]] * 2
    finally:
        pool.close()
        del store
