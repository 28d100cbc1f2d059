"""How are activations, residual sums, rotations, losses and dropout called, and what should come out of them?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)

from hwprof.errors import WorkError
from hwprof.measure.probes.attention_check import random_normal
from hwprof.measure.probes.matmul import TORCH_DTYPE
from hwprof.measure.probes.sampling import Work
from hwprof.measure.probes.step.check import TOLERANCE, exact_on, in_float64, require_close, some_rows
from hwprof.specs.job.step_kernels import GATED, StepKernel
from hwprof.train.attention import Rope
from hwprof.train.feed_forward import GatedActivation, PlainActivation
from hwprof.train.loop import mean_loss

DROPPED = 0.1
"""Probability of a zero in a dropout that is timed."""

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Function:
    """What is called, on what, and the same in float64 on a part of it.

    Attributes:
        run: the operation as training runs it.
        inputs: leaves that want gradients.
        exact: the same by its formula.
        part: takes of each input, result and gradient what is checked; nothing else has to do with it.
    """

    run: Callable[..., torch.Tensor | Tensors]
    inputs: Tensors
    exact: Callable[..., Tensors]
    part: Callable[[torch.Tensor], torch.Tensor]


def _one_direction(kernel: StepKernel, function: _Function) -> Work:
    """The forward or the backward pass of a function, once both were seen to be right."""
    made = function.run(*function.inputs)
    results = made if isinstance(made, tuple) else (made,)
    gradients = tuple(random_normal(one.device, *one.shape).to(one.dtype) for one in results)
    backward = partial(torch.autograd.grad, results, function.inputs, gradients, retain_graph=True)
    _check(kernel, function, results, gradients, backward())
    return backward if kernel.direction == "backward" else partial(function.run, *function.inputs)


def _check(kernel: StepKernel, function: _Function, results: Tensors, gradients: Tensors, found: Tensors) -> None:
    tolerance = TOLERANCE[kernel.dtype]
    inputs = [in_float64(function.part(one.detach())).requires_grad_() for one in function.inputs]
    exact = function.exact(*inputs)
    wanted = torch.autograd.grad(exact, inputs, [in_float64(function.part(one)) for one in gradients])
    for one, other in zip((*results, *found), (*exact, *wanted), strict=True):
        require_close(function.part(one), other.detach(), str(kernel), tolerance=tolerance)


def _leaf(device: torch.device, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return random_normal(device, *shape).to(dtype).requires_grad_()


def activation(device: torch.device, kernel: StepKernel) -> Work:
    """f(x), or f(gate) x up."""
    name, dtype = kernel.variant.removesuffix(GATED), TORCH_DTYPE[kernel.dtype]
    gate = _leaf(device, dtype, *kernel.sizes)
    exact, rows = _EXACT[name], some_rows(kernel.sizes[0], device)
    own = name.removesuffix("_tanh")
    if kernel.variant.endswith(GATED):
        up = gate.detach().flip(0).requires_grad_()
        function = _Function(
            run=GatedActivation(own),
            inputs=(gate, up),
            exact=lambda one, other: (exact(one) * other,),
            part=lambda tensor: tensor[rows],
        )
    else:
        run = F.gelu if name == "gelu" else PlainActivation(own)
        function = _Function(run=run, inputs=(gate,), exact=lambda one: (exact(one),), part=lambda tensor: tensor[rows])
    return _one_direction(kernel, function)


_EXACT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": lambda x: x / 2 * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: x.clamp(min=0),
    "silu": lambda x: x / (1 + torch.exp(-x)),
}


def rope(device: torch.device, kernel: StepKernel) -> Work:
    """Queries and keys turned by their positions."""
    batch, seq_len, heads, kv_heads, width = kernel.sizes
    pairs = torch.arange(0, width, 2, dtype=torch.float64) / width
    angles = torch.outer(torch.arange(seq_len, dtype=torch.float64), _THETA**-pairs)
    places = some_rows(seq_len, device)
    turns = torch.polar(torch.ones_like(angles), angles)[places.cpu(), None].to(exact_on(device))

    def turned(x: torch.Tensor) -> torch.Tensor:
        z = torch.complex(*x.chunk(2, dim=-1)) * turns
        return torch.cat((z.real, z.imag), dim=-1)

    function = _Function(
        run=Rope((angles.cos().float().to(device), angles.sin().float().to(device))),
        inputs=tuple(_leaf(device, TORCH_DTYPE[kernel.dtype], batch, seq_len, one, width) for one in (heads, kv_heads)),
        exact=lambda query, key: (turned(query), turned(key)),
        part=lambda tensor: tensor[:1, places],
    )
    return _one_direction(kernel, function)


_THETA = 10000.0


def residual(device: torch.device, kernel: StepKernel) -> Work:
    """The stream, in fp32, and a branch's result; backward two gradients added up in place, and a narrow copy."""
    dtype, rows = TORCH_DTYPE[kernel.dtype], some_rows(kernel.sizes[0], device)
    stream = _leaf(device, torch.float32, *kernel.sizes)
    if kernel.direction == "forward":
        branch = _leaf(device, dtype, *kernel.sizes)
        function = _Function(
            run=torch.add,
            inputs=(stream, branch),
            exact=lambda one, other: (one + other,),
            part=lambda tensor: tensor[rows],
        )
        return _one_direction(kernel, function)
    total, added = torch.zeros_like(stream), stream.detach()

    def summed() -> torch.Tensor:
        return total.add_(added).to(dtype)

    require_close(summed()[rows], in_float64(added[rows]), str(kernel), tolerance=TOLERANCE[kernel.dtype])
    return summed


