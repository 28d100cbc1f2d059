"""How long does it take to look up rows of an embedding table, and to make its gradient?"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)

from hwprof.measure.probes.attention_check import random_normal
from hwprof.measure.probes.sampling import Work
from hwprof.measure.probes.step.check import CHECKED_ROWS, TOLERANCE, in_float64, require_close
from hwprof.specs.job.step_kernels import TIED, StepKernel

_DISTINCT = 251
"""Rows whose number modulo this is the same have the same values; a prime, so that no stride goes unnoticed."""


def embedding(device: torch.device, kernel: StepKernel) -> Work:
    """Rows of random tokens, plus those of their positions where the model learns these.

    Backward makes the dense gradient of each table; that of a table which is the head's weight, too, is added to what
    the head left, in a new tensor, as autograd does.
    """
    batch, seq_len, features, rows, *places = kernel.sizes
    table = _table(device, rows, features)
    tables = [table, *(_table(device, count, features) for count in places)]
    ids = torch.randint(rows, (batch, seq_len), generator=torch.Generator().manual_seed(0)).to(device)
    positions = torch.arange(seq_len, device=device)

    def forward() -> torch.Tensor:
        vectors = F.embedding(ids, table)
        return vectors + F.embedding(positions, tables[1]) if places else vectors

    vectors = forward()
    expected = in_float64((ids % _DISTINCT + (positions % _DISTINCT if places else 0))[..., None])
    require_close(vectors[:, :, :1], expected, str(kernel), tolerance=TOLERANCE["fp32"])
    gradient = random_normal(device, *vectors.shape)

    def backward() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(vectors, tables, gradient, retain_graph=True)

    _check_gradient(kernel, ids, gradient, backward()[0])
    if kernel.direction == "forward":
        return forward
    if not kernel.variant.endswith(TIED):
        return backward
    of_head = torch.zeros_like(table)
    return lambda: of_head + backward()[0]


def _table(device: torch.device, rows: int, features: int) -> torch.Tensor:
    numbers = torch.arange(rows, device=device, dtype=torch.float32) % _DISTINCT
    return numbers[:, None].repeat(1, features).requires_grad_()


def _check_gradient(kernel: StepKernel, ids: torch.Tensor, gradient: torch.Tensor, found: torch.Tensor) -> None:
    """The gradient of a row is the sum of those of its tokens."""
    for row in ids.flatten()[:CHECKED_ROWS].tolist():
        exact = in_float64(gradient[ids == row]).sum(0)
        require_close(found[row], exact, f"the gradient of {kernel}", tolerance=TOLERANCE["fp32"])
