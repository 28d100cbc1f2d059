"""How long does it take to clip the gradients of some weights, and to update them?"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from hwprof.measure.probes.sampling import Work
from hwprof.measure.probes.step.check import exact_on, in_float64, require_close
from hwprof.specs.job.settings import OptimizerImplementation, OptimizerName
from hwprof.specs.job.step_kernels import StepKernel
from hwprof.train.optimizers import build_optimizer

_WEIGHT, _GRADIENT, _RATE = 0.5, 0.01, 1e-3


def clip(device: torch.device, kernel: StepKernel) -> Work:
    """The norm of all gradients, and their product with a factor."""
    weights = _Weights(device, kernel.tensors)
    norm = nn.utils.clip_grad_norm_(weights.parameters(), 1.0)
    exact = torch.tensor(_GRADIENT * math.sqrt(kernel.sizes[1]), dtype=torch.float64, device=exact_on(device))
    require_close(norm, exact, str(kernel), tolerance=_NORM_TOLERANCE)
    return lambda: nn.utils.clip_grad_norm_(weights.parameters(), 1.0)


def optimizer(device: torch.device, kernel: StepKernel) -> Work:
    """One update; the first of them is checked against the optimizer's formula."""
    name, implementation = _names(kernel)
    weights = _Weights(device, kernel.tensors)
    built = build_optimizer(weights, name, implementation, learning_rate=_RATE)
    decay = float(built.param_groups[0]["weight_decay"])
    built.step()
    matrix = next(weight for weight in weights.all if weight.dim() > 1)
    changed = matrix.detach().flatten()[-1:] - _WEIGHT
    exact = torch.full_like(in_float64(changed), _FIRST_CHANGE[name](decay))
    require_close(changed, exact, str(kernel), tolerance=_CHANGE_TOLERANCE)
    return built.step


_NORM_TOLERANCE = 2e-2
"""A sum of millions of squares in fp32."""

_CHANGE_TOLERANCE = 2e-2
"""A change of a thousandth of a weight of 1 loses four digits of fp32."""


def _names(kernel: StepKernel) -> tuple[OptimizerName, OptimizerImplementation]:
    name, _, implementation = kernel.variant.partition("_")
    return name, implementation  # type: ignore[return-value]  # made of these words


_FIRST_CHANGE: dict[OptimizerName, Callable[[float], float]] = {
    "adamw": lambda decay: -_RATE * (1 + decay * _WEIGHT),
    "adam": lambda _decay: -_RATE,
    "sgd": lambda decay: -_RATE * (_GRADIENT + decay * _WEIGHT),
    "adafactor": lambda _decay: -_RATE * _WEIGHT,
}
"""What the first step adds to a weight whose tensor and gradients are all alike.

Adam: both moments are the gradient's own, so the step is the rate against its sign; AdamW takes rate x decay x weight
off beside. Adafactor: of the root mean square of the tensor, its rate at step 1 being at most ``_RATE``."""


class _Weights(nn.Module):
    """Weights of given shapes, with gradients."""

    def __init__(self, device: torch.device, shapes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.all = nn.ParameterList(nn.Parameter(torch.full(shape, _WEIGHT, device=device)) for shape in shapes)
        for weight in self.all:
            weight.grad = torch.full_like(weight, _GRADIENT)
