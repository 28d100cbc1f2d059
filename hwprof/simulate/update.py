"""How long does a device take to update its share of the weights, or the host in its place?"""

from __future__ import annotations

import numpy as np

from hwprof.predict.parameters import Parameters
from hwprof.simulate.numbers import Floats, Jobs, expert_shards, parameters_held

HOST_MEMORY_BYTE_PER_S = 10e9
"""At which the host works on one device's share: about what one core gets, since torchrun starts each rank with one
thread (``OMP_NUM_THREADS=1``). 2.25 B parameters a rank take 10 s (microsoft/DeepSpeed issue 6834), 3.3 B 9.6 s
(THUDM/slime issue 1139); with 64 cores a rank 1.55 B take 2.4 s (DeepSpeed pull request 7474), where cores are starved
1.35 B 22 s (DeepSpeed issue 1635)."""

HOST_GRADIENT_PASSES = 3.0
"""Of each gradient on the host beside the update: its norm, and clipping it, which reads and writes. A weight of the
optimizer's own is read once more, for its copy."""

WIDE_BYTES = 4.0
"""Gradients that are summed on the device cross as fp32 (microsoft/DeepSpeed issue 899)."""

GRADIENT_PASSES_BYTES = 8.0
"""Traffic of each local gradient beside the update: its norm, and setting it to zero."""


def update_s(jobs: Jobs, p: Parameters) -> Floats:
    """The optimizer's passes over what each rank updates, at memory bandwidth."""
    dense, experts = parameters_held(jobs)
    shards = np.where(jobs.zero_stage >= 1, jobs.shards, 1.0)
    spread = np.maximum(shards * jobs.tensor / expert_shards(jobs), 1.0)
    moved = dense * (jobs.update_bytes / shards + GRADIENT_PASSES_BYTES)
    moved = moved + experts * (jobs.update_bytes / spread + GRADIENT_PASSES_BYTES)
    seconds: Floats = moved * jobs.trained / (jobs.memory_byte_per_s * p.memory_share)
    own = (dense / shards + experts / spread) * jobs.trained
    passes_bytes = jobs.update_bytes + HOST_GRADIENT_PASSES * jobs.gradient_bytes + jobs.master_bytes
    on_host_s = own * passes_bytes / HOST_MEMORY_BYTE_PER_S
    return np.where(jobs.host_update, _crossing_s(jobs, own, shards) + on_host_s, seconds)


def _crossing_s(jobs: Jobs, own: Floats, shards: Floats) -> Floats:
    """Gradients to the host and weights back.

    With ``offload_each_micro_batch`` the sum so far comes back to be added to (DeepSpeed's
    ``async_accumulate_grad_in_cpu_via_gpu``). Below stage 3 a bucket is one rank's, and the others wait for its copy:
    all shards go one after the other (DeepSpeed pull request 1067; ``round_robin_gradients`` is off).
    """
    each = jobs.offload_each_micro_batch
    sums = 2 * jobs.gradient_bytes * (jobs.micro_batches - 1) + WIDE_BYTES
    gradients = np.where(each, sums, jobs.gradient_bytes)
    waiting = np.where(each & (jobs.zero_stage < 3), shards, 1.0)
    crossing: Floats = own * (gradients * waiting + jobs.weight_bytes) / jobs.host_byte_per_s
    return crossing
