"""What is a parallel layout? Degrees, ZeRO stage, micro-batch and recompute, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.plan.machine import Machine
from hwprof.specs.model import ModelSpec
from hwprof.specs.run import Recompute, RunSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Degrees:
    """How the devices are divided. Tensor ranks are neighbours, then data ranks, then pipeline stages."""

    data_parallel: int
    tensor_parallel: int
    pipeline_parallel: int

    @property
    def devices(self) -> int:
        """The product of the degrees."""
        return self.data_parallel * self.tensor_parallel * self.pipeline_parallel


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way to run a step: every device belongs to one tensor, one data and one pipeline group.

    Attributes:
        zero_stage: 0 replicates everything over the data ranks; 1 shards optimizer state, 2 gradients too, 3 weights
            too (Rajbhandari et al. 2020).
        gradient_accumulation: micro-batches of each data rank in a step.
    """

    degrees: Degrees
    zero_stage: int
    micro_batch: int
    gradient_accumulation: int
    recompute: Recompute


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is to be laid out on what.

    Attributes:
        sequences: sequences of a global batch.
        margin: share of each device's memory to be kept free.
    """

    spec: ModelSpec
    settings: RunSettings
    machine: Machine
    sequences: int
    margin: float

    @property
    def usable_bytes(self) -> float:
        """Memory of a device that a layout may fill."""
        return self.machine.capacity_bytes * (1 - self.margin)

    def settings_of(self, layout: Layout) -> RunSettings:
        """The settings of one rank under a layout."""
        return self.settings.model_copy(
            update={
                "micro_batch": layout.micro_batch,
                "gradient_accumulation": layout.gradient_accumulation,
                "recompute": layout.recompute,
            }
        )
