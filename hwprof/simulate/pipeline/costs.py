"""What does each kind of item cost on its stage? The times and bytes of a pipeline's work as arrays over slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from hwprof.simulate.pipeline.dependencies import Edge, Slot
from hwprof.simulate.pipeline.simulation import ChunkCost, PipelineWork

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotCosts:
    """Costs of the slots of a dependency graph. All arrays are [slots].

    Attributes:
        duration_s: from start to end of the item.
        communication_s: share of it that is communication.
        hold_s: how long the stage is kept from its next item by sending results; 0 where sending overlaps.
        first_lag_s, second_lag_s: how long the two awaited results travel.
        start_bytes: what the item keeps from its start on.
        end_bytes: what it frees at its end.
        working_bytes: what it needs while it runs.
    """

    duration_s: Floats
    communication_s: Floats
    hold_s: Floats
    first_lag_s: Floats
    second_lag_s: Floats
    start_bytes: Floats
    end_bytes: Floats
    working_bytes: Floats

    @classmethod
    def of(cls, work: PipelineWork, slots: tuple[Slot, ...]) -> Self:
        """The costs of ``work``."""
        columns = np.array([_slot_row(work, slot) for slot in slots]).T
        return cls(
            duration_s=columns[0],
            communication_s=columns[1],
            hold_s=columns[2],
            first_lag_s=columns[3],
            second_lag_s=columns[4],
            start_bytes=columns[5],
            end_bytes=columns[6],
            working_bytes=columns[7],
        )


def _slot_row(work: PipelineWork, slot: Slot) -> tuple[float, ...]:
    """One row of the table above. Of passes that run together each one's communication hides behind the computation."""
    chunks = work.stages[slot.stage].chunks
    parts = [_pass_row(kind, chunks[chunk]) for kind, chunk in slot.kinds]
    whole_s, communication_s, start_bytes, end_bytes, working_bytes = (
        parts[0] if len(parts) == 1 else map(sum, zip(*parts, strict=True))
    )
    computation_s = whole_s - communication_s
    duration_s = whole_s if len(parts) == 1 else max(computation_s, communication_s)
    return (
        duration_s,
        duration_s - computation_s,
        0.0 if work.overlap_send else max((_send_s(work, edge) for edge in slot.sends), default=0.0),
        _send_s(work, slot.waits[0]),
        _send_s(work, slot.waits[1]),
        start_bytes,
        end_bytes,
        working_bytes,
    )


def _pass_row(kind: str, chunk: ChunkCost) -> tuple[float, float, float, float, float]:
    """Seconds, communication among them, bytes kept from the start, freed at the end, and needed in between.

    A split backward pass has its communication in the input-gradient part first.
    """
    input_communication_s = min(chunk.backward_communication_s, chunk.backward_input_s)
    if kind == "forward":
        return chunk.forward_s, chunk.forward_communication_s, chunk.kept_bytes, 0.0, chunk.working_bytes
    if kind == "backward_input":
        return chunk.backward_input_s, input_communication_s, 0.0, 0.0, chunk.working_bytes
    if kind == "backward_weight":
        rest_s = chunk.backward_communication_s - input_communication_s
        return chunk.backward_weight_s, rest_s, 0.0, chunk.kept_bytes, chunk.working_bytes
    return chunk.backward_s, chunk.backward_communication_s, 0.0, chunk.kept_bytes, chunk.working_bytes


def _send_s(work: PipelineWork, edge: Edge) -> float:
    """How long a message between two places takes, either way."""
    if edge is None:
        return 0.0
    stage, chunk = edge[0]
    return work.stages[stage].chunks[chunk].send_s
