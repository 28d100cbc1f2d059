"""When does each stage do what, when does it wait, and how much memory does it need? All of it read off item times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hwprof.simulate.pipeline.costs import Floats, SlotCosts
from hwprof.simulate.pipeline.dependencies import DependencyGraph, Indices
from hwprof.simulate.pipeline.passes import Item
from hwprof.simulate.pipeline.simulation import PipelineWork


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An item in time.

    Attributes:
        item: its passes.
        start_s: when it starts.
        end_s: when it ends.
        communication_s: how much of that is communication.
        hold_s: for how long its stage is then kept by sending.
    """

    item: Item
    start_s: float
    end_s: float
    communication_s: float
    hold_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """How each stage spends the step, in seconds; the columns add up to the step. All arrays are [stages].

    Attributes:
        before_s: before the first pass.
        computation_s: passes without the communication in them.
        communication_s: exposed communication inside passes.
        send_s: the stage is held while its results travel.
        message_s: idle while the result it waits for is on its way.
        bubble_s: idle while others still work on what it waits for, the barrier and the end of the step included.
        reduce_s: exposed gradient reduction.
        optimizer_s: the update.
    """

    before_s: Floats
    computation_s: Floats
    communication_s: Floats
    send_s: Floats
    message_s: Floats
    bubble_s: Floats
    reduce_s: Floats
    optimizer_s: Floats

    @property
    def exposed_communication_s(self) -> Floats:
        """All communication that the stage does not work through: in passes, between stages, of gradients."""
        return self.communication_s + self.send_s + self.message_s + self.reduce_s


@dataclass(frozen=True)
class Timeline:
    """A simulated step: when every item starts and ends. Items are numbered as in ``graph``.

    Attributes:
        work: what was simulated.
        graph: its items.
        costs: what they cost.
        start_s: when each item starts. [items]
        end_s: when it ends. [items]
    """

    work: PipelineWork
    graph: DependencyGraph
    costs: SlotCosts
    start_s: Floats
    end_s: Floats

    @cached_property
    def reduced_s(self) -> Floats:
        """When each stage has reduced its gradients; [stages]."""
        last = self.graph.by_stage[self._last]
        free_s: Floats = self.end_s[last] + self.costs.hold_s[self.graph.slot[last]]
        return free_s + self._per_stage("reduce_s")

    @cached_property
    def update_s(self) -> Floats:
        """When each stage starts its update: together where there is a barrier; [stages]."""
        return np.full_like(self.reduced_s, self.reduced_s.max()) if self.work.optimizer_barrier else self.reduced_s

    @cached_property
    def step_s(self) -> float:
        """When the last stage has updated its weights."""
        return float((self.update_s + self._per_stage("optimizer_s")).max())

    @property
    def span_s(self) -> float:
        """When the last pass of any stage has ended: the pipeline without reduction and update."""
        return float(self.end_s.max())

    @cached_property
    def stage_times(self) -> StageTimes:
        """How each stage spends the step."""
        before_s, reduce_s, optimizer_s = map(self._per_stage, ("before_s", "reduce_s", "optimizer_s"))
        duration_s, communication_s, hold_s = (
            self._sum(values[self.graph.slot])
            for values in (self.costs.duration_s, self.costs.communication_s, self.costs.hold_s)
        )
        message_s = self._sum(self._message_waits_s)
        known_s = before_s + duration_s + hold_s + message_s + reduce_s + optimizer_s
        return StageTimes(
            before_s=before_s,
            computation_s=duration_s - communication_s,
            communication_s=communication_s,
            send_s=hold_s,
            message_s=message_s,
            bubble_s=np.maximum(self.step_s - known_s, 0.0),
            reduce_s=reduce_s,
            optimizer_s=optimizer_s,
        )

    @cached_property
    def peak_bytes(self) -> Floats:
        """The most memory that each stage needs; [stages]."""
        while_running = self._held_bytes + self.costs.working_bytes[self.graph.slot[self.graph.by_stage]]
        return np.maximum.reduceat(while_running, self.graph.offsets) + self._per_stage("fixed_bytes")

    def memory_curve(self, stage: int) -> tuple[Floats, Floats]:
        """Times, and the bytes that a stage holds from each on until the next: a step function from 0 s."""
        items = self._items(stage)
        slot = self.graph.slot[items]
        running = self._held_bytes[self._slice(stage)] + self.work.stages[stage].fixed_bytes
        after = running - self.costs.end_bytes[slot]
        times_s = np.stack([self.start_s[items], self.end_s[items]], axis=1).ravel()
        levels = np.stack([running + self.costs.working_bytes[slot], after], axis=1).ravel()
        fixed_bytes = self.work.stages[stage].fixed_bytes
        return np.concatenate([[0.0], times_s]), np.concatenate([[fixed_bytes], levels])

    def in_flight(self, stage: int) -> int:
        """The most forward passes whose activations a stage keeps at the same time, over all its chunks."""
        held = most = 0
        for item in (self.graph.passes[k] for k in self._items(stage)):
            held += sum(done.kind == "forward" for done in item)
            most = max(most, held)
            held -= sum(done.kind in {"backward", "backward_weight"} for done in item)
        return most

    def spans(self, stage: int) -> Iterator[Span]:
        """The items of a stage in order."""
        for number in self._items(stage):
            slot = self.graph.slot[number]
            yield Span(
                item=self.graph.passes[number],
                start_s=float(self.start_s[number]),
                end_s=float(self.end_s[number]),
                communication_s=float(self.costs.communication_s[slot]),
                hold_s=float(self.costs.hold_s[slot]),
            )

    @property
    def _last(self) -> Indices:
        return np.append(self.graph.offsets[1:], len(self.graph.by_stage)) - 1

    def _slice(self, stage: int) -> slice:
        return slice(self.graph.offsets[stage], self._last[stage] + 1)

    def _items(self, stage: int) -> Indices:
        return self.graph.by_stage[self._slice(stage)]

    def _per_stage(self, field: str) -> Floats:
        return np.array([getattr(stage, field) for stage in self.work.stages], dtype=np.float64)

    def _sum(self, of_items: Floats) -> Floats:
        return np.add.reduceat(of_items[self.graph.by_stage], self.graph.offsets)

    @cached_property
    def _held_bytes(self) -> Floats:
        """Activations kept while each item runs, without what it works with; in the order of ``by_stage``."""
        slot = self.graph.slot[self.graph.by_stage]
        start_bytes, end_bytes = self.costs.start_bytes[slot], self.costs.end_bytes[slot]
        kept = np.cumsum(start_bytes - end_bytes)  # a stage frees all that it keeps, so the next one begins at zero
        return kept + end_bytes

    @cached_property
    def _message_waits_s(self) -> Floats:
        """How long each item waits for a message that is on its way; [items]."""
        graph, costs = self.graph, self.costs
        free_s = np.empty_like(self.start_s)
        order = graph.by_stage
        free_s[order[1:]] = (self.end_s + costs.hold_s[graph.slot])[order[:-1]]
        free_s[order[graph.offsets]] = self._per_stage("before_s")
        ended_s = np.concatenate([[0.0], self.end_s])
        first_lag_s, second_lag_s = costs.first_lag_s[graph.slot], costs.second_lag_s[graph.slot]
        first_s, second_s = ended_s[graph.first_wait] + first_lag_s, ended_s[graph.second_wait] + second_lag_s
        lag_s = np.where(first_s >= second_s, first_lag_s, second_lag_s)
        return np.minimum(np.maximum(self.start_s - free_s, 0.0), lag_s)
