"""What memory does the loss take? Kept for backward, at its start, and what stays after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hwprof.count.job.storage import Storage
from hwprof.count.ops.operation import Op
from hwprof.count.ops.precision import Precision
from hwprof.count.ops.vector import LOSS_BYTES
from hwprof.specs.job.step import TrainingJob

HEADS = frozenset({"head", "mtp.head"})

CHUNKS = 8
"""Chunks of tokens that torchtune's loss makes wide one after another (``CEWithChunkedOutputLoss``)."""

HEAD_TOKENS = 128
"""Tokens that litgpt's head works on at a time (litgpt/finetune/lora.py: ``lm_head_chunk_size``). Fabric makes what the
model returns wide (``convert_output``)."""

PARALLEL_STEPS = 3
"""fp32 arrays of the logits' size beside the log-softmax in the backward of torch's loss over a split vocabulary: the
gradient, the softmax and their sum (torch/distributed/tensor/parallel/loss.py: ``_nll_loss_and_log_softmax_backward``).
Over a whole one there are two: the gradient of the log-softmax and that of the logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What the loss takes.

    Attributes:
        kept_bytes: for backward.
        working_bytes: beyond that at its start.
        lasting_bytes: logits that stay.
        at_head_bytes: of what it keeps, what is still there while the head runs backward.
        freed_bytes: narrow logits that are freed when they have been made wide: no later array is so small.
        output_bytes: logits that a pipeline hands back, as the loss reads them.
    """

    kept_bytes: float
    working_bytes: float
    lasting_bytes: float = 0.0
    at_head_bytes: float = 0.0
    freed_bytes: float = 0.0
    output_bytes: float = 0.0


def logits_of(ops: Iterable[Op]) -> float:
    """Bytes of the logits as the heads write them."""
    return sum(op.output_bytes * op.repeats for op in ops if op.label in HEADS)


def plain_loss(ops: Sequence[Op], precision: Precision, *, split: bool = False) -> Loss:
    """Cross-entropy of torch: keeps the fp32 log-softmax, its backward makes two or three more arrays of that size."""
    logits = logits_of(ops)
    wide = logits / precision.compute_bytes * LOSS_BYTES
    kept = sum(op.saved_bytes * op.repeats for op in ops if op.label == "loss")
    return Loss(
        kept_bytes=max(kept, wide),
        working_bytes=(PARALLEL_STEPS if split else 2) * wide,
        freed_bytes=logits if wide > logits else 0.0,
        output_bytes=wide,
    )


def job_loss(job: TrainingJob, ops: Sequence[Op], storage: Storage) -> Loss:
    """What the loss of a job takes.

    ``plain`` of Megatron-LM: the fp32 softmax is made in place (in older versions beside fp32 logits) and kept, beside
    narrow logits or their gradient. ``fused-linear`` keeps the gradients of the head's input and weight, which it makes
    in forward, and holds the logits of as many tokens at a time as are about the size of that input
    (Liger-Kernel's ``fused_linear_cross_entropy_forward``).
    """
    logits = logits_of(ops)
    wide = logits / storage.precision.compute_bytes * LOSS_BYTES
    at_once = wide * min(HEAD_TOKENS / job.seq_len, 1.0)
    known = {
        "compiled": Loss(kept_bytes=logits, working_bytes=logits, output_bytes=logits),
        "fused": Loss(kept_bytes=logits, working_bytes=0.0, output_bytes=logits),
        "chunked": Loss(
            kept_bytes=logits + (0.0 if job.compiled else wide),
            working_bytes=(logits + wide) / CHUNKS,
            output_bytes=logits,
        ),
        "chunked-head": Loss(
            kept_bytes=wide,
            working_bytes=2 * at_once,
            lasting_bytes=wide,
            at_head_bytes=wide - at_once,
            output_bytes=wide,
        ),
    }
    if job.loss in known:
        return known[job.loss]
    if job.loss == "fused-linear":
        heads = [op for op in ops if op.label in HEADS]
        inputs = sum(op.input_bytes * op.repeats for op in heads)
        weights = sum(op.parameters for op in heads) * storage.fresh_bytes
        return Loss(kept_bytes=inputs, working_bytes=2 * inputs + weights)
    if job.loss == "returned":
        held = plain_loss(ops, storage.precision, split=job.layout.tensor_parallel > 1)
        return replace(held, lasting_bytes=logits, freed_bytes=0.0)
    if storage.framework in {"torch", "deepspeed"}:
        return plain_loss(ops, storage.precision, split=job.layout.tensor_parallel > 1)
    second = wide if storage.framework == "megatron-deepspeed" else 0.0
    return Loss(kept_bytes=wide, working_bytes=logits + second)
