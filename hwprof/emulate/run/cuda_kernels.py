"""Which operators have a kernel on CUDA where a build without CUDA puts them together from others?

Where a device has no kernel, torch takes an operator apart before anybody can see it whole: RMSNorm would be eight
kernels and keep a copy in 32 bits. A kernel that is only named, and never called because all tensors are fake, keeps it
whole. These are all operators of ``native_functions.yaml`` that have both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

aten = torch.ops.aten
WHOLE = ("silu_backward", "_fused_rms_norm", "mish_backward")

_kept: list[Any] = []


def install() -> None:
    """Name them, for the rest of this process."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for name in WHOLE:
        if hasattr(aten, name) and not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "CUDA"):  # noqa: SLF001
            library.impl(name, _uncalled, "CUDA")  # type: ignore[no-untyped-call]
    _kept.append(library)


def _uncalled(*_: Any, **__: Any) -> Any:
    raise AssertionError("a kernel of an emulated device was called")


def _normed(
    tensor: torch.Tensor, normalized_shape: Any, weight: Any = None, eps: Any = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``aten::_fused_rms_norm``: the result and one number in 32 bits for each row."""
    del weight, eps
    rows = tensor.shape[: tensor.dim() - len(normalized_shape)]
    return torch.empty_like(tensor), tensor.new_empty([*rows, *(1 for _ in normalized_shape)], dtype=torch.float32)


def _normed_backward(
    gradient: torch.Tensor, _tensor: torch.Tensor, _shape: Any, _rstd: Any, weight: Any, mask: Any
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """``aten::_fused_rms_norm_backward``: the gradients that are asked for."""
    of_weight = torch.empty_like(weight) if weight is not None and mask[1] else None
    return (torch.empty_like(gradient) if mask[0] else None), of_weight


def _grouped(left: torch.Tensor, right: torch.Tensor, offsets: Any = None, *_: Any, **__: Any) -> torch.Tensor:
    groups = [offsets.shape[0]] if offsets is not None and left.dim() == right.dim() == 2 else []
    batch = [left.shape[0]] if left.dim() == right.dim() == 3 else groups
    return left.new_empty([*batch, left.shape[-2], right.shape[-1]])


_NAMED: dict[str, Callable[..., Any]] = {
    "_grouped_mm": _grouped,
    "_fused_rms_norm": _normed,
    "_fused_rms_norm_backward": _normed_backward,
}
RESULTS = {getattr(aten, name).default: shapes for name, shapes in _NAMED.items() if hasattr(aten, name)}
"""Operator -> empty results, where torch has no rule for fake tensors or one that takes fewer types than the kernel."""
