"""What does a checkpoint of a job hold, and how long does it hold the job up?"""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.count.job.ops import trained_tensors
from hwprof.count.job.storage import job_storage
from hwprof.count.memory.optimizer import state_bytes
from hwprof.plan.goodput.reliability import PREPARE_S, Reliability
from hwprof.predict.machine import Machine
from hwprof.specs.job.step import TrainingJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One checkpoint.

    Attributes:
        size_bytes: weights and optimizer state of what is trained, each once.
        stall_s: that the job waits.
        write_s: until it is safe.
        load_s: to read it again.
    """

    size_bytes: float
    stall_s: float
    write_s: float
    load_s: float


def checkpoint_bytes(job: TrainingJob) -> float:
    """Weights and optimizer state, whole: 14 bytes a parameter of AdamW with 16-bit weights and fp32 masters."""
    storage = job_storage(job)
    return sum(
        tensor.total * storage.weight_bytes
        + tensor.repeats
        * state_bytes(
            tensor,
            tensor.elements,
            job.optimizer,
            moment_bytes=storage.moment_bytes,
            master_bytes=storage.master_bytes,
        )
        for tensor in trained_tensors(job)
    )


def checkpoint_of(job: TrainingJob, machine: Machine, reliability: Reliability) -> Checkpoint:
    """Every device prepares, copies and writes its share at once."""
    share_bytes = checkpoint_bytes(job) / machine.devices
    load_s = share_bytes / reliability.storage_byte_per_s
    copy_s = load_s if reliability.checkpoint == "sync" else min(share_bytes / machine.host_byte_per_s, load_s)
    return Checkpoint(
        size_bytes=checkpoint_bytes(job), stall_s=PREPARE_S + copy_s, write_s=PREPARE_S + load_s, load_s=load_s
    )
