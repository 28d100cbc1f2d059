"""How long do collectives take between these ranks, over sizes? The method of nccl-tests, on NCCL or gloo.

Every rank enters a barrier, makes a number of calls in a row, and times them; the time of a call is the longest of all
ranks over that number. Whatever decides how to go on (how many calls, which sizes) is agreed upon, since ranks that do
not call alike wait for each other for ever.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from hwprof.measure.links.alpha_beta import fit_alpha_beta
from hwprof.measure.links.collectives import ELEMENT_BYTES, Exchange, RankGroup, elements_of, exchange, ranks_by_node
from hwprof.measure.timing import Timer
from hwprof.measure.world import World, sized_as
from hwprof.specs.measurement import STABLE_SPREAD, quantile
from hwprof.specs.record.collective import (
    COLLECTIVES,
    CollectiveCurve,
    CollectiveName,
    CollectivePoint,
    Scope,
    bus_factor,
)

Sizes = tuple[int, ...]
_SMALLEST_BYTES = 1024
_LARGEST_BYTES = {"gloo": 64 * 2**20, "nccl": 1024 * 2**20}
_QUICK_LARGEST_BYTES = {"gloo": 32 * 2**20, "nccl": 256 * 2**20}
_QUICK_FACTOR, _FULL_FACTOR = 8, 2
_ROUNDS = 4
"""Rounds of samples at one size, until one is steady."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thoroughness:
    """How much to measure.

    Attributes:
        samples: timed samples at each size.
        warmups: untimed calls at each size.
        sample_s: shortest sample; a faster call is repeated inside it.
        curve_s: time for one curve; sizes that would take longer are left out.
    """

    samples: int
    warmups: int
    sample_s: float
    curve_s: float


QUICK = Thoroughness(samples=7, warmups=2, sample_s=2e-3, curve_s=1.5)
FULL = Thoroughness(samples=15, warmups=3, sample_s=5e-3, curve_s=8.0)


