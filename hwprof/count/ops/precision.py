"""How wide are the numbers? Bytes of one element of each kind of tensor in a training step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from hwprof.specs.job.settings import Dtype

_COMPUTE_BYTES: dict[Dtype, int] = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Element widths under one run dtype.

    Weights, gradients, optimizer state, the residual stream and the norms are fp32 in every run dtype; ``bf16`` and
    ``fp16`` are autocast, where linear layers and attention work on 2-byte copies of their inputs and weights.
    ``tf32`` stores 4 bytes and only multiplies with fewer bits.

    Attributes:
        name: the run dtype.
        weight_bytes: one element of a weight, its gradient or its optimizer state.
        compute_bytes: one element that a matrix multiplication reads or writes.
        residual_bytes: one element of the residual stream, and of what a norm writes.
    """

    name: Dtype
    weight_bytes: int
    compute_bytes: int
    residual_bytes: int

    @classmethod
    def of(cls, dtype: Dtype) -> Self:
        """The widths of a run dtype."""
        return cls(name=dtype, weight_bytes=4, compute_bytes=_COMPUTE_BYTES[dtype], residual_bytes=4)

    @property
    def casts(self) -> bool:
        """Whether autocast copies inputs and weights of matrix multiplications to a narrower type."""
        return self.compute_bytes != self.weight_bytes
