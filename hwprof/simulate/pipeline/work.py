"""What does each pipeline stage of a job have to do? The step formula's layer times, laid out for the event engine."""

from __future__ import annotations

from hwprof.count.job.pipeline_stages import device_chunks, in_flight, stage_layers
from hwprof.count.memory.step import MemoryNeed
from hwprof.predict.kernels.op_time import MicroBatchTimes
from hwprof.simulate.pipeline.simulation import ChunkCost, PipelineWork, StageWork
from hwprof.simulate.step import StepTerms
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.schedules import TRAITS
from hwprof.specs.job.step import TrainingJob


def pipeline_work(
    job: TrainingJob, terms: StepTerms, work: MicroBatchTimes, memory: MemoryNeed, *, kept_bytes: float
) -> PipelineWork:
    """One job (``terms`` and ``work`` have one entry) as stages of chunks; a layer keeps ``kept_bytes`` for backward.

    Stragglers stretch everything; the exposed part of sends stands in the passes, their travel between them.
    """
    stages, layout = job.layout.pipeline_parallel, job.layout
    stretch = 1 + float(terms.slowdown[0])
    cut = device_chunks(layout.schedule, stages=stages, virtual_stages=layout.virtual_stages)
    held, built = stage_layers(job.model.layers, int(cut)), []
    for stage in range(stages):
        shares = _shares(layout, stage, held)
        own = tuple(
            _chunk(terms, work, share, kept_bytes, stretch, first=first, last=last) for share, first, last in shares
        )
        flying = float(
            in_flight(
                layout.schedule,
                stage,
                stages=stages,
                virtual_stages=layout.virtual_stages,
                micro_batches=job.micro_batches,
            )
        )
        kept = flying * kept_bytes * sum(share for share, _, _ in shares)
        built.append(
            StageWork(
                chunks=own,
                before_s=float(terms.fixed_s[0]),
                reduce_s=float(terms.data_s[0]) * stretch,
                optimizer_s=float(terms.update_s[0]) * stretch,
                fixed_bytes=max(memory.stage_bytes[stage] - kept, 0.0) if stage < len(memory.stage_bytes) else 0.0,
            )
        )
    return PipelineWork(
        stages=tuple(built),
        micro_batches=job.micro_batches,
        schedule=layout.schedule,
        overlap_send=True,
        optimizer_barrier=True,
    )


def _shares(layout: ParallelLayout, stage: int, held: tuple[int, ...]) -> list[tuple[int, bool, bool]]:
    """Layers of each chunk of a stage, and whether it begins or ends the model; ``held`` are those of all chunks."""
    cut = len(held)
    two_ended = TRAITS[layout.schedule].two_chunks
    places = [stage, cut - 1 - stage] if two_ended else list(range(stage, cut, layout.pipeline_parallel))
    return [(held[place], place == 0, place == cut - 1) for place in places]


def _chunk(
    terms: StepTerms,
    work: MicroBatchTimes,
    layers: float,
    kept_bytes: float,
    stretch: float,
    *,
    first: bool,
    last: bool,
) -> ChunkCost:
    """So many average layers, with the embedding before them and the head after them where the model begins or ends."""
    layer = terms.layer
    exposed_s = float(terms.exposed_send_s[0]) / (2 * float(terms.chunks[0]))
    weight_s = layers * float(work.weight_s[0])
    forward_s = layers * float(layer.forward_s[0]) + exposed_s
    backward_s = layers * float(layer.backward_s[0] + layer.recompute_s[0]) + exposed_s
    if first:
        forward_s += float(work.embedding_forward_s[0])
        backward_s += float(work.embedding_backward_s[0])
    if last:
        forward_s += float(work.head_forward_s[0])
        backward_s += float(work.head_backward_s[0])
    half_s = layers * float(layer.tensor_s[0] + layer.context_s[0] + layer.expert_s[0] + layer.gather_s[0]) / 2
    return ChunkCost(
        forward_s=forward_s * stretch,
        backward_input_s=(backward_s - weight_s) * stretch,
        backward_weight_s=weight_s * stretch,
        send_s=float(terms.send_s[0]) * stretch,
        kept_bytes=kept_bytes * layers,
        forward_communication_s=min(half_s + exposed_s, forward_s) * stretch,
        backward_communication_s=min(half_s + exposed_s, backward_s) * stretch,
        working_bytes=0.0,
    )
