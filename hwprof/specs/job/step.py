"""What is one training step, wherever it runs? A model, a batch, number formats, switches and a parallel layout."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from hwprof.specs.frozen import Record
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.settings import OptimizerImplementation, Recompute
from hwprof.specs.job.switches import (
    KEEPING,
    AdapterLibrary,
    Attention,
    Fp8Recipe,
    Framework,
    JobDtype,
    JobOptimizer,
    LoraTargets,
    Loss,
    Offload,
    OffloadPart,
    OffloadTarget,
    Selective,
    Storage,
)
from hwprof.specs.model.parts import PositiveInt
from hwprof.specs.model.spec import ModelSpec

NARROW_RECIPES: dict[str, tuple[Fp8Recipe, ...]] = {
    "fp8": ("tensorwise", "delayed", "rowwise", "blockwise", "mxfp8"),
    "fp4": ("nvfp4",),
}
"""Recipes of each format below 16 bits, the one that is meant where none is said first."""


class LoraSpec(Record):
    """Low-rank adaptation (Hu et al. 2021): the model is frozen, narrow pairs of matrices beside some are trained.

    Attributes:
        rank: width between the two matrices of a pair.
        targets: which linear layers get a pair.
        quantized: the frozen matrices of layers are stored in 4 bits (QLoRA, Dettmers et al. 2023).
    """

    rank: PositiveInt
    targets: LoraTargets = "all"
    quantized: bool = False


def _keeper(filled: dict[str, Any]) -> Framework:
    """Whose way goes with a storage where it is not said."""
    return "megatron-core" if filled.get("storage") == "mixed" else "torch"


def _loss(filled: dict[str, Any]) -> Loss:
    """Transformer Engine's loss goes with Megatron-Core's fused kernels."""
    return "fused" if filled.get("framework") == "megatron-core" and filled.get("fused") else "plain"


class TrainingJob(Record):
    """One optimizer step of a training, and how its software runs it.

    Attributes:
        model: the model.
        seq_len: tokens of a sequence.
        global_batch: sequences of a step over all devices.
        micro_batch: sequences that one replica works on at a time.
        dtype: format of the linear layers' operands.
        storage: formats of weights, gradients and optimizer state.
        framework: whose way of keeping them; where it is not said Megatron-Core's for ``mixed``, torch's for others.
        gradient_bytes: element width of gradients where it is not what ``storage`` says (bf16 gradient reduction).
        optimizer: the optimizer.
        optimizer_implementation: a loop over tensors, over lists of them, or one kernel for all.
        optimizer_paged: its state lives in pages that the driver moves between device and host (bitsandbytes).
        update_in_backward: each weight is updated as soon as its gradient exists, which is then freed.
        recompute: what is computed again in the backward pass.
        recompute_layers: in how many of the layers (every second one: half of them); None = in all.
        selective: what ``selective`` recompute runs again.
        attention: the kernel; only ``materialised`` writes scores to memory.
        wide_norms: RMS norms run in steps in fp32, unless kernels are fused (transformers, torchtune, litgpt).
        repeats_kv: keys and values are copied to all query heads before attention.
        compiled: a compiler makes the kernels (torch.compile, XLA).
        fused: chains of elementwise operations and norms are single kernels, a compiler's or written by hand.
        cuda_graphs: the host launches whole graphs of kernels.
        loss: how cross-entropy runs.
        fp8_recipe: what shares a scale where ``dtype`` is below 16 bits; None = the usual one of the format.
        fp8_saved: products keep their narrow operands for backward, not the 16-bit ones.
        fp8_all_gather: sharded weights are gathered in the narrow format; with ``mixed`` storage it is the only one
            besides the optimizer's (Megatron-Core's ``fp8_param_gather``).
        async_tensor_parallel: products run in pieces beside the tensor ranks' gathers and scatters.
        expert_overlap: tokens travel to and from experts beside the compute of another micro-batch.
        prefetch_layers: layers whose sharded weights are gathered ahead of use.
        offload: what lives outside the device's memory.
        offload_layers: of so many layers the activations are offloaded; None = of all.
        offload_to: where: in host memory, or through it on a drive (ZeRO-Infinity, Rajbhandari et al. 2021).
        offload_each_micro_batch: with the optimizer on the host, gradients go there after every micro-batch
            (ZeRO-Offload, Ren et al. 2021; FSDP2), else once a step.
        pipeline_outputs: the last stage holds the logits of all micro-batches until the step ends
            (torch.distributed.pipelining, unless it is told ``return_outputs=False``).
        lora: low-rank adaptation; None = everything is trained.
        adapter_library: whose way of quantizing and adapting.
        expert_skew: tokens of the busiest expert rank over the mean; all wait for it. 1 = even routing.
        layout: the parallel layout.
    """

    model: ModelSpec
    seq_len: PositiveInt
    global_batch: PositiveInt
    micro_batch: PositiveInt = 1
    dtype: JobDtype = "bf16"
    storage: Storage = "mixed"
    framework: Framework = Field(default_factory=_keeper)
    gradient_bytes: Literal[2, 4] | None = None
    optimizer: JobOptimizer = "adamw"
    optimizer_implementation: OptimizerImplementation = "fused"
    optimizer_paged: bool = False
    update_in_backward: bool = False
    recompute: Recompute = "none"
    recompute_layers: PositiveInt | None = None
    selective: tuple[Selective, ...] = ("core_attn",)
    attention: Attention = "flash"
    wide_norms: bool = False
    repeats_kv: bool = False
    compiled: bool = False
    fused: bool = True
    cuda_graphs: bool = False
    loss: Loss = Field(default_factory=_loss)
    fp8_recipe: Fp8Recipe | None = None
    fp8_saved: bool = True
    fp8_all_gather: bool = False
    async_tensor_parallel: bool = False
    expert_overlap: bool = False
    prefetch_layers: int = Field(default=1, ge=0)
    offload: Offload = "none"
    offload_layers: PositiveInt | None = None
    offload_to: OffloadTarget = "host"
    offload_each_micro_batch: bool = False
    pipeline_outputs: bool = False
    lora: LoraSpec | None = None
    adapter_library: AdapterLibrary = "peft"
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

    @property
    def flash(self) -> bool:
        """Whether attention keeps no scores."""
        return self.attention != "materialised"

    @property
    def narrow_recipe(self) -> Fp8Recipe | None:
        """What shares a scale; None where products run in 16 bits or more."""
        known = NARROW_RECIPES.get(self.dtype)
        return (self.fp8_recipe or known[0]) if known else None

    def offloads(self, part: OffloadPart) -> bool:
        """Whether a part lives outside the device's memory."""
        return part in self.offload.split("+")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        share = self.micro_batch * self.layout.data_parallel
        ranks, known = self.layout.context_parallel, NARROW_RECIPES.get(self.dtype, ())
        wrong = {
            f"global_batch = {self.global_batch} does not divide by micro_batch x data_parallel = {share}; "
            f"{_nearest(self.global_batch, share)}": self.global_batch % share != 0,
            f"seq_len = {self.seq_len} does not divide by context_parallel = {ranks}": self.seq_len % ranks != 0,
            f"expert_skew = {self.expert_skew:g}, but one of {self.layout.expert_parallel} expert ranks has at most "
            f"{self.layout.expert_parallel} times the mean": self.expert_skew > self.layout.expert_parallel,
            "compiled kernels are fused: fused = False contradicts compiled = True": self.compiled and not self.fused,
            f"fp8_recipe = {self.fp8_recipe} does not go with dtype = {self.dtype}": (
                self.fp8_recipe is not None and self.fp8_recipe not in known
            ),
            f"selective = {', '.join(self.selective)}: {', '.join(sorted(KEEPING))} say what is kept and stand alone": (
                not self.selective or (len(self.selective) > 1 and not KEEPING.isdisjoint(self.selective))
            ),
        }
        for fact, holds in wrong.items():
            if holds:
                raise ValueError(fact)
        return self


def _nearest(number: int, divisor: int) -> str:
    """The multiples on both sides, in words."""
    below = number // divisor * divisor
    return f"the nearest that do: {below} and {below + divisor}" if below else f"the least that does: {divisor}"
