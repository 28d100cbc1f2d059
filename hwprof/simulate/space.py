"""How are many layouts of one job predicted at once? Equal-length arrays, and the work of each distinct share once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from hwprof.count.blocks.captured import tokens_split
from hwprof.count.job.device_work import device_rows
from hwprof.predict.kernels.op_time import MicroBatchTimes, micro_batch_times, share_times
from hwprof.predict.kernels.row_table import row_table
from hwprof.predict.kernels.row_times import row_times
from hwprof.predict.machine import Machine
from hwprof.predict.parameters import Parameters
from hwprof.predict.stacks import Stack
from hwprof.simulate.jobs import NUMBERS, expert_sizes, jobs_of, offloaded_bytes, paces_of, share_of
from hwprof.simulate.numbers import Floats, Jobs
from hwprof.simulate.runners import runners_of
from hwprof.simulate.whole_step import StepTimes, step_times
from hwprof.specs.distinct import distinct
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.schedules import SCHEDULES, with_trait
from hwprof.specs.job.settings import RECOMPUTE
from hwprof.specs.job.step import TrainingJob

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Many layouts of one job, as arrays of equal length.

    Attributes:
        base: the job; model, sequence, global batch, formats, optimizer, LoRA and kind of context parallelism hold for
            all.
        tensor, context, expert, expert_tensor, pipeline, virtual, data, zero_stage, shard_ranks: as in
            ``ParallelLayout``; ``expert_tensor`` and ``shard_ranks`` are numbers in every place.
        micro_batch: sequences of one replica at a time.
        recompute: index into ``RECOMPUTE``.
        schedule: index into ``SCHEDULES``.
        sequence_parallel, overlap: switches.
    """

    base: TrainingJob
    tensor: Integers
    context: Integers
    expert: Integers
    expert_tensor: Integers
    pipeline: Integers
    virtual: Integers
    data: Integers
    micro_batch: Integers
    zero_stage: Integers
    shard_ranks: Integers
    recompute: Integers
    schedule: Integers
    sequence_parallel: NDArray[np.bool_]
    overlap: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.tensor)

    def at(self, places: Integers) -> Space:
        """Some of the layouts."""
        arrays = {each.name: getattr(self, each.name)[places] for each in fields(self) if each.name != "base"}
        return Space(base=self.base, **arrays)

    def job(self, index: int) -> TrainingJob:
        """One of the layouts as a job."""
        replicas = int(self.data[index] * self.context[index])
        shards, of_expert = int(self.shard_ranks[index]), int(self.expert_tensor[index])
        usual = int(self.tensor[index]) if replicas % int(self.expert[index]) == 0 else 1
        layout = ParallelLayout(
            data_parallel=int(self.data[index]),
            tensor_parallel=int(self.tensor[index]),
            pipeline_parallel=int(self.pipeline[index]),
            virtual_stages=int(self.virtual[index]),
            context_parallel=int(self.context[index]),
            context_kind=self.base.layout.context_kind,
            expert_parallel=int(self.expert[index]),
            expert_tensor=None if of_expert == usual else of_expert,
            zero_stage=int(self.zero_stage[index]),
            shard_ranks=shards if shards < replicas else None,
            sequence_parallel=bool(self.sequence_parallel[index]),
            schedule=SCHEDULES[int(self.schedule[index])],
            overlap=bool(self.overlap[index]),
        )
        update = {
            "layout": layout,
            "micro_batch": int(self.micro_batch[index]),
            "recompute": RECOMPUTE[int(self.recompute[index])],
        }
        return self.base.changed(**update)


def predict_space(space: Space, machine: Machine, stack: Stack, parameters: Parameters) -> StepTimes:
    """The step of every layout, in seconds.

    Raises:
        SpecError: a peak of the device is not known.
    """
    jobs, index = _shares(space)
    work = _work(jobs, machine, stack, parameters).of(index)
    offloaded = np.array([offloaded_bytes(job) for job in jobs])[index]
    return step_times(_jobs(space, machine, stack, offloaded), work, parameters)


def _shares(space: Space) -> tuple[list[TrainingJob], Integers]:
    """One job of each set of layouts that differ only beyond their micro-batch, and of each layout the place of its."""
    first, index = distinct(
        space.tensor,
        space.context,
        space.expert,
        space.expert_tensor,
        space.micro_batch,
        space.recompute,
        space.sequence_parallel.astype(np.int64),
    )
    return [space.job(int(row)) for row in first], index.astype(np.int64)  # of which numpy looks up faster


def _work(jobs: Sequence[TrainingJob], machine: Machine, stack: Stack, parameters: Parameters) -> MicroBatchTimes:
    """Times of each job's micro-batch; all run the same kernels."""
    placed = (jobs[0], machine, stack)
    runners, _ = runners_of([placed], [parameters.measured])
    table = row_table([device_rows(share_of(job)) for job in jobs], [expert_sizes(job) for job in jobs])
    times = row_times(table, runners, np.zeros(len(jobs), dtype=np.int64))
    paces = (np.repeat(each, len(jobs)) for each in paces_of([placed]))
    return micro_batch_times(share_times(table, times, *paces), parameters)


def _jobs(space: Space, machine: Machine, stack: Stack, offloaded: Floats) -> Jobs:
    """The numbers of each layout; those of the model and the machine are the same for all."""
    count = len(space)
    one = jobs_of([(space.job(0), machine, stack)])
    context = space.context.astype(float)
    two_chunks = with_trait(space.schedule, lambda traits: traits.two_chunks)
    changing: dict[str, Floats] = {
        "stages": space.pipeline.astype(float),
        "chunks": np.where(two_chunks, 2, space.virtual).astype(float),
        "schedule": space.schedule.astype(float),
        "offloaded_bytes": offloaded,
        "micro_batches": space.base.global_batch / (space.micro_batch * space.data),
        "tensor": space.tensor.astype(float),
        "context": context,
        "expert": space.expert.astype(float),
        "expert_tensor": space.expert_tensor.astype(float),
        "data": space.data.astype(float),
        "zero_stage": space.zero_stage.astype(float),
        "shards": space.shard_ranks.astype(float),
        "devices": (space.tensor * space.context * space.pipeline * space.data).astype(float),
        "tokens": space.micro_batch * space.base.seq_len / context,
    }
    same = {name: np.repeat(getattr(one, name), count) for name in NUMBERS if name not in changing}
    return Jobs(
        links=one.links,
        **changing,
        **same,
        sequence_parallel=space.sequence_parallel & (space.tensor > 1) & tokens_split(space.base.model),
        overlap=space.overlap,
        full_recompute=space.recompute == RECOMPUTE.index("full"),
        host_update=np.repeat(one.host_update, count),
        host_weights=np.repeat(one.host_weights, count),
        offload_each_micro_batch=np.repeat(one.offload_each_micro_batch, count),
        buckets=np.repeat(one.buckets, count),
        expert_overlap=np.repeat(one.expert_overlap, count),
        async_tensor_parallel=np.repeat(one.async_tensor_parallel, count),
        prefetch=np.repeat(one.prefetch, count),
    )
