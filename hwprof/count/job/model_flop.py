"""How many FLOP does a training job ask for? Model FLOP and what recompute adds, by both attention conventions."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

from hwprof.count.blocks.transformer import AttentionConvention, model_ops
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
    """FLOP of a step; with LoRA the frozen weights' gradients are left out."""
    one = _sequence_flop(job.model, job.seq_len, attention)
    backward = one.backward - (one.linear if job.lora is not None else 0)
    again = 0.0
    if job.recompute == "full":
        share = min((job.recompute_layers or job.model.layers) / job.model.layers, 1.0)
        again = share * one.layers
    elif job.recompute == "selective" and not job.flash:
        again = one.cores
    model = (one.forward + backward) * job.global_batch
    return JobFlop(model=model, hardware=model + again * job.global_batch)


class _SequenceFlop(NamedTuple):
    """Of one sequence: both passes; of forward that of linear layers, of all layers, of the attention cores."""

    forward: float
    backward: float
    linear: float
    layers: float
    cores: float


@functools.lru_cache(maxsize=512)
def _sequence_flop(model: ModelSpec, seq_len: int, attention: AttentionConvention) -> _SequenceFlop:
    ops = model_ops(model, batch_size=1, seq_len=seq_len, precision=Precision.of("bf16"), attention=attention)
    forward = [(op, op.forward.matmul_flop * op.repeats) for op in ops]
    return _SequenceFlop(
        forward=sum(flop for _, flop in forward),
        backward=sum(op.backward.matmul_flop * op.repeats for op in ops),
        linear=sum(flop for op, flop in forward if op.kind in {"linear", "expert_linear"}),
        layers=sum(flop for op, flop in forward if op.in_layer),
        cores=sum(flop for op, flop in forward if op.kind.startswith("attention_core")),
    )
