"""What does a device hold beside a job's tensors? What the allocator can't use, and what libraries take."""

from __future__ import annotations

from hwprof.specs.job.switches import Framework

GIB = 2**30

FRAGMENTATION: dict[Framework, float] = {
    "torch": 0.04,
    "megatron-core": 0.04,
    "megatron-deepspeed": 0.14,
    "deepspeed": 0.04,
    "internevo": 0.14,
}
"""Reserved by torch's caching allocator beyond what tensors take at their peak, as a share of the latter.

Megatron-Core: 34 runs on B200 that print both (SimuMax, docs/b200/b200_release_v1.2_summary.json: reserved over
allocated is 1.02 to 1.08, median 1.04). Megatron-DeepSpeed on torch 1.8 to 1.10, which has no expandable segments:
fitted to 57 runs on A100 80 GB (BigScience, train/tr11-176B-ml/chronicles-prequel.md) together with one constant, the
libraries' memory.
"""

CONTEXT_BYTES = 0.5 * GIB
"""CUDA context and cuBLAS workspaces."""

COMMUNICATOR_BYTES = 2.3 * GIB
"""NCCL's buffers for the groups of a layout: the constant of those 57 runs, less the context."""


def allocator_bytes(allocated_bytes: float, framework: Framework) -> float:
    """What the allocator reserves beyond tensors of so many bytes at their peak."""
    return allocated_bytes * FRAGMENTATION[framework]


def libraries_bytes(devices: int) -> float:
    """What ``nvidia-smi`` shows beyond the allocator's: an estimate."""
    return CONTEXT_BYTES + (COMMUNICATOR_BYTES if devices > 1 else 0.0)