def sizes_for(backend: str, *, quick: bool) -> Sizes:
    """The sizes of a curve, in bytes."""
    factor = _QUICK_FACTOR if quick else _FULL_FACTOR
    largest = (_QUICK_LARGEST_BYTES if quick else _LARGEST_BYTES)[sized_as(backend)]
    steps = round(math.log(largest / _SMALLEST_BYTES, factor))
    return tuple(_SMALLEST_BYTES * factor**step for step in range(steps + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedGroup:
    """A group of this rank, what it spans, and how many such groups talk at the same time on each machine."""

    scope: Scope
    group: RankGroup
    nodes: int
    at_once: int


def scoped_groups(world: World) -> tuple[ScopedGroup, ...]:
    """The groups to measure: the ranks of each node; those of equal place in each node; all, where there are nodes.

    Every rank makes every process group, as torch asks.
    """
    by_node = list(ranks_by_node(world.nodes_of).values())
    if world.nodes == 1:
        return (_scoped(world, "node", [tuple(range(world.size))], at_once=1),)
    found: list[ScopedGroup] = []
    width = len(by_node[0])
    if all(len(ranks) == width for ranks in by_node):
        if width > 1:
            found.append(_scoped(world, "node", by_node, at_once=1))
        across = [tuple(ranks[place] for ranks in by_node) for place in range(width)]
        found.append(_scoped(world, "network", across, at_once=width))
    if width > 1 or not found:
        found.append(_scoped(world, "world", [tuple(range(world.size))], at_once=1))
    return tuple(found)


def _scoped(world: World, scope: Scope, groups: Sequence[tuple[int, ...]], *, at_once: int) -> ScopedGroup:
    made = [(ranks, dist.new_group(list(ranks), backend=world.backend)) for ranks in groups]
    ranks, own = next((ranks, group) for ranks, group in made if world.rank in ranks)
    nodes = len({world.nodes_of[rank] for rank in ranks})
    return ScopedGroup(scope=scope, group=RankGroup(ranks, world.rank, own), nodes=nodes, at_once=at_once)


def probe_collectives(
    world: World,
    groups: Sequence[ScopedGroup],
    timer: Timer,
    *,
    sizes: Sizes,
    how: Thoroughness,
    collectives: Sequence[CollectiveName] = COLLECTIVES,
    report: Callable[[str], None] = lambda _line: None,
    on_curve: Callable[[CollectiveCurve], None] = lambda _curve: None,
) -> tuple[CollectiveCurve, ...]:
    """A curve for each collective and group; every rank returns the same.

    Raises:
        WorkError: a collective delivered wrong values.
    """
    curves = []
    wanted = [(scoped, name) for scoped in groups for name in collectives]
    for number, (scoped, name) in enumerate(wanted, start=1):
        report(f"measuring {name} between {scoped.group.size} ranks, {scoped.scope} ({number} of {len(wanted)})")
        curves.append(_curve(world, scoped, name, timer, sizes=sizes, how=how))
        on_curve(curves[-1])
    return tuple(curves)


def _curve(
    world: World, scoped: ScopedGroup, name: CollectiveName, timer: Timer, *, sizes: Sizes, how: Thoroughness
) -> CollectiveCurve:
    points: list[CollectivePoint] = []
    left_s = how.curve_s
    for size_bytes in sizes:
        if points and _expected_s(points, size_bytes) * (how.samples + how.warmups + 2) > left_s:
            break
        point, spent_s = _point(world, scoped.group, name, size_bytes, timer=timer, how=how)
        points.append(point)
        left_s -= spent_s
    return CollectiveCurve(
        collective=name,
        scope=scoped.scope,
        backend=world.library,
        ranks=scoped.group.size,
        nodes=scoped.nodes,
        points=tuple(points),
        fit=fit_alpha_beta([point.size_bytes for point in points], [point.time_s for point in points]),
        stable=all(point.spread <= STABLE_SPREAD for point in points),
        conditions={
            "dtype": "fp32",
            "time": "the slowest rank's",
            "warmups": how.warmups,
            "groups_at_once": scoped.at_once,
            "sizes_left_out": len(sizes) - len(points),
            "torch": torch.__version__,
        },
    )


def _expected_s(points: Sequence[CollectivePoint], size_bytes: int) -> float:
    """A guess: the last time, and the growth between the last two sizes continued."""
    *_, before, last = (None, *points)
    if before is None:
        return last.time_s
    growth = max(last.time_s - before.time_s, 0.0) / (last.size_bytes - before.size_bytes)
    return last.time_s + growth * (size_bytes - last.size_bytes)


def _point(
    world: World, group: RankGroup, name: CollectiveName, size_bytes: int, *, timer: Timer, how: Thoroughness
) -> tuple[CollectivePoint, float]:
    """One size, and the seconds that it took to measure: the first steady round, else the least disturbed one."""
    began = timer.mark()
    work = exchange(name, group, size_bytes, world.device)
    work.check()
    for _ in range(how.warmups - 1):
        work.run()
    once_s = world.largest([_call_s(world, work, timer, calls=1)])[0]
    calls = max(1, math.ceil(how.sample_s / once_s))
    exact_bytes = elements_of(size_bytes, group.size) * ELEMENT_BYTES
    rounds: list[CollectivePoint] = []
    spent_s = 0.0
    while not rounds or (rounds[-1].spread > STABLE_SPREAD and len(rounds) < _ROUNDS and spent_s < how.curve_s / 6):
        own_s = [_call_s(world, work, timer, calls=calls) for _ in range(how.samples)]
        *times_s, spent_s = world.largest([*own_s, timer.mark().host_s - began.host_s])
        rounds.append(point_of(name, exact_bytes, tuple(times_s), ranks=group.size, calls=calls))
    steady = rounds[-1].spread <= STABLE_SPREAD
    return rounds[-1] if steady else min(rounds, key=lambda point: point.time_s), spent_s


def _call_s(world: World, work: Exchange, timer: Timer, *, calls: int) -> float:
    """Seconds of one of several calls in a row, on this rank."""
    world.barrier()
    start = timer.mark()
    for _ in range(calls):
        work.run()
    return timer.elapsed_s(start, timer.mark()) / calls


def point_of(
    name: CollectiveName, size_bytes: int, samples_s: tuple[float, ...], *, ranks: int, calls: int
) -> CollectivePoint:
    """A point from the slowest rank's seconds of a call."""
    time_s = statistics.median(samples_s)
    rate = size_bytes / time_s
    return CollectivePoint(
        size_bytes=size_bytes,
        samples_s=samples_s,
        time_s=time_s,
        algorithm_byte_per_s=rate,
        bus_byte_per_s=rate * bus_factor(name, ranks),
        spread=(quantile(samples_s, 0.75) - quantile(samples_s, 0.25)) / time_s,
        calls_per_sample=calls,
    )
