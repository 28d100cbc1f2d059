"""What does each item of a pipeline wait for? A schedule as index arrays, in an order that respects all of it.

Built once for a schedule and its numbers; the engine then only adds up times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hwprof.simulate.pipeline.passes import Item, Pass, PassKind
from hwprof.simulate.pipeline.schedules import PipelineOrder, Place, pipeline_order
from hwprof.specs.job.schedules import Schedule

Indices = npt.NDArray[np.intp]

Edge = tuple[Place, Place] | None
"""Between which places a message goes, in the direction of the forward pass; None = it stays on the stage."""


class Slot(NamedTuple):
    """Items that cost the same: the same stage, the same passes of the same chunks.

    Attributes:
        stage: the stage.
        kinds: kind and chunk of each pass.
        waits: the edge that each of two awaited results comes over.
        sends: the edges over which results leave.
    """

    stage: int
    kinds: tuple[tuple[str, int], ...]
    waits: tuple[Edge, Edge]
    sends: tuple[Edge, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyGraph:
    """The items of a pipeline, numbered from 1 so that each comes after all that it waits for; 0 is the start.

    Attributes:
        order: the schedule.
        slots: the different costs there are.
        slot: which of them an item has. [items]
        stage: where an item runs. [items]
        first_wait, second_wait: the items of other stages that an item waits for; 0 = none. [items]
        by_stage: item numbers - 1, stage after stage, each in its order. [items]
        offsets: where each stage begins in ``by_stage``. [stages]
        passes: the passes of each item, for reading. [items]
    """

    order: PipelineOrder
    slots: tuple[Slot, ...]
    slot: Indices
    stage: list[int]
    first_wait: list[int]
    second_wait: list[int]
    by_stage: Indices
    offsets: Indices
    passes: tuple[Item, ...]


@lru_cache(maxsize=128)
def dependency_graph(schedule: Schedule, *, stages: int, chunks: int, micro_batches: int) -> DependencyGraph:
    """The graph of a schedule; see :func:`pipeline_order` for what it raises."""
    order = pipeline_order(schedule, stages=stages, chunks=chunks, micro_batches=micro_batches)
    neighbours = _Neighbours(order)
    slots: dict[Slot, int] = {}
    numbers: dict[tuple[int, Pass], int] = {}
    slot, stage_of, first, second = [], [], [], []
    passes: list[Item] = []
    members: list[list[int]] = [[] for _ in range(stages)]
    for stage, item in _in_dependency_order(order, neighbours):
        awaited = [neighbours.awaited(stage, of_item) for of_item in item]
        found = [numbers[key] if key else 0 for key in awaited] + [0]
        for of_item in item:
            numbers[stage, _result(of_item)] = len(passes) + 1
        key = neighbours.slot(stage, item)
        slot.append(slots.setdefault(key, len(slots)))
        stage_of.append(stage)
        first.append(found[0])
        second.append(found[1])
        members[stage].append(len(passes))
        passes.append(item)
    lengths = [len(of_stage) for of_stage in members]
    return DependencyGraph(
        order=order,
        slots=tuple(slots),
        slot=np.array(slot, dtype=np.intp),
        stage=stage_of,
        first_wait=first,
        second_wait=second,
        by_stage=np.concatenate([np.array(of_stage, dtype=np.intp) for of_stage in members]),
        offsets=np.cumsum([0, *lengths[:-1]]),
        passes=tuple(passes),
    )


def _result(done: Pass) -> Pass:
    """What a pass leaves for others: a whole backward pass leaves the same as its input-gradient part."""
    return done._replace(kind="backward_input") if done.kind == "backward" else done


class _Neighbours:
    """The place before and the place after each place, on the routes of an order."""

    def __init__(self, order: PipelineOrder) -> None:
        self.before: dict[Place, Place] = {}
        self.after: dict[Place, Place] = {}
        for route in order.routes:
            for earlier, later in pairwise(route):
                self.after[earlier] = later
                self.before[later] = earlier

    def awaited(self, stage: int, waiting: Pass) -> tuple[int, Pass] | None:
        """Stage and pass whose result the pass needs, beside what is on the stage already; None = nothing."""
        place = (stage, waiting.chunk)
        if waiting.kind == "backward_weight":
            return stage, waiting._replace(kind="backward_input")
        source = self.before.get(place) if waiting.kind == "forward" else self.after.get(place)
        if source:
            kind: PassKind = "forward" if waiting.kind == "forward" else "backward_input"
            return source[0], Pass(kind, source[1], waiting.micro_batch)
        return None if waiting.kind == "forward" else (stage, waiting._replace(kind="forward"))

    def slot(self, stage: int, item: Item) -> Slot:
        """What the cost of an item depends on."""
        waits = [self._edge(stage, of_item, incoming=True) for of_item in item] + [None]
        sends = [self._edge(stage, of_item, incoming=False) for of_item in item]
        return Slot(
            stage=stage,
            kinds=tuple((of_item.kind, of_item.chunk) for of_item in item),
            waits=(waits[0], waits[1]),
            sends=tuple(edge for edge in sends if edge),
        )

    def _edge(self, stage: int, of_item: Pass, *, incoming: bool) -> Edge:
        if of_item.kind == "backward_weight":
            return None
        here = (stage, of_item.chunk)
        towards_start = incoming == (of_item.kind == "forward")
        other = self.before.get(here) if towards_start else self.after.get(here)
        if other is None or other[0] == stage:
            return None
        return (other, here) if towards_start else (here, other)


def _in_dependency_order(order: PipelineOrder, neighbours: _Neighbours) -> Iterator[tuple[int, Item]]:
    """Stage and item, each after those it waits for.

    A stage runs as far as it can; what it can't start yet is woken by the result it lacks.
    """
    done: set[tuple[int, Pass]] = set()
    position = [0] * order.stages
    sleepers: dict[tuple[int, Pass], int] = {}
    awake = list(reversed(range(order.stages)))
    left = sum(len(items) for items in order.items)
    while awake:
        stage = awake.pop()
        while position[stage] < len(order.items[stage]):
            item = order.items[stage][position[stage]]
            needs = [neighbours.awaited(stage, of_item) for of_item in item]
            missing = [key for key in needs if key and key not in done]
            if missing:
                sleepers[missing[0]] = stage
                break
            yield stage, item
            position[stage] += 1
            left -= 1
            for of_item in item:
                result = (stage, _result(of_item))
                done.add(result)
                if result in sleepers:
                    awake.append(sleepers.pop(result))
    assert not left, f"{order.schedule} with {order.stages} stages and {order.micro_batches} micro-batches gets stuck"
