"""What is one training step asked to do? The settings of a run, and the words that counting and training share."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from hwprof.specs.frozen import Record
from hwprof.specs.job.parallel import ParallelLayout

BoundClass = Literal["compute", "memory", "communication", "transfer", "host", "latency", "unknown"]
Dtype = Literal["fp32", "tf32", "bf16", "fp16"]
Recompute = Literal["none", "selective", "full"]
RECOMPUTE: tuple[Recompute, ...] = get_args(Recompute)
"""From what runs again least to what does most; arrays of many layouts hold an index into this."""
OptimizerName = Literal["adamw", "adam", "sgd", "adafactor"]
OptimizerImplementation = Literal["for-loop", "foreach", "fused"]
PhaseName = Literal[
    "data",
    "host_to_device",
    "prefill",
    "decode",
    "forward",
    "loss",
    "backward",
    "pipeline",
    "clip",
    "optimizer",
    "evaluation",
    "checkpoint",
]
Direction = Literal["forward", "backward", "recompute", "update", "decode"]
"""``decode`` is forward over new tokens, which attend to a cache."""

LayerKind = Literal[
    "attention",
    "ffn",
    "norm",
    "embedding",
    "head",
    "loss",
    "optimizer",
    "clip",
    "residual",
    "communication",
    "data",
    "other",
]


DeviceKind = Literal["cpu", "cuda", "xpu", "mps", "npu"]
"""Torch's words: ``cuda`` are NVIDIA's and AMD's GPUs, ``xpu`` Intel's, ``mps`` Apple's, ``npu`` Ascend's devices."""


class RunSettings(Record):
    """What one training step does, as the user asked for it or by default.

    With ``new_tokens`` a step is no training step: ``micro_batch`` prompts of ``seq_len`` tokens are read, and so many
    tokens are generated for each.
    """

    model: str
    device: DeviceKind
    dtype: Dtype = "fp32"
    micro_batch: int = Field(gt=0)
    seq_len: int = Field(gt=0)
    target_len: int | None = Field(default=None, gt=0)
    gradient_accumulation: int = Field(default=1, gt=0)
    optimizer: OptimizerName = "adamw"
    optimizer_implementation: OptimizerImplementation = "for-loop"
    learning_rate: float = Field(default=1e-3, gt=0)
    clip_norm: float | None = 1.0
    recompute: Recompute = "none"
    compile: bool = False
    data: str = ""
    tokenizer: str = "bytes"
    workers: int = Field(default=1, ge=0)
    warmup_steps: int = Field(default=3, ge=0)
    steps: int = Field(default=20, gt=0)
    profiled_steps: int = Field(default=3, gt=0)
    eval_batches: int = Field(default=2, ge=0)
    new_tokens: int = Field(default=0, ge=0)
    seed: int = 0
    layout: ParallelLayout = Field(default_factory=ParallelLayout)

    @property
    def counted_as(self) -> Literal["cpu", "cuda"]:
        """The kind of device whose kernels are counted: an accelerator's are taken to be those of CUDA."""
        return "cpu" if self.device == "cpu" else "cuda"

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step on one data rank; where text is generated, those that are new."""
        return self.micro_batch * self.gradient_accumulation * (self.new_tokens or self.seq_len)

    @property
    def decode_steps(self) -> int:
        """Passes over new tokens: the prompts' pass gives the first one."""
        return max(self.new_tokens - 1, 0)
