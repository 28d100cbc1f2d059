"""What do the links give along each axis of a run's layout? The collectives that the layout uses, probed before it."""

from __future__ import annotations

from collections.abc import Callable

import torch.distributed as dist

from hwprof.measure.links.collective_probe import QUICK, ScopedGroup, probe_collectives, sizes_for
from hwprof.measure.links.collectives import RankGroup
from hwprof.measure.timing import Timer
from hwprof.measure.world import World
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.record.collective import CollectiveCurve, CollectiveName, Scope
from hwprof.train.parallel.mesh import DATA, PIPELINE, TENSOR, RankMesh


def collectives_of(layout: ParallelLayout) -> dict[str, tuple[CollectiveName, ...]]:
    """Axis -> the collectives that training over a layout uses along it."""
    found: dict[str, tuple[CollectiveName, ...]] = {}
    if layout.data_parallel > 1:
        found[DATA] = ("all_gather", "reduce_scatter") if layout.zero_stage >= 2 else ("all_reduce",)
    if layout.tensor_parallel > 1:
        found[TENSOR] = ("all_gather", "reduce_scatter") if layout.sequence_parallel else ("all_reduce",)
    if layout.pipeline_parallel > 1:
        found[PIPELINE] = ("send_recv",)
    return found


def probe_layout(
    world: World, mesh: RankMesh, timer: Timer, *, report: Callable[[str], None] = lambda _line: None
) -> tuple[CollectiveCurve, ...]:
    """Curves between the ranks of this rank's groups, all groups of an axis at once; the axis is in ``conditions``.

    Every rank calls it. What it returns is that of its own groups, but each time is that of the slowest group.
    """
    curves: list[CollectiveCurve] = []
    for axis, names in collectives_of(mesh.layout).items():
        found = probe_collectives(
            world,
            [_scoped(world, mesh, axis)],
            timer,
            sizes=sizes_for(world.backend, quick=True),
            how=QUICK,
            collectives=names,
            report=report,
        )
        curves += [curve.changed(conditions=curve.conditions | {"axis": axis}) for curve in found]
    return tuple(curves)


def _scoped(world: World, mesh: RankMesh, axis: str) -> ScopedGroup:
    group = mesh.group(axis)
    ranks = tuple(dist.get_process_group_ranks(group))
    nodes = len({world.nodes_of[rank] for rank in ranks})
    scope: Scope = "node" if nodes == 1 else "network" if nodes == len(ranks) else "world"
    return ScopedGroup(
        scope=scope, group=RankGroup(ranks, world.rank, group), nodes=nodes, at_once=world.size // len(ranks)
    )
