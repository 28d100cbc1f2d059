"""How much memory does an optimizer keep, and how much more does it take while it steps?"""

from __future__ import annotations

import math

from hwprof.count.ops.parameter_tensor import ParameterTensor
from hwprof.specs.job.settings import OptimizerImplementation
from hwprof.specs.job.switches import JobOptimizer

_COUNT_BYTES = 4
"""The step count that every optimizer with moments but SGD keeps for each tensor, fp32."""

_WIDE_BYTES = 4
"""Of what is fp32 whatever the storage."""

_MOMENTS: dict[JobOptimizer, int] = {"adamw": 2, "adam": 2, "adamw-8bit": 2, "sgd": 1, "lion": 1}
"""State arrays of the weights' size: two moments (Kingma & Ba 2015), one momentum buffer (Lion: Chen et al. 2023)."""

_LOOP_TEMPORARIES: dict[JobOptimizer, int] = {"adamw": 2, "adam": 2, "sgd": 1, "adafactor": 1, "lion": 1, "muon": 2}
"""Arrays of one tensor's size that a loop over tensors holds at once.

Adam: the root of the second moment and its quotient. SGD: the gradient with weight decay. Adafactor: the update. Lion:
the interpolated momentum. Muon: four bf16 matrices of the Newton-Schulz iteration (Jordan et al. 2024).
"""

QUANTIZED_BYTES = 1 + 4 / 256
"""A moment in 8 bits, with one fp32 scale a block of 256 (Dettmers et al. 2022, as bitsandbytes stores it)."""

QUANTIZED_FROM = 4096
"""bitsandbytes leaves tensors with fewer elements in fp32 (``min_8bit_size``)."""


def state_bytes(
    tensor: ParameterTensor,
    own: float,
    optimizer: JobOptimizer,
    *,
    moment_bytes: float = 4.0,
    master_bytes: float = 0.0,
) -> float:
    """Optimizer state of the ``own`` elements that a device holds of one tensor, from the second step on.

    Adafactor keeps one row and one column of a matrix (Shazeer & Stern 2018), in fp32. Muon keeps momentum of the
    matrices of layers, and is AdamW for everything else.
    """
    matrix = len(tensor.shape) > 1
    if optimizer == "adafactor":
        kept = own / tensor.shape[-1] + own / tensor.shape[-2] if matrix else own
        return own * master_bytes + kept * _WIDE_BYTES + _COUNT_BYTES
    if optimizer == "muon":
        orthogonal = matrix and "layers.*" in tensor.label
        moments = 1 if orthogonal else 2
    else:
        moments = _MOMENTS[optimizer]
    if optimizer == "adamw-8bit":
        moment_bytes = QUANTIZED_BYTES if math.prod(tensor.shape) >= QUANTIZED_FROM else _WIDE_BYTES
    return own * (master_bytes + moments * moment_bytes) + (0 if optimizer == "sgd" else _COUNT_BYTES)


def temporary_bytes(
    optimizer: JobOptimizer, implementation: OptimizerImplementation, *, moment_bytes: float = 4.0
) -> tuple[float, float]:
    """What the step allocates and frees, for each element: of the largest tensor, and of all tensors together.

    Nothing when fused or in 8 bits, one array of all weights' size with ``foreach``; arrays are as wide as moments.
    """
    if implementation == "fused" or optimizer == "adamw-8bit":
        return 0.0, 0.0
    if implementation == "foreach" and optimizer != "muon":
        return 0.0, moment_bytes
    return _LOOP_TEMPORARIES[optimizer] * moment_bytes, 0.0
