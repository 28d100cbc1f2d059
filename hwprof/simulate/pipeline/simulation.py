"""What does a pipeline have to do, and how long does it take? Costs of chunks and stages in, a timeline out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hwprof.errors import InputError
from hwprof.simulate.pipeline.dependencies import DependencyGraph, dependency_graph
from hwprof.simulate.pipeline.schedules import schedule_refusal
from hwprof.specs.job.schedules import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkCost:
    """One model chunk on one stage, for one micro-batch.

    Attributes:
        forward_s: the forward pass.
        backward_input_s: the backward pass up to the input gradient, recompute included.
        backward_weight_s: the gradients of the chunk's own weights.
        send_s: passing the output on to the next chunk's stage; the gradient of that output takes as long to come back.
        kept_bytes: activations kept from the start of the forward pass to the end of the last backward pass.
        forward_communication_s: share of ``forward_s`` that is communication. Included in it; the trace labels it, and
            where DualPipe runs two passes together each hides the other's.
        backward_communication_s: the same of the whole backward pass.
        working_bytes: what a pass needs beside that while it runs.
    """

    forward_s: float
    backward_input_s: float
    backward_weight_s: float
    send_s: float
    kept_bytes: float
    forward_communication_s: float
    backward_communication_s: float
    working_bytes: float

    def __post_init__(self) -> None:
        _require_amounts(
            "a chunk",
            forward_s=self.forward_s,
            backward_input_s=self.backward_input_s,
            backward_weight_s=self.backward_weight_s,
            send_s=self.send_s,
            kept_bytes=self.kept_bytes,
            forward_communication_s=self.forward_communication_s,
            backward_communication_s=self.backward_communication_s,
            working_bytes=self.working_bytes,
        )
        for name, share_s, whole_s in (
            ("forward_communication_s", self.forward_communication_s, self.forward_s),
            ("backward_communication_s", self.backward_communication_s, self.backward_s),
        ):
            if share_s > whole_s * (1 + 1e-9):
                raise InputError(
                    f"{name} = {share_s} is more than the {whole_s} s of its pass",
                    remedy="communication is part of the pass's time: add it there",
                )

    @property
    def backward_s(self) -> float:
        """The whole backward pass."""
        return self.backward_input_s + self.backward_weight_s


@dataclass(frozen=True, slots=True, kw_only=True)
class StageWork:
    """One stage, for a step.

    Attributes:
        chunks: its model chunks, in the order in which a forward pass reaches them; for DualPipe first the chunk of the
            micro-batches that enter at the first stage.
        before_s: before its first pass (data, an exposed weight gather).
        reduce_s: exposed gradient reduction after its last pass.
        optimizer_s: the update.
        fixed_bytes: what is there all the time: weights, gradients, optimizer state.
    """

    chunks: tuple[ChunkCost, ...]
    before_s: float
    reduce_s: float
    optimizer_s: float
    fixed_bytes: float

    def __post_init__(self) -> None:
        _require_amounts(
            "a stage",
            before_s=self.before_s,
            reduce_s=self.reduce_s,
            optimizer_s=self.optimizer_s,
            fixed_bytes=self.fixed_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineWork:
    """One step of a pipeline.

    Attributes:
        stages: the stages, from the one that holds the first chunk of the model.
        micro_batches: of a step; DualPipe's are those of both directions together.
        schedule: the order of work.
        overlap_send: messages travel while the sender goes on working; otherwise it waits until they have arrived.
        optimizer_barrier: no stage updates before all have reduced their gradients (a global gradient norm).

    Raises:
        InputError: stages hold different numbers of chunks, or the schedule can't run with these numbers.
    """

    stages: tuple[StageWork, ...]
    micro_batches: int
    schedule: Schedule
    overlap_send: bool
    optimizer_barrier: bool

    def __post_init__(self) -> None:
        counts = sorted({len(stage.chunks) for stage in self.stages})
        if len(counts) != 1:
            raise InputError(f"stages hold {counts} chunks", expectation="expected equally many on each")
        reason = schedule_refusal(
            self.schedule, stages=len(self.stages), chunks=counts[0], micro_batches=self.micro_batches
        )
        if reason:
            raise InputError(reason, remedy="change the pipeline's degrees or its schedule")

    @property
    def graph(self) -> DependencyGraph:
        """What waits for what."""
        return dependency_graph(
            self.schedule,
            stages=len(self.stages),
            chunks=len(self.stages[0].chunks),
            micro_batches=self.micro_batches,
        )


def _require_amounts(what: str, **amounts: float) -> None:
    for name, amount in amounts.items():
        if not 0 <= amount < math.inf:
            raise InputError(f"{name} of {what} is {amount}", expectation="expected a finite amount of 0 or more")
