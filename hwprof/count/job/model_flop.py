"""How many FLOP does a training job ask for? Model FLOP and what recompute adds, by both attention conventions."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import NamedTuple

from hwprof.count.blocks.captured import backward_flop
from hwprof.count.blocks.transformer import CONVENTIONS, AttentionConvention, model_ops
from hwprof.count.job.ops import recomputed_share
from hwprof.count.job.recompute import runs_again
from hwprof.count.ops.operation import Op
from hwprof.count.ops.precision import Precision
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.model.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFlop:
    """Matrix-multiply FLOP of one optimizer step over all devices.

    ``model`` is forward and backward alone (MFU); ``hardware`` also has what runs again (HFU).
    """

    model: float
    hardware: float


def job_flop(job: TrainingJob, attention: AttentionConvention = "full") -> JobFlop:
    """FLOP of a step; with LoRA the frozen weights' gradients are left out.

    A layer with a window counts as what it attends to, in ``full`` twice what is before a query: counted as if it
    attended to everything it would use more than a device can give.
    """
    one = _sequence_flop(job.model, job.seq_len, attention)
    backward = one.backward - (one.linear if job.lora is not None else 0)
    again = runs_again(one.ops, job.recompute, job.selective)
    recomputed = sum(op.forward.matmul_flop * op.repeats for op in one.ops if op.label in again)
    model = (one.forward + backward) * job.global_batch
    return JobFlop(model=model, hardware=model + recomputed_share(job) * recomputed * job.global_batch)


class _SequenceFlop(NamedTuple):
    """Of one sequence: both passes; of forward that of linear layers; all operations."""

    forward: float
    backward: float
    linear: float
    ops: tuple[Op, ...]


@functools.lru_cache(maxsize=512)
def _sequence_flop(model: ModelSpec, seq_len: int, attention: AttentionConvention) -> _SequenceFlop:
    full, causal = (
        model_ops(model, batch_size=1, seq_len=seq_len, precision=Precision.of("bf16"), attention=convention)
        for convention in CONVENTIONS
    )
    ops = tuple(_windowed(*pair) for pair in zip(full, causal, strict=True)) if attention == "full" else causal
    forward = [(op, op.forward.matmul_flop * op.repeats) for op in ops]
    return _SequenceFlop(
        forward=sum(flop for _, flop in forward),
        backward=sum(backward_flop(op) * op.repeats for op in ops),
        linear=sum(flop for op, flop in forward if op.kind in {"linear", "expert_linear"} or op.parameters),
        ops=ops,
    )


def _windowed(op: Op, causal: Op) -> Op:
    """An operation in full attention; twice the causal one where it looks through a window."""
    if "window" not in op.label:
        return op
    return replace(op, forward=causal.forward * 2, backward=causal.backward * 2)
