"""How much longer do computation and communication take when they run at the same time?

They share compute units, memory bandwidth, the host's cores and the power limit, so that overlap is never free. Each is
timed alone, and then while the other goes on all the while.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.distributed as dist

from hwprof.measure.host.accelerator import module_of
from hwprof.measure.links.collectives import ELEMENT_BYTES, RankGroup
from hwprof.measure.timing import Timer
from hwprof.measure.world import World, sized_as
from hwprof.specs.record.collective import Slowdown

_MESSAGE_BYTES = {"gloo": 8 * 2**20, "nccl": 128 * 2**20}
_SIDE = {"gloo": 512, "nccl": 4096}
_SAMPLES = 5
_OUTLASTS = 3
"""What goes on beside is given this many times the work that would take as long, so that it does not end first."""

_MOST_S = 20.0
"""The products beside end by themselves after this long: a thread that must be stopped might never be, where a
scheduler gives the one that would stop it no CPU (real-time policies do that)."""

Work = Callable[[], None]


def probe_slowdown(world: World, group: RankGroup, timer: Timer) -> Slowdown:
    """Matrix products beside all-reduces, and all-reduces beside matrix products; every rank returns the same."""
    dtype = torch.float32 if world.device.type == "cpu" else torch.bfloat16
    side, message_bytes = _SIDE[sized_as(world.backend)], _MESSAGE_BYTES[sized_as(world.backend)]
    product = _product(side, dtype, world.device)
    reductions = _Reductions(group, message_bytes // ELEMENT_BYTES, world.device)
    one_product_s = _alone_s(world, timer, product, calls=1)
    one_reduction_s = _alone_s(world, timer, lambda: reductions.run(1), calls=1)
    products = max(1, round(one_reduction_s / one_product_s))
    reduction_count = max(1, round(one_product_s / one_reduction_s))

    def compute() -> None:
        for _ in range(products):
            product()

    compute_alone_s = _alone_s(world, timer, compute)
    reduce_alone_s = _alone_s(world, timer, lambda: reductions.run(reduction_count))
    reduce_cpu_s = _processor_s(world, lambda: reductions.run(reduction_count))
    compute_together_s = _together_s(world, timer, compute, lambda: reductions.start(_OUTLASTS * reduction_count))
    reduce_together_s = _beside_products_s(world, timer, product, lambda: reductions.run(reduction_count))
    return Slowdown(
        ranks=group.size,
        beside_cpu_s=reduce_cpu_s,
        work=f"{products} {str(dtype).removeprefix('torch.')} products of {side} x {side} x {side}",
        beside=f"{reduction_count} all_reduce of {message_bytes} bytes over {group.size} ranks",
        work_alone_s=compute_alone_s,
        work_together_s=compute_together_s,
        beside_alone_s=reduce_alone_s,
        beside_together_s=reduce_together_s,
    )


class _Reductions:
    """All-reduces of one vector each, in a row."""

    def __init__(self, group: RankGroup, elements: int, device: torch.device) -> None:
        self._group = group
        self._vector = torch.zeros(elements, device=device)

    def start(self, count: int) -> Work:
        """Enqueue several; the result waits for them."""
        works = [dist.all_reduce(self._vector, group=self._group.group, async_op=True) for _ in range(count)]

        def wait() -> None:
            for work in works:
                assert work is not None
                work.wait()

        return wait

    def run(self, count: int) -> None:
        """Run several to their end."""
        self.start(count)()


def _product(side: int, dtype: torch.dtype, device: torch.device) -> Work:
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)

    def run() -> None:
        torch.mm(left, right, out=out)

    return run


def _alone_s(world: World, timer: Timer, work: Work, *, calls: int = 1) -> float:
    """Median over samples of the slowest rank's seconds."""
    work()
    own_s = []
    for _ in range(_SAMPLES):
        world.barrier()
        start = timer.mark()
        for _ in range(calls):
            work()
        own_s.append(timer.elapsed_s(start, timer.mark()) / calls)
    return statistics.median(world.largest(own_s))


def _processor_s(world: World, work: Work) -> float:
    """Median over samples of what all threads of the busiest rank compute for it."""
    own_s = []
    for _ in range(_SAMPLES):
        world.barrier()
        start_s = time.process_time()
        work()
        own_s.append(time.process_time() - start_s)
    return statistics.median(world.largest(own_s))


def _together_s(world: World, timer: Timer, work: Work, start_beside: Callable[[], Work]) -> float:
    """The same while something else, begun before, goes on."""
    own_s = []
    for _ in range(_SAMPLES):
        world.barrier()
        wait = start_beside()
        start = timer.mark()
        work()
        own_s.append(timer.elapsed_s(start, timer.mark()))
        wait()
    return statistics.median(world.largest(own_s))


def _beside_products_s(world: World, timer: Timer, product: Work, work: Work) -> float:
    """The same while a thread multiplies matrices on and on, on a stream of its own where a device has some."""
    stop = threading.Event()
    streams = module_of(world.device)
    stream = None if world.device.type == "cpu" else streams.Stream(world.device)

    def go_on() -> None:
        with streams.stream(stream) if stream is not None else nullcontext():
            until_s = time.monotonic() + _MOST_S
            while not stop.is_set() and time.monotonic() < until_s:
                product()
                time.sleep(0)  # others of the same priority get their turn
                while stream is not None and not stream.query() and time.monotonic() < until_s:
                    time.sleep(1e-5)  # one product at a time: what is enqueued can't be called back

    thread = threading.Thread(target=go_on, name="hwprof-products", daemon=True)
    thread.start()
    try:
        return _alone_s(world, timer, work)
    finally:
        stop.set()
        thread.join()
