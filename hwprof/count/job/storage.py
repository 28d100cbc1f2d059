"""How wide are weights, gradients and optimizer state, and what does the training framework keep beside them?"""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.count.ops.lora import LIBRARIES
from hwprof.count.ops.precision import Precision
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.job.switches import Framework
from hwprof.specs.job.switches import Storage as StorageWay

DEEPSPEED_BUCKET_ELEMENTS = 5e8
"""DeepSpeed's default for ``reduce_bucket_size`` and ``allgather_bucket_size``."""

DEEPSPEED_LIVE_ELEMENTS = 1e9
"""Its default for ``stage3_max_live_parameters``: gathered weights stay up to so many."""

_DEEPSPEED = frozenset({"megatron-deepspeed", "deepspeed"})

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
        fresh_bytes: of a gradient as a backward product writes it, and as it waits for its reduction where weights are
            gathered.
        second_gradient_bytes: of a narrow gradient kept beside the accumulated one.
        master_bytes: of the optimizer's own fp32 copy of a weight.
        moment_bytes: of a moment.
        reduced_bytes: of a gradient on its way to the rank that owns it while the layer before works; XLA schedules
            that of a layer among its own products.
        gathered_bytes: of a weight that ZeRO stage 3 gathers for use.
        narrows_in_use: weights are copied to the narrow format where they are used, as if they were gathered; else such
            copies last from forward to backward.
        lasting_gradients: gradients have their place throughout the step; else they come and go with backward.
        owned_gradient_bytes: of the fp32 gradient of the weights that a rank updates, where all gradients are narrow.
        bucket_elements: of each of two buckets in the gradients' format, one to reduce and one to gather.
        live_elements: gathered weights that may stay after use.
        placeholders: products add to the gradients directly, and autograd is handed an empty tensor for each shape of
            weight in a layer, which stays (Transformer Engine's ``get_dummy_wgrad``).
        framework: whose way this is.
    """

    precision: Precision
    weight_bytes: float
    gradient_bytes: float
    fresh_bytes: float
    second_gradient_bytes: float
    master_bytes: float
    moment_bytes: float
    reduced_bytes: float
    gathered_bytes: float
    narrows_in_use: bool
    lasting_gradients: bool
    owned_gradient_bytes: float
    bucket_elements: float
    live_elements: float
    placeholders: bool
    framework: Framework


def run_storage(precision: Precision) -> Storage:
    """Of hwprof's own training loop: fp32, with narrow copies under autocast."""
    return _storage(precision, "autocast", weight_bytes=precision.weight_bytes, gradient_bytes=4, framework="torch")


def job_storage(job: TrainingJob) -> Storage:
    """Of a job. Adapters are stored as ``storage`` says; the frozen model beside them is narrow."""
    wide = job.dtype in _WIDE_DTYPES
    way: StorageWay = "autocast" if wide else job.storage
    width, stored_bytes = 4 if wide else 2, 4 if way in {"autocast", "narrowed"} else 2
    rest_bytes = 4 if wide or (job.lora and job.lora.quantized and LIBRARIES[job.adapter_library].wide_rest) else 2
    frozen = Precision(name="bf16", weight_bytes=width, compute_bytes=width, residual_bytes=rest_bytes)
    residual_bytes = 4 if way == "autocast" else 2
    whole = Precision(name="bf16", weight_bytes=stored_bytes, compute_bytes=width, residual_bytes=residual_bytes)
    return _storage(
        frozen if job.lora else whole,
        way,
        weight_bytes=stored_bytes,
        gradient_bytes=job.gradient_bytes or (2 if way == "pure" else 4),
        framework=job.framework,
    )


def _storage(
    precision: Precision, way: StorageWay, *, weight_bytes: int, gradient_bytes: int, framework: Framework
) -> Storage:
    """Only ``mixed`` storage differs from framework to framework."""
    mixed = way == "mixed"
    deepspeed = mixed and framework == "megatron-deepspeed"
    widened = mixed and framework in _WIDENING and gradient_bytes == 2
    return Storage(
        precision=precision,
        weight_bytes=weight_bytes,
        gradient_bytes=gradient_bytes,
        fresh_bytes=precision.compute_bytes if way == "narrowed" else weight_bytes,
        second_gradient_bytes=2 if deepspeed and gradient_bytes == 4 else 0,
        master_bytes=4 if mixed else 0,
        moment_bytes=2 if way == "pure" else 4,
        reduced_bytes=0 if framework == "xla" else gradient_bytes,
        gathered_bytes=precision.compute_bytes,
        narrows_in_use=way == "narrowed" and precision.weight_bytes != precision.compute_bytes,
        lasting_gradients=mixed,
        owned_gradient_bytes=4 if widened else 0,
        bucket_elements=DEEPSPEED_BUCKET_ELEMENTS if mixed and framework in _DEEPSPEED else 0,
        live_elements=DEEPSPEED_LIVE_ELEMENTS if framework == "deepspeed" else 0,
        placeholders=mixed and framework == "megatron-core",
        framework=framework,
    )
