"""When does each item of a pipeline start and end? As soon as its stage is free and all that it waits for is there.

The order of items is fixed by the schedule, so the events of a step form a graph without cycles, known beforehand: one
sweep over the items in dependency order gives every time exactly, without a queue of events.
"""

from __future__ import annotations

import numpy as np

from hwprof.simulate.pipeline.costs import SlotCosts
from hwprof.simulate.pipeline.simulation import PipelineWork
from hwprof.simulate.pipeline.timeline import Timeline


def simulate_pipeline(work: PipelineWork) -> Timeline:
    """The timeline of one step: deterministic, exact for the given costs."""
    graph = work.graph
    costs = SlotCosts.of(work, graph.slots)
    duration_s, first_lag_s, second_lag_s, hold_s = (
        values[graph.slot].tolist()
        for values in (costs.duration_s, costs.first_lag_s, costs.second_lag_s, costs.hold_s)
    )
    free_s = [stage.before_s for stage in work.stages]
    starts_s: list[float] = []
    ends_s = [0.0]
    items = zip(graph.stage, graph.first_wait, first_lag_s, graph.second_wait, second_lag_s, strict=True)
    for (stage, first, lag_s, second, other_lag_s), lasts_s, held_s in zip(items, duration_s, hold_s, strict=True):
        start_s = free_s[stage]
        if (arrival_s := ends_s[first] + lag_s) > start_s:
            start_s = arrival_s
        if second and (arrival_s := ends_s[second] + other_lag_s) > start_s:
            start_s = arrival_s
        end_s = start_s + lasts_s
        starts_s.append(start_s)
        ends_s.append(end_s)
        free_s[stage] = end_s + held_s
    return Timeline(work=work, graph=graph, costs=costs, start_s=np.array(starts_s), end_s=np.array(ends_s[1:]))
