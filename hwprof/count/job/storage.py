"""How wide are weights, gradients and optimizer state, and what does the training framework keep beside them?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hwprof.count.ops.precision import Precision
from hwprof.specs.job.step import TrainingJob

Framework = Literal["torch", "megatron-core", "megatron-deepspeed", "internevo"]
"""Whose way of keeping gradients is meant: torch's own loop with DDP or FSDP, Megatron-Core with Transformer Engine,
Megatron-DeepSpeed (ZeRO stage 1, BF16Optimizer), InternEvo (narrow gradients, made fp32 for torch's AdamW)."""

DEEPSPEED_BUCKET_ELEMENTS = 5e8
"""DeepSpeed's default for ``reduce_bucket_size`` and ``allgather_bucket_size``."""

_WIDENING = frozenset({"megatron-deepspeed", "internevo"})
"""Frameworks that widen narrow gradients to fp32 for the optimizer."""

_WIDE_DTYPES = frozenset({"fp32", "tf32"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Bytes of one element, and what is kept beside it.

    Attributes:
        precision: of activations and products.
        weight_bytes: of a weight.
        gradient_bytes: of a gradient between micro-batches.
        fresh_bytes: of a gradient as a backward product writes it.
        second_gradient_bytes: of a narrow gradient kept beside the accumulated one.
        master_bytes: of the optimizer's own fp32 copy of a weight.
        moment_bytes: of a moment.
        gathered_bytes: of a weight that ZeRO stage 3 gathers for use.
        lasting_gradients: gradients have their place throughout the step; else they come and go with backward.
        owned_gradient_bytes: of the fp32 gradient of the weights that a rank updates, where all gradients are narrow.
        bucket_elements: of each of two buckets in the gradients' format, one to reduce and one to gather.
        placeholders: products add to the gradients directly, and autograd is handed an empty tensor for each shape of
            weight in a layer, which stays (Transformer Engine's ``get_dummy_wgrad``).
        framework: whose way this is.
    """

    precision: Precision
    weight_bytes: float
    gradient_bytes: float
    fresh_bytes: float
    second_gradient_bytes: float = 0.0
    master_bytes: float = 0.0
    moment_bytes: float = 4.0
    gathered_bytes: float
    lasting_gradients: bool = False
    owned_gradient_bytes: float = 0.0
    bucket_elements: float = 0.0
    placeholders: bool = False
    framework: Framework = "torch"


def run_storage(precision: Precision) -> Storage:
    """Of hwprof's own training loop: fp32, with narrow copies under autocast."""
    return Storage(
        precision=precision, weight_bytes=4, gradient_bytes=4, fresh_bytes=4, gathered_bytes=precision.compute_bytes
    )


def job_storage(job: TrainingJob, framework: Framework | None = None) -> Storage:
    """Of a job; the framework is Megatron-Core for ``mixed`` storage and torch for others unless it is said."""
    framework = framework or ("megatron-core" if job.storage == "mixed" else "torch")
    if job.storage == "autocast" or job.dtype in _WIDE_DTYPES:
        precision = Precision(name="bf16", compute_bytes=4 if job.dtype in _WIDE_DTYPES else 2)
        gradient = job.gradient_bytes or 4
        return Storage(
            precision=precision,
            weight_bytes=4,
            gradient_bytes=gradient,
            fresh_bytes=4,
            gathered_bytes=precision.compute_bytes,
            framework=framework,
        )
    precision = Precision(name="bf16", weight_bytes=2, compute_bytes=2, residual_bytes=2)
    if job.storage == "pure":
        return Storage(
            precision=precision,
            weight_bytes=2,
            gradient_bytes=job.gradient_bytes or 2,
            fresh_bytes=2,
            moment_bytes=2,
            gathered_bytes=2,
            framework=framework,
        )
    gradient, deepspeed = job.gradient_bytes or 4, framework == "megatron-deepspeed"
    return Storage(
        precision=precision,
        weight_bytes=2,
        gradient_bytes=gradient,
        fresh_bytes=2,
        second_gradient_bytes=2 if deepspeed and gradient == 4 else 0,
        owned_gradient_bytes=4 if framework in _WIDENING and gradient == 2 else 0,
        bucket_elements=DEEPSPEED_BUCKET_ELEMENTS if deepspeed else 0,
        master_bytes=4,
        gathered_bytes=2,
        lasting_gradients=True,
        placeholders=framework == "megatron-core",
        framework=framework,
    )
