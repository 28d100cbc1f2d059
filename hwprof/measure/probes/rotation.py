"""Where does a kernel find its tensors in a step? Where they lie after everything else ran: not in the caches of a CPU.

A probe that calls a kernel on the same tensors again and again finds them in a cache, if they fit. In a step weights,
saved activations and gradients were last touched megabytes ago. So several sets of tensors take turns. On a GPU the L2
cache is emptied before each sample instead.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch

from hwprof.measure.host.caches import cpu_caches
from hwprof.measure.probes.sampling import Work

MOST_SETS = 16
"""Of small tensors; more of them would take longer to make than to time."""


def rotating(
    make: Callable[[], Work], moved_bytes: float, device: torch.device, *, swept_bytes: float = math.inf
) -> Work:
    """One call of work on the next of as many sets of tensors as a CPU's last cache can't hold.

    Args:
        make: makes the work on a set of tensors of its own.
        moved_bytes: that one call moves.
        device: where it runs.
        swept_bytes: that the step touches before the kernel meets the same tensors again; if the cache holds them, it
            finds them there.
    """
    held_bytes = cache_bytes() if device.type == "cpu" else 0
    swept = max(math.ceil(swept_bytes / max(moved_bytes, 1.0)), 1) if swept_bytes <= held_bytes else MOST_SETS
    sets = [make() for _ in range(min(sets_of(moved_bytes, held_bytes), swept))]
    turn = itertools.cycle(sets)

    def call_next() -> object:
        return next(turn)()

    return sets[0] if len(sets) == 1 else call_next


def sets_of(moved_bytes: float, last_cache_bytes: int) -> int:
    """So many sets of tensors move twice what the last cache holds, within ``MOST_SETS``."""
    return min(max(math.ceil(2 * last_cache_bytes / max(moved_bytes, 1.0)), 1), MOST_SETS)


def cache_bytes() -> int:
    """All of the last level's caches together; 0 where the operating system does not tell."""
    caches = cpu_caches()
    return caches[-1].instance_bytes * caches[-1].instances if caches else 0
