"""In which number format does the step compute? Weights stay fp32; matrix multiplications may use fewer bits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from hwprof.errors import InputError
from hwprof.specs.job.settings import Dtype

_AUTOCAST_DTYPES: dict[Dtype, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
_AMPERE = (8, 0)
"""Compute capability of the first NVIDIA GPUs with tf32 and bf16 units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How one run computes.

    Attributes:
        dtype: the format asked for.
        device_type: "cpu" or "cuda".
        scaler: scales fp16 losses so that small gradients don't vanish; does nothing for other formats.
    """

    dtype: Dtype
    device_type: str
    scaler: torch.amp.GradScaler

    def autocast(self) -> torch.autocast:
        """A fresh context for one forward pass."""
        dtype = _AUTOCAST_DTYPES.get(self.dtype)
        return torch.autocast(self.device_type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def select_precision(dtype: Dtype, device: torch.device) -> Precision:
    """Set torch's fp32 matrix multiplication mode for the process, and say how to compute in ``dtype``.

    Raises:
        InputError: the device has no such format.
    """
    _check_device(dtype, device)
    set_matmul_precision("high" if dtype == "tf32" else "highest")
    precision = Precision(
        dtype=dtype, device_type=device.type, scaler=torch.amp.GradScaler(device.type, enabled=dtype == "fp16")
    )
    _check_autocast(precision)
    return precision


def _check_device(dtype: Dtype, device: torch.device) -> None:
    if dtype == "tf32" and (device.type != "cuda" or torch.version.hip):
        raise _unsupported(dtype, device, "tf32 is a format of NVIDIA GPUs")
    if dtype in {"tf32", "bf16"} and device.type == "cuda" and not multiplies_bf16(device):
        raise _unsupported(dtype, device, "its matrix units don't take the format (NVIDIA: compute capability 8.0)")


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the matrix units of a CUDA or ROCm device take bf16: from Ampere and from CDNA (gfx908) and RDNA 3 on."""
    if torch.version.hip:
        return architecture(device).startswith(_BF16_ARCHITECTURES)
    return bool(torch.cuda.get_device_capability(device) >= _AMPERE)


def architecture(device: torch.device) -> str:
    """AMD's name of a GPU's instruction set (``gfx942``); empty where torch does not tell."""
    return str(getattr(torch.cuda.get_device_properties(device), "gcnArchName", "")).partition(":")[0]


_BF16_ARCHITECTURES = ("gfx908", "gfx90a", "gfx94", "gfx95", "gfx11", "gfx12")
"""With bf16 in matrix instructions (AMD, "CDNA ... Instruction Set Architecture" and "RDNA3", V_MFMA and V_WMMA)."""


@contextmanager
def kept_matmul_precision() -> Iterator[None]:
    """What a program had set for fp32 products comes back at the end, by whichever of torch's two ways it was set."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set through torch.backends, which torch recommends from 2.9 on; the two don't mix
        by_backend = [(backend, backend.fp32_precision) for backend in _backends()]
        try:
            yield
        finally:
            for backend, name in by_backend:
                backend.fp32_precision = name
        return
    try:
        yield
    finally:
        set_matmul_precision(before)


def multiplies_in_tf32() -> bool:
    """Whether fp32 products of a CUDA device run in TF32 at present."""
    found = getattr(torch.backends.cuda.matmul, "fp32_precision", "none")
    if found != "none":
        return bool(found == "tf32")
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # set through torch.backends, for something else
        return False


def _backends() -> tuple[Any, ...]:
    backends: Any = torch.backends
    return backends.cuda.matmul, backends.mkldnn.matmul


def set_matmul_precision(name: str) -> None:
    """``torch.set_float32_matmul_precision`` without the warning of torch 2.9, which asks for what older ones lack."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Please use the new API settings")
        torch.set_float32_matmul_precision(name)


def _check_autocast(precision: Precision) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # where a dtype is missing, torch warns and computes in fp32
            precision.autocast()
    except (UserWarning, RuntimeError) as error:
        raise _unsupported(precision.dtype, torch.device(precision.device_type), str(error)) from error


def _unsupported(dtype: Dtype, device: torch.device, reason: str) -> InputError:
    others = "fp32 or fp16" if device.type == "cuda" and not torch.version.hip else "fp32 or bf16"
    return InputError(f"{device.type} can't compute in {dtype} here: {reason}", remedy=f"choose --dtype {others}")
