"""Which pipelines are easy to simulate? Chunks, stages and steps of which a test says only what matters to it."""

from __future__ import annotations

from typing import Any

from hwprof.simulate.pipeline.simulation import ChunkCost, PipelineWork, StageWork

CHUNK = {
    "forward_s": 1.0,
    "backward_input_s": 1.0,
    "backward_weight_s": 1.0,
    "send_s": 0.0,
    "kept_bytes": 1.0,
    "forward_communication_s": 0.0,
    "backward_communication_s": 0.0,
    "working_bytes": 0.0,
}
STAGE = {"before_s": 0.0, "reduce_s": 0.0, "optimizer_s": 0.0, "fixed_bytes": 0.0}


def made_up_chunk(**said: Any) -> ChunkCost:
    """A chunk whose passes take 1 s each."""
    return ChunkCost(**CHUNK | said)


def made_up_stage(*chunks: ChunkCost, **said: Any) -> StageWork:
    """A stage of chunks that has nothing else to do."""
    return StageWork(chunks=chunks, **STAGE | said)


def made_up_pipeline(*stages: StageWork, **said: Any) -> PipelineWork:
    """A step whose messages travel beside work and whose updates wait for each other."""
    return PipelineWork(stages=stages, **{"overlap_send": True, "optimizer_barrier": True} | said)
