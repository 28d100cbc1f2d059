"""What is one kernel's work on one device, and what decides it? The words for rows of work."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from hwprof.specs.job.step import LoraSpec
from hwprof.specs.job.switches import AdapterLibrary, JobDtype, Selective
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import Recompute


class Part(IntEnum):
    """Where in the model a row stands; rows of a layer are those of the average layer."""

    LAYER = 0
    EMBEDDING = 1
    HEAD = 2


class Pass(IntEnum):
    """When a row runs. ``INPUT`` and ``WEIGHT`` are the two halves of the backward pass."""

    FORWARD = 0
    INPUT = 1
    WEIGHT = 2
    RECOMPUTE = 3


class Unit(IntEnum):
    """What bounds a row: a kind of product, or the memory."""

    MATMUL = 0
    NARROW_MATMUL = 1
    GROUPED = 2
    NARROW_GROUPED = 3
    ATTENTION = 4
    ATTENTION_BACKWARD = 5
    TRAFFIC = 6
    COPY = 7


class Row(NamedTuple):
    """One kernel, or several like it, on one device for one micro-batch.

    ``flop`` and ``moved_bytes`` are of all ``groups`` products [m, k]·[k, n]; the row runs ``times`` times in an
    average layer. In attention m is the sequence length and k the width of a head.
    """

    part: Part
    when: Pass
    unit: Unit
    m: float
    n: float
    k: float
    groups: float
    flop: float
    moved_bytes: float
    times: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkShare:
    """What decides the work of one device on one micro-batch.

    Attributes:
        model: the model.
        micro_batch: sequences of one replica.
        seq_len: tokens of a sequence.
        dtype: format of the linear layers' operands.
        flash: whether attention keeps no scores.
        tensor, context, expert: parallel degrees.
        sequence_parallel: whether norms and residuals are split over the tensor ranks.
        recompute: what runs again in the backward pass.
        selective: what ``selective`` recompute runs again.
        lora: adaptation; None = everything is trained.
        adapter_library: whose way of widening what is kept in 4 bits.
        fused: chains of elementwise operations are single kernels.
        expert_tensor: devices that share the matrices of one expert.
        expert_skew: tokens of the busiest expert rank over the mean; its work is what is counted.
    """

    model: ModelSpec
    micro_batch: int
    seq_len: int
    dtype: JobDtype
    flash: bool
    tensor: int
    context: int
    expert: int
    sequence_parallel: bool
    recompute: Recompute
    selective: tuple[Selective, ...]
    lora: LoraSpec | None
    adapter_library: AdapterLibrary
    fused: bool
    expert_tensor: int
    expert_skew: float
