"""What does a device hold beside a job's tensors? What the allocator can't use, and what libraries take."""

from __future__ import annotations

from hwprof.count.ops.elementwise import Amount, added, where
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.switches import Framework

GIB = 2**30
MIB = 2**20

FRAGMENTATION: dict[Framework, float] = {
    "torch": 0.04,
    "megatron-core": 0.04,
    "megatron-deepspeed": 0.13,
    "deepspeed": 0.04,
    "internevo": 0.13,
    "xla": 0.0,
}
"""Reserved by torch's caching allocator beyond what its pools have given out, as a share of the latter.

Megatron-Core: 34 runs on B200 that print both (SimuMax, docs/b200/b200_release_v1.2_summary.json: reserved over
allocated is 1.02 to 1.08, median 1.04); taken for all that run on a torch with expandable segments. Megatron-DeepSpeed
on torch 1.8 to 1.10, which has none: fitted to 57 runs on A100 80 GB (BigScience,
train/tr11-176B-ml/chronicles-prequel.md), the only number here that is fitted. XLA assigns buffers ahead of time."""

CONTEXT_BYTES = 0.5 * GIB
"""CUDA context and cuBLAS workspaces."""

CHANNELS = 24
"""Of a communicator over NVLink (NCCL on A100 and H100: two for each of 12 links)."""

CONNECTIONS = 3
"""From which a rank receives in a channel: one of the ring, two of the tree."""

FIFO_BYTES = 4 * MIB + 120 * 640 * 8 * 8 + 512 * 8 * 16 * 8
"""Of one connection, a queue of 8 steps for each protocol: Simple (``DEFAULT_BUFFER_SIZE``), LL128 (120 words of 8
bytes a thread, 640 threads), LL (8 lines of 16 bytes a thread, 512 threads): src/include/device.h, src/init.cc."""

COMMUNICATOR_BYTES = CHANNELS * CONNECTIONS * FIFO_BYTES
"""Of a communicator in one node: 694 MB; 688 MB were measured on four A100 (github.com/NVIDIA/nccl/issues/964)."""

NODE = 8
"""Devices of a node: an assumption. Over a network the sender's queues are on the device, too (src/transport/net.cc).
Beyond two nodes a communicator does not grow (github.com/NVIDIA/nccl/issues/864): rings and trees have as many
connections at any size, and sends between nodes share one buffer."""


def allocator_bytes(allocated_bytes: float, framework: Framework) -> float:
    """What the allocator reserves beyond pools that have given out so many bytes."""
    return allocated_bytes * FRAGMENTATION[framework]


def layout_libraries_bytes(layout: ParallelLayout, framework: Framework = "torch") -> float:
    """What ``nvidia-smi`` shows of a device of a layout beyond the allocator's: an estimate."""
    return float(
        libraries_bytes(
            framework=framework,
            tensor=layout.tensor_parallel,
            context=layout.context_parallel,
            data=layout.data_parallel,
            stages=layout.pipeline_parallel,
            expert=layout.expert_parallel,
        )
    )


def libraries_bytes(
    *,
    tensor: Amount,
    context: Amount,
    data: Amount,
    stages: Amount,
    expert: Amount,
    framework: Framework = "torch",
) -> Amount:
    """The same from the degrees: CUDA's context, and a communicator for each kind of group that a device is in.

    Groups of tensor, context, data ranks and stages, of expert ranks, and of ranks that hold the same experts. Nothing
    under XLA: a TPU has neither, its runtime's part is off what programs find, and a GPU's lies outside of what XLA
    takes for itself (``XLA_PYTHON_CLIENT_MEM_FRACTION``).
    """
    if framework == "xla":
        return 0.0
    near, replicas = tensor * context, tensor * context * data
    groups = (
        (tensor, tensor),
        (context, near),
        (data, replicas),
        (stages, replicas * stages),
        (expert, expert),
        (where(expert > 1, replicas // expert, 1), replicas),
    )
    return added(CONTEXT_BYTES, *(_communicator_bytes(ranks, reach) for ranks, reach in groups))


def _communicator_bytes(ranks: Amount, reach: Amount) -> Amount:
    """Of a group whose ranks lie within ``reach`` neighbouring devices."""
    return where(ranks > 1, where(reach > NODE, 2, 1), 0) * COMMUNICATOR_BYTES
