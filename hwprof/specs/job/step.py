"""What is one training step, wherever it runs? A model, a batch, number formats and a parallel layout."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hwprof.specs.frozen import Record
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.settings import Recompute
from hwprof.specs.model.parts import PositiveInt
from hwprof.specs.model.spec import ModelSpec

JobDtype = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "fp4"]
"""What the linear layers multiply in; below 16 bits everything else works in bf16."""

Storage = Literal["autocast", "mixed", "pure"]
"""``autocast``: weights, gradients and optimizer state in fp32, narrow copies for the products (torch.autocast; FSDP
gathers the copies). ``mixed``: narrow weights and activations, gradients accumulated in fp32, fp32 master weights and
moments with the optimizer (Megatron-LM). ``pure``: everything in the narrow format."""

JobOptimizer = Literal["adamw", "adam", "adamw-8bit", "sgd", "adafactor", "lion", "muon"]
Offload = Literal["none", "optimizer", "activations", "weights"]
OffloadTarget = Literal["host", "nvme"]


class LoraSpec(Record):
    """Low-rank adaptation (Hu et al. 2021): the model is frozen, narrow pairs of matrices beside some are trained.

    Attributes:
        rank: width between the two matrices of a pair.
        targets: which linear layers get a pair.
        quantized: the frozen weights are stored in 4 bits (QLoRA, Dettmers et al. 2023).
    """

    rank: PositiveInt
    targets: Literal["attention", "ffn", "all"] = "all"
    quantized: bool = False


class TrainingJob(Record):
    """One optimizer step of a training.

    Attributes:
        model: the model.
        seq_len: tokens of a sequence.
        global_batch: sequences of a step over all devices.
        micro_batch: sequences that one replica works on at a time.
        dtype: format of the linear layers' operands.
        storage: formats of weights, gradients and optimizer state.
        gradient_bytes: element width of gradients where it is not what ``storage`` says (bf16 gradient reduction).
        optimizer: the optimizer.
        recompute: what is computed again in the backward pass.
        recompute_layers: in how many of the layers; None = in all.
        attention: ``flash`` keeps no scores; ``materialised`` writes them to memory.
        fused: chains of elementwise operations and norms are single kernels.
        offload: what lives outside the device's memory.
        offload_to: where: in host memory, or through it on a drive (ZeRO-Infinity, Rajbhandari et al. 2021).
        lora: low-rank adaptation; None = everything is trained.
        expert_skew: tokens of the busiest expert rank over the mean; all wait for it. 1 = even routing.
        layout: the parallel layout.
    """

    model: ModelSpec
    seq_len: PositiveInt
    global_batch: PositiveInt
    micro_batch: PositiveInt = 1
    dtype: JobDtype = "bf16"
    storage: Storage = "mixed"
    gradient_bytes: Literal[2, 4] | None = None
    optimizer: JobOptimizer = "adamw"
    recompute: Recompute = "none"
    recompute_layers: PositiveInt | None = None
    attention: Literal["flash", "materialised"] = "flash"
    fused: bool = True
    offload: Offload = "none"
    offload_to: OffloadTarget = "host"
    lora: LoraSpec | None = None
    expert_skew: float = Field(default=1.0, ge=1.0)
    layout: ParallelLayout = Field(default_factory=ParallelLayout)

    @property
    def micro_batches(self) -> int:
        """Micro-batches of one replica in a step."""
        return self.global_batch // (self.micro_batch * self.layout.data_parallel)

    @property
    def tokens(self) -> int:
        """Tokens of a step over all devices."""
        return self.global_batch * self.seq_len

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        share = self.micro_batch * self.layout.data_parallel
        if self.global_batch % share:
            raise ValueError(
                f"global_batch = {self.global_batch} does not divide by micro_batch x data_parallel = {share}"
            )
        return self
