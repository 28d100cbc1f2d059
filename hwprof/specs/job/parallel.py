"""How is a training step divided over devices? The degrees of a layout, the schedule, what is sharded."""

from __future__ import annotations

import math
from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from hwprof.specs.frozen import Record
from hwprof.specs.job.schedules import TRAITS, Schedule
from hwprof.specs.model.parts import PositiveInt

ContextKind = Literal["ring", "all-gather", "ulysses"]
CONTEXT_KINDS: tuple[ContextKind, ...] = get_args(ContextKind)


class ParallelLayout(Record):
    """The degrees of a parallel layout. A device belongs to one group of each kind.

    Neighbouring devices are tensor ranks, then context ranks, then data ranks, then pipeline stages (Megatron-LM's
    order ``tp-cp-dp-pp``). Experts are spread over tensor, context and data ranks of one stage.

    Attributes:
        data_parallel: replicas of the model that see different sequences; context ranks are not counted in.
        tensor_parallel: devices that share each layer's matrices (Shoeybi et al. 2019).
        pipeline_parallel: stages (Narayanan et al. 2021).
        virtual_stages: model chunks a device holds in the interleaved schedule.
        context_parallel: devices that share the tokens of each sequence.
        expert_parallel: devices over which the experts of a layer are spread.
        expert_tensor: devices that share the matrices of one expert; None = as many as share the other matrices, where
            data and context ranks are enough to spread the experts over (the default of Megatron-Core), otherwise 1.
        zero_stage: 0 replicates everything over data and context ranks; 1 shards optimizer state, 2 gradients too, 3
            weights too (Rajbhandari et al. 2020; 3 is fully sharded data parallelism).
        shard_ranks: ranks over which ZeRO shards, where it is fewer than all data and context ranks (hybrid sharding).
        sequence_parallel: norms and residuals between tensor-parallel parts are split over the sequence (Korthikanti
            et al. 2022); without effect where ``tensor_parallel`` is 1.
        schedule: order of the micro-batches in the pipeline.
        context_kind: how attention sees the tokens of other context ranks. Keys and values pass round a ring beside it
            (Liu et al. 2023), are gathered before it (Llama Team 2024, section 3.3.2), or all ranks change from tokens
            to heads and back (Jacobs et al. 2023, DeepSpeed-Ulysses).
        overlap: whether traffic of data and tensor ranks may run beside compute, as far as the software can.
    """

    data_parallel: PositiveInt = 1
    tensor_parallel: PositiveInt = 1
    pipeline_parallel: PositiveInt = 1
    virtual_stages: PositiveInt = 1
    context_parallel: PositiveInt = 1
    expert_parallel: PositiveInt = 1
    expert_tensor: PositiveInt | None = None
    zero_stage: Literal[0, 1, 2, 3] = 0
    shard_ranks: PositiveInt | None = None
    sequence_parallel: bool = True
    schedule: Schedule = Field(default="1f1b")
    context_kind: ContextKind = "ring"
    overlap: bool = True

    @property
    def devices(self) -> int:
        """The product of the degrees; expert ranks are among the others."""
        return self.data_parallel * self.tensor_parallel * self.pipeline_parallel * self.context_parallel

    @property
    def replicas(self) -> int:
        """Ranks that hold the same weights: data and context ranks."""
        return self.data_parallel * self.context_parallel

    @property
    def shards(self) -> int:
        """Ranks over which ZeRO divides what it divides."""
        return self.shard_ranks or self.replicas

    @property
    def expert_tensor_parallel(self) -> int:
        """Devices that share the matrices of one expert: ``expert_tensor``, or what it is where nothing is said."""
        usual = self.tensor_parallel if self.replicas % self.expert_parallel == 0 else 1
        return self.expert_tensor or usual

    @property
    def fewest_data_ranks(self) -> int:
        """A count of data ranks that leaves each device the same experts and parts of them, whatever their number."""
        if self.expert_tensor is None and self.replicas % self.expert_parallel == 0:
            return self.expert_parallel
        shards = self.expert_parallel * (self.expert_tensor or 1)
        return shards // math.gcd(shards, self.context_parallel * self.tensor_parallel)

    @property
    def chunks(self) -> int:
        """Model chunks that each device holds."""
        return 2 if TRAITS[self.schedule].two_chunks else self.virtual_stages

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.virtual_stages > 1 and not TRAITS[self.schedule].virtual:
            raise ValueError(f"virtual_stages = {self.virtual_stages} needs the interleaved schedule")
        if self.virtual_stages > 1 and self.pipeline_parallel == 1:
            raise ValueError(f"virtual_stages = {self.virtual_stages}, but there is one pipeline stage")
        if self.shard_ranks is not None and self.replicas % self.shard_ranks:
            raise ValueError(f"shard_ranks = {self.shard_ranks} does not divide {self.replicas} data and context ranks")
        ranks = self.replicas * self.tensor_parallel
        if ranks % self.expert_parallel:
            raise ValueError(
                f"expert_parallel = {self.expert_parallel} does not divide {ranks} tensor, context and data ranks"
            )
        if ranks % (self.expert_parallel * self.expert_tensor_parallel):
            raise ValueError(
                f"expert_tensor = {self.expert_tensor} x expert_parallel = {self.expert_parallel} does not divide "
                f"{ranks} tensor, context and data ranks"
            )
        return self
