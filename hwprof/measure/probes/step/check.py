"""Is a kernel's result right? Some of its elements against float64; a fast wrong answer is an error."""

from __future__ import annotations

import torch

from hwprof.errors import WorkError

TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2, "fp16": 5e-3}
"""Largest error of an element over its own size plus that of its tensor."""

CHECKED_ROWS = 16


def some_rows(count: int, device: torch.device) -> torch.Tensor:
    """Rows spread over the whole."""
    return torch.linspace(0, count - 1, min(CHECKED_ROWS, count), device=device).long()


def exact_on(device: torch.device) -> torch.device:
    """Where float64 of a device is computed: on CUDA's there, else on the host (Metal has none, nor Intel's Arc)."""
    return device if device.type == "cuda" else torch.device("cpu")


def in_float64(part: torch.Tensor) -> torch.Tensor:
    """A part of a tensor, to be compared."""
    return part.to(exact_on(part.device)).double()


def require_close(found: torch.Tensor, exact: torch.Tensor, what: str, *, tolerance: float) -> None:
    """Compare a result with what it should be.

    Args:
        found: the result.
        exact: of the same shape, float64.
        what: named in the error.
        tolerance: largest error of an element over its own size plus that of its tensor.

    Raises:
        WorkError: an element is further off, or no number.
    """
    size = exact.abs() + exact.square().mean().sqrt()
    worst = float(((in_float64(found.detach()) - exact).abs() / size.clamp(min=1e-30)).max())
    if not worst <= tolerance:
        raise WorkError(
            f"{what} is wrong by {worst:.2g} of its size",
            expectation=f"expected at most {tolerance:g}",
            remedy="check the device and the torch installation",
        )
