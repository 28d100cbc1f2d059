"""From how many threads on does a CPU get no faster? Matrix products and triad with one, half and all threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

import torch

from hwprof.measure.probes.bench import Bench, CannotRunError, Conditions
from hwprof.specs.measurement import Ceiling, Unit

SATURATED = 0.95
"""The fewest threads that reach this share of the best rate are enough."""


def thread_counts(threads: int) -> tuple[int, ...]:
    """One, half and all, as far as they differ."""
    return tuple(sorted({1, max(threads // 2, 1), threads}))


def with_sweep(bench: Bench, measure: Callable[[Bench], Ceiling]) -> Ceiling:
    """A ceiling with all threads, and in its conditions the rate with fewer, and how many are enough.

    Fewer threads get a quarter of the time, and fewer shapes; so few that it does not do are left out.
    """
    threads = torch.get_num_threads()
    found = measure(bench)
    shorter = replace(bench, probe_s=bench.probe_s / 4, thorough=False)
    rates = {threads: found.value}
    for count in thread_counts(threads)[:-1]:
        with on_threads(count), suppress(CannotRunError):
            rates[count] = measure(shorter).value
    return found.changed(conditions=found.conditions | sweep_conditions(rates, found.unit))


def sweep_conditions(rates: Mapping[int, float], unit: Unit) -> Conditions:
    """The rate of each number of threads, and the fewest that are enough.

    >>> sweep_conditions({1: 20e9, 2: 38e9}, "byte_per_s")
    {'with_1_threads_byte_per_s': 20000000000.0, 'with_2_threads_byte_per_s': 38000000000.0, \
'saturated_from_threads': 2}
    """
    best = max(rates.values())
    enough = min(count for count, rate in rates.items() if rate >= SATURATED * best)
    found: Conditions = {f"with_{count}_threads_{unit}": rates[count] for count in sorted(rates)}
    return found | {"saturated_from_threads": enough}


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads; afterwards with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
