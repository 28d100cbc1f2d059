"""What can a run and a probe be asked to do? Every option with its type, its range, its default and its meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, FiniteFloat

from hwprof.specs.frozen import Record, default_of
from hwprof.specs.job.layout_text import PlainSchedule
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.settings import Dtype, OptimizerImplementation, OptimizerName, Recompute, RunSettings
from hwprof.specs.model.parts import Count, PositiveInt

Timeout = Annotated[FiniteFloat, Field(ge=10)]
TIMEOUT_S = 300.0
"""Far longer than any stage of a run or a probe stands still that is not stuck."""


class Request(Record):
    """What is asked for, by keyword; on the command line ``--micro-batch`` is ``micro_batch``."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    def as_call(self, function: str) -> str:
        """The call of a function that asks for this, without what was left at its default."""
        asked = {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}
        shown = (f"{name}={str(value) if isinstance(value, Path) else value!r}" for name, value in asked.items())
        return f"{function}({', '.join(shown)})"


class RunRequest(Request):
    """The options of a run."""

    model: str = "tiny"
    """Catalogue name, alias or TOML file."""
    device: str = "auto"
    """auto, cpu, cuda (NVIDIA, AMD), xpu, mps or npu; cuda:N is one of several."""
    dtype: Dtype | None = None
    """Precision; default bf16 on GPUs that have it, else fp32."""
    micro_batch: PositiveInt | None = None
    """Sequences a micro-step; default fits; with --inference those that are answered together, default 1."""
    seq_len: Annotated[int, Field(ge=2)] | None = None
    """Tokens a sequence; default 256 on a CPU, 2048 on a GPU."""
    inference: bool = False
    """Generate instead of training: read prompts, then one token after the other against a cache."""
    new_tokens: PositiveInt | None = None
    """With --inference: tokens for each prompt, whose length is the sequence's; default 32."""
    gradient_accumulation: PositiveInt | None = None
    """Micro-batches a step; default 1, in a pipeline 2 for each stage."""
    optimizer: OptimizerName = default_of(RunSettings, "optimizer")
    """What changes the weights."""
    optimizer_implementation: OptimizerImplementation | None = None
    """Default: foreach on a GPU, fused where its temporaries would fill the memory; for-loop on a CPU."""
    learning_rate: Annotated[FiniteFloat, Field(gt=0)] = default_of(RunSettings, "learning_rate")
    """Of the optimizer."""
    clip_norm: Annotated[FiniteFloat, Field(ge=0)] = default_of(RunSettings, "clip_norm")
    """0 turns clipping off."""
    recompute: Recompute = default_of(RunSettings, "recompute")
    """What backward computes again instead of keeping it."""
    compile: bool = default_of(RunSettings, "compile")
    """torch.compile the model."""
    data: Path | str | None = None
    """Text file, or token file (.bin, .npy); default: a novel."""
    tokenizer: str = default_of(RunSettings, "tokenizer")
    """bytes, bpe:<vocabulary> or a tokenizer.json."""
    workers: Count = default_of(RunSettings, "workers")
    """DataLoader workers."""
    warmup_steps: Count = default_of(RunSettings, "warmup_steps")
    """Steps before the timed ones."""
    steps: PositiveInt = default_of(RunSettings, "steps")
    """Timed steps at most."""
    time_budget_s: Annotated[FiniteFloat, Field(ge=1)] = 60.0
    """Seconds of timed steps at most."""
    profiled_steps: PositiveInt = default_of(RunSettings, "profiled_steps")
    """Steps that the profiler records."""
    eval_batches: Count = default_of(RunSettings, "eval_batches")
    """Batches of the evaluation after the last step."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = default_of(RunSettings, "seed")
    """Of weights and data."""
    parallel: str | None = None
    """Several ranks (torchrun ... -m hwprof run): ddp, zero2 or fsdp; tp<N>, sp; pp<N>, vp<N>; joined by dashes."""
    schedule: PlainSchedule = default_of(ParallelLayout, "schedule")
    """Of the pipeline."""
    timeout_s: Timeout = TIMEOUT_S
    """Several ranks: seconds without progress after which the run ends and says which rank hangs."""
    full_probes: bool = False
    """Probe longer, more shapes and sizes."""
    cluster: str | None = None
    """Also plan layouts for it: 8xh100-sxm, a cluster name or TOML file."""
    output: Path | str | None = None
    """Run directory; default under reports/."""


class ProbeRequest(Request):
    """The options of a probe."""

    device: str = "auto"
    """auto, cpu, cuda (NVIDIA, AMD), xpu, mps or npu; cuda:N is one of several."""
    dtypes: tuple[Dtype, ...] = ()
    """Precisions of the products, one or several; default: all that the device has."""
    quick: bool = False
    """About 15 s instead of about 60 s on two CPU cores."""
    emulations: tuple[str, ...] = ()
    """Folders that `hwprof emulate --output` left, one or several: also time each kind of call of their scripts."""
    output: Path | str | None = None
    """The calibration file; default: hwprof-calibration-<device>.json here."""
    timeout_s: Timeout = TIMEOUT_S
    """Several ranks: seconds without progress after which the probe ends and says which rank hangs."""
