"""In which formats do matrix products run, and whose measurements speak for which of them?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hwprof.specs.hardware.spec import MatmulDtype

ProductFormat = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "fp8-block", "nvfp4"]
PRODUCT_FORMATS: tuple[ProductFormat, ...] = get_args(ProductFormat)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How the operands of a product are kept.

    Attributes:
        peak: whose peak bounds the arithmetic.
        operand_bytes: of one number of an operand, its share of the scales included.
        result_bytes: of one number of the result.
        served_by: formats whose measured kernels are the same but for the peak, the best first.
    """

    peak: MatmulDtype
    operand_bytes: float
    result_bytes: float
    served_by: tuple[ProductFormat, ...]


FORMATS: dict[ProductFormat, Format] = {
    "fp64": Format(peak="fp64", operand_bytes=8, result_bytes=8, served_by=()),
    "fp32": Format(peak="fp32", operand_bytes=4, result_bytes=4, served_by=("fp32",)),
    "tf32": Format(peak="tf32", operand_bytes=4, result_bytes=4, served_by=("bf16", "fp16")),
    "fp16": Format(peak="fp16", operand_bytes=2, result_bytes=2, served_by=("fp16", "bf16")),
    "bf16": Format(peak="bf16", operand_bytes=2, result_bytes=2, served_by=("bf16", "fp16")),
    "fp8": Format(peak="fp8", operand_bytes=1, result_bytes=2, served_by=("fp8",)),
    "fp8-block": Format(peak="fp8", operand_bytes=1 + 4 / 128, result_bytes=2, served_by=("fp8-block",)),
    "nvfp4": Format(peak="fp4", operand_bytes=0.5 + 1 / 16, result_bytes=2, served_by=("nvfp4",)),
}
"""Scales: one of 4 bytes for 1 x 128 numbers by block (DeepSeek-V3, section 3.3), one of 1 byte for 16 in nvfp4."""
