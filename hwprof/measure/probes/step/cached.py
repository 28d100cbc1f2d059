"""How long does one new token of each sequence take to look at those that a cache holds?"""

from __future__ import annotations

import torch

from hwprof.measure.probes.attention_check import TOLERANCE, random_normal
from hwprof.measure.probes.matmul import TORCH_DTYPE
from hwprof.measure.probes.sampling import Work
from hwprof.measure.probes.step.check import require_close
from hwprof.specs.job.step_kernels import StepKernel
from hwprof.train.attention import AttentionCore, supports_native_gqa


def cached_attention(device: torch.device, kernel: StepKernel) -> Work:
    """The model's own core on the newest query and a cache that has room for more, once its result was seen right."""
    batch, keys, heads, kv_heads, width = kernel.sizes
    dtype = TORCH_DTYPE[kernel.dtype]
    query = random_normal(device, batch, 1, heads, width).to(dtype)
    key, value = (random_normal(device, batch, keys + 1, kv_heads, width).to(dtype)[:, :keys] for _ in range(2))
    core = AttentionCore(heads // kv_heads, native_gqa=supports_native_gqa(device)).eval()
    _check(kernel, core(query, key, value), (query, key, value))
    return lambda: core(query, key, value)


def _check(kernel: StepKernel, mixed: torch.Tensor, operands: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    """The last head of the last sequence against float64."""
    query, key, value = (one[-1, :, -1].double() for one in operands)
    scores = query @ key.t() / query.shape[1] ** 0.5
    require_close(
        mixed[-1, :, -query.shape[1] :], scores.softmax(1) @ value, str(kernel), tolerance=TOLERANCE[kernel.dtype]
    )
