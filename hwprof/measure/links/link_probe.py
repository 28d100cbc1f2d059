"""What do the links between the ranks give? Collectives over sizes, pairs, and what overlap with computation costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hwprof.measure.links.collective_probe import FULL, QUICK, Sizes, probe_collectives, scoped_groups, sizes_for
from hwprof.measure.links.pairs import MOST_RANKS, probe_pairs
from hwprof.measure.links.slowdown import probe_slowdown
from hwprof.measure.links.topology import topology
from hwprof.measure.timing import Timer
from hwprof.measure.world import World
from hwprof.specs.hardware.topology import Topology
from hwprof.specs.measurement import Skipped
from hwprof.specs.record.collective import COLLECTIVES, CollectiveCurve, CollectiveName, PairRate, Slowdown


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkResult:
    """What was measured between the ranks, and what was not and why."""

    collectives: tuple[CollectiveCurve, ...] = ()
    pairs: tuple[PairRate, ...] = ()
    slowdowns: tuple[Slowdown, ...] = ()
    topology: Topology | None = None
    skipped: tuple[Skipped, ...] = ()


def probe_links(
    world: World,
    timer: Timer,
    *,
    quick: bool,
    sizes: Sizes | None = None,
    collectives: tuple[CollectiveName, ...] = COLLECTIVES,
    report: Callable[[str], None] = lambda _line: None,
    on_result: Callable[[LinkResult], None] = lambda _result: None,
) -> LinkResult:
    """Measure the links between all ranks; every rank calls it and returns the same.

    Args:
        world: the ranks.
        timer: the clock on this rank's device.
        quick: at most about 30 s, otherwise about 3 minutes, for each group of ranks.
        sizes: of the collectives, in bytes; None for the usual ones of the backend.
        collectives: which.
        report: gets one line before each piece.
        on_result: gets all results so far after each piece.
    """
    found, reason = topology(world.device, world.host)
    result = LinkResult(topology=found, skipped=(reason,) if reason else ())

    def keep(curve: CollectiveCurve) -> None:
        nonlocal result
        result = replace(result, collectives=(*result.collectives, curve))
        on_result(result)

    groups = scoped_groups(world)
    probe_collectives(
        world,
        groups,
        timer,
        sizes=sizes or sizes_for(world.backend, quick=quick),
        how=QUICK if quick else FULL,
        collectives=collectives,
        report=report,
        on_curve=keep,
    )
    whole = groups[-1].group
    if whole.size <= MOST_RANKS:
        result = replace(result, pairs=probe_pairs(world, whole, timer, report=report))
    else:
        skipped = Skipped(name="pairs", reason=f"{whole.size} ranks make {whole.size * (whole.size - 1)} pairs")
        result = replace(result, skipped=(*result.skipped, skipped))
    on_result(result)
    report("measuring computation beside communication")
    result = replace(result, slowdowns=(probe_slowdown(world, whole, timer),))
    on_result(result)
    return result
