"""How many FLOP does a training job ask for? Model FLOP and what recompute adds, by both attention conventions."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.count.precision import Precision
from hwprof.count.transformer import AttentionConvention, model_ops
from hwprof.specs.job import TrainingJob


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFlop:
    """Matrix-multiply FLOP of one optimizer step over all devices.

    ``model`` is forward and backward alone (MFU); ``hardware`` also has what runs again (HFU).
    """

    model: float
    hardware: float


def job_flop(job: TrainingJob, attention: AttentionConvention = "full") -> JobFlop:
    """FLOP of a step; with LoRA the frozen weights' gradients are left out."""
    ops = model_ops(
        job.model,
        batch_size=1,
        seq_len=job.seq_len,
        precision=Precision.of("bf16"),
        attention=attention,
    )
    forward = sum(op.forward.matmul_flop * op.repeats for op in ops)
    backward = sum(op.backward.matmul_flop * op.repeats for op in ops)
    if job.lora is not None:
        backward -= sum(op.forward.matmul_flop * op.repeats for op in ops if op.kind in {"linear", "expert_linear"})
    again = 0.0
    if job.recompute == "full":
        share = min((job.recompute_layers or job.model.layers) / job.model.layers, 1.0)
        again = share * sum(op.forward.matmul_flop * op.repeats for op in ops if op.in_layer)
    elif job.recompute == "selective" and job.attention == "materialised":
        again = sum(op.forward.matmul_flop * op.repeats for op in ops if op.kind.startswith("attention_core"))
    model = (forward + backward) * job.global_batch
    return JobFlop(model=model, hardware=model + again * job.global_batch)