def loss(device: torch.device, kernel: StepKernel) -> Work:
    """Mean cross-entropy of logits against random targets."""
    tokens, vocabulary = kernel.sizes
    logits = _leaf(device, TORCH_DTYPE[kernel.dtype], tokens, vocabulary)
    targets = torch.randint(vocabulary, (tokens,), generator=torch.Generator().manual_seed(0)).to(device)
    value = mean_loss(logits, targets)
    backward = partial(torch.autograd.grad, value, logits, retain_graph=True)
    _check_loss(kernel, logits.detach(), targets, value.detach(), backward()[0])
    return backward if kernel.direction == "backward" else partial(mean_loss, logits, targets)


def _check_loss(
    kernel: StepKernel, logits: torch.Tensor, targets: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor
) -> None:
    """Loss: mean of log sum exp - logit of the target, over all rows. Gradient: (softmax - 1 at the target) / rows."""
    tolerance = TOLERANCE[kernel.dtype]
    sums = [logits[at : at + _CHUNK_ROWS].float().logsumexp(1).sum() for at in range(0, len(logits), _CHUNK_ROWS)]
    exact = (in_float64(torch.stack(sums)).sum() - in_float64(logits.gather(1, targets[:, None])).sum()) / len(logits)
    require_close(value, exact, str(kernel), tolerance=tolerance)
    rows = some_rows(len(logits), logits.device)
    wanted = in_float64(logits[rows]).softmax(1)
    wanted[torch.arange(len(rows)), targets[rows].to(wanted.device)] -= 1
    require_close(gradient[rows], wanted / len(logits), f"the gradient of {kernel}", tolerance=tolerance)


_CHUNK_ROWS = 64
"""Logits of so many rows are in fp32 at once."""


def dropout(device: torch.device, kernel: StepKernel) -> Work:
    """A share of the elements becomes zero, the others larger; no reference knows which."""
    x = _leaf(device, TORCH_DTYPE[kernel.dtype], *kernel.sizes)
    run = partial(F.dropout, x, DROPPED, training=True)
    y = run()
    backward = partial(torch.autograd.grad, y, x, torch.ones_like(y), retain_graph=True)
    kept = backward()[0] != 0
    dropped = 1 - int(kept.sum()) / kept.numel()
    error = 5 * math.sqrt(DROPPED * (1 - DROPPED) / kept.numel())
    if abs(dropped - DROPPED) > error:
        raise WorkError(
            f"{kernel} drops {dropped:.4f} of the elements",
            expectation=f"expected {DROPPED} +- {error:.1g}",
            remedy="check the device and the torch installation",
        )
    rows = some_rows(kernel.sizes[0], device)
    exact = in_float64(torch.where(kept[rows], x.detach()[rows], 0.0)) / (1 - DROPPED)
    require_close(y[rows], exact, str(kernel), tolerance=TOLERANCE[kernel.dtype])
    return backward if kernel.direction == "backward" else run
