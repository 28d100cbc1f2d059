"""Is attention right? Some rows of a result, and the gradients that they cause, against float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hwprof.errors import WorkError
from hwprof.measure.probes.step.check import in_float64
from hwprof.specs.job.settings import Dtype

Core = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""query, key, value, each [batch, seq_len, (kv_)heads, head_dim] -> mixed values [batch, seq_len, heads * head_dim]."""

TOLERANCE: dict[Dtype, float] = {"fp32": 1e-3, "tf32": 2e-2, "bf16": 3e-1, "fp16": 5e-2}
"""Largest error of an element over its own size plus that of its tensor."""

_CHECKED_ROWS = 16


def random_normal(device: torch.device, *shape: int) -> torch.Tensor:
    """Unit normal numbers, the same each time."""
    return torch.randn(*shape, generator=torch.Generator(device).manual_seed(1), device=device)


def check_attention(
    core: Core, operands: tuple[torch.Tensor, torch.Tensor, torch.Tensor], *, causal: bool, tolerance: float
) -> None:
    """Compare some rows of one head of the last sequence, and the gradients that they cause, with float64.

    The head is the first that reads the last key/value head. The gradient of the result is random in these rows and
    zero elsewhere, so that the gradients of all its keys and values follow from the rows alone. Run without dropout,
    whose random mask no reference knows.

    Args:
        core: the attention.
        operands: query, key, value, each [batch, seq_len, (kv_)heads, head_dim], leaves that want gradients, elements
            of unit variance.
        causal: whether a token attends to itself and those before it only.
        tolerance: largest error of an element over its own size plus that of its tensor.

    Raises:
        WorkError: an element is further off.
    """
    query, key, value = operands
    length, heads, width = query.shape[1:]
    place = heads - heads // key.shape[2]
    columns = slice(place * width, (place + 1) * width)
    rows = torch.linspace(length // 2, length - 1, min(_CHECKED_ROWS, length - length // 2), device=query.device).long()
    mixed = core(query, key, value)
    gradient = torch.zeros_like(mixed)
    gradient[-1, rows, columns] = random_normal(query.device, len(rows), width).to(mixed.dtype)
    dq, dk, dv = torch.autograd.grad(mixed, operands, gradient)
    found = (mixed[-1, rows, columns], dq[-1, rows, place], dk[-1, :, -1], dv[-1, :, -1])
    one_head = (query[-1, rows, place], key[-1, :, -1], value[-1, :, -1])
    expected = _reference(*one_head, rows if causal else None, gradient[-1, rows, columns])
    for one, other in zip(found, expected, strict=True):
        _require_close(one, other, tolerance)


@dataclass(frozen=True, slots=True)
class _Expected:
    """A tensor in float64, and the root mean square of what its elements would be if no two terms cancelled."""

    what: str
    values: torch.Tensor
    size: torch.Tensor


def _reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    last_keys: torch.Tensor | None,
    gradient: torch.Tensor,
) -> tuple[_Expected, ...]:
    """O = softmax(Q K^T / sqrt(head_dim)) V of one head in float64, and the gradients of Q, K and V.

    dV = P^T dO; dP = dO V^T; dS = P (dP - row sums of dO O); dQ = dS K / sqrt(head_dim), dK = dS^T Q / sqrt(head_dim).
    Source: Dao et al. 2022, appendix B.2.

    Args:
        query: Q, [rows, head_dim].
        key: K, [seq_len, head_dim].
        value: V, [seq_len, head_dim].
        last_keys: the last key that each row attends to, [rows]; None where it attends to all.
        gradient: dO, [rows, head_dim].
    """
    q, k, v, do = (in_float64(tensor.detach()) for tensor in (query, key, value, gradient))
    scale = q.shape[1] ** -0.5
    scores = q @ k.t() * scale
    if last_keys is not None:
        scores = scores.masked_fill(
            torch.arange(len(k), device=k.device) > last_keys.to(k.device)[:, None], float("-inf")
        )
    p = scores.softmax(dim=-1)
    o, dp, dv = p @ v, do @ v.t(), p.t() @ do
    ds = p * (dp - (do * o).sum(dim=-1, keepdim=True)) * scale
    whole = p * dp * scale
    return (
        _Expected("the result", o, _rms(o)),
        _Expected("the gradient of Q", ds @ k, _rms(whole @ k)),
        _Expected("the gradient of K", ds.t() @ q, _rms(whole.t() @ q)),
        _Expected("the gradient of V", dv, _rms(dv)),
    )


def _rms(values: torch.Tensor) -> torch.Tensor:
    return values.square().mean().sqrt()


def _require_close(found: torch.Tensor, expected: _Expected, tolerance: float) -> None:
    size = expected.values.abs() + expected.size
    worst = float(((in_float64(found.detach()) - expected.values).abs() / size).max())
    if not worst <= tolerance:
        raise WorkError(
            f"attention in {str(found.dtype).removeprefix('torch.')}: {expected.what} is wrong by {worst:.2g} of its "
            "size",
            expectation=f"expected at most {tolerance:g}",
            remedy="check the device and the torch installation",
        )
