"""How many bytes a second does a layer or RMS norm move, forward and backward, at the model's width?

It is no roof: it shows how near torch's own norm kernels come to the memory roof. They run in fp32, as under autocast.
Bytes are those of the tensors, each once (forward: input and output; backward: input and both gradients), and of the
weights and their gradients. A slice of the result is checked against float64.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)

from hwprof.errors import WorkError
from hwprof.measure.probes.attention_check import random_normal
from hwprof.measure.probes.bench import Bench
from hwprof.measure.probes.matmul import l2_flush
from hwprof.measure.probes.operators import warmed_up
from hwprof.measure.probes.rotation import rotating
from hwprof.measure.probes.sampling import Work
from hwprof.measure.probes.step.check import in_float64
from hwprof.specs.job.step_kernels import StepKernel
from hwprof.specs.measurement import Ceiling

NormKind = Literal["layernorm", "rmsnorm"]
NormPass = Literal["forward", "backward"]
NORM_PASSES: tuple[NormPass, ...] = ("forward", "backward")

_EPSILON = 1e-5
_FLOAT_BYTES = 4
_TOLERANCE = 1e-4
_CHECKED_ROWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class NormShape:
    """A norm over ``tokens`` vectors of ``width`` elements."""

    kind: NormKind
    tokens: int
    width: int

    @classmethod
    def of(cls, kernel: StepKernel) -> NormShape:
        """The norm that a kernel of a step is."""
        tokens, width = kernel.sizes
        return cls(kind="layernorm" if kernel.variant == "layernorm" else "rmsnorm", tokens=tokens, width=width)

    def moved_bytes(self, direction: NormPass) -> int:
        """Of the vectors two tensors forward and three backward; of the weights one and two, and as many of biases."""
        vectors, weights = (2, 1) if direction == "forward" else (3, 2)
        biases = 0 if self.kind == "rmsnorm" else weights - (direction == "backward")
        return _FLOAT_BYTES * self.width * (vectors * self.tokens + weights + biases)

    def __str__(self) -> str:
        return f"{self.tokens}x{self.width}"


def norm_ceiling(
    bench: Bench, shape: NormShape, direction: NormPass, *, deadline_s: float, counted_bytes: float = 0.0
) -> Ceiling:
    """``norm.<kind>.fp32.<tokens>x<width>.<direction>``: what torch's norm moves a second.

    The conditions have the median time of a call and how many operators it dispatches.

    Args:
        bench: where to measure.
        shape: the norm.
        direction: which pass; backward is timed alone, over what one forward kept.
        deadline_s: time set aside for it.
        counted_bytes: of one call, by the op table, which counts each pass over the vectors; 0 = not counted.

    Raises:
        WorkError: the result is wrong.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        work = rotating(lambda: _work(bench.device, shape, direction), shape.moved_bytes(direction), bench.device)
        warm = warmed_up(bench, work, deadline_s=deadline_s)
        timed = warm.bench.time(work, deadline_s=warm.deadline_s, prepare=l2_flush(bench.device))
    return bench.ceiling(
        f"norm.{shape.kind}.fp32.{shape}.{direction}",
        "kernel",
        timed,
        work_per_call=shape.moved_bytes(direction),
        dtype="fp32",
        conditions={
            "tokens": shape.tokens,
            "width": shape.width,
            "call_s": statistics.median(timed.seconds),
            "counted_bytes": counted_bytes,
            "operators": warm.operators,
        },
    )


def _work(device: torch.device, shape: NormShape, direction: NormPass) -> Work:
    x = random_normal(device, shape.tokens, shape.width).requires_grad_()
    weight = torch.ones(shape.width, device=device, requires_grad=True)
    bias = None if shape.kind == "rmsnorm" else torch.zeros(shape.width, device=device, requires_grad=True)

    def forward() -> torch.Tensor:
        if bias is None:
            return F.rms_norm(x, (shape.width,), weight, _EPSILON)
        return F.layer_norm(x, (shape.width,), weight, bias, _EPSILON)

    y = forward()
    check_norm(y.detach(), x.detach(), shape.kind)
    if direction == "forward":
        return forward
    operands = (x, weight) if bias is None else (x, weight, bias)
    gradient = random_normal(device, shape.tokens, shape.width)
    return lambda: torch.autograd.grad(y, operands, gradient, retain_graph=True)


def check_norm(y: torch.Tensor, x: torch.Tensor, kind: NormKind) -> None:
    """Compare some rows of a norm with unit weights with float64.

    Args:
        y: result, [tokens, width].
        x: input, [tokens, width].
        kind: which norm.

    Raises:
        WorkError: an element is off by more than ``_TOLERANCE``.
    """
    rows = torch.linspace(0, x.shape[0] - 1, min(_CHECKED_ROWS, x.shape[0]), device=x.device).long()
    exact = in_float64(x[rows])
    if kind == "layernorm":
        exact = exact - exact.mean(dim=1, keepdim=True)
    exact = exact / (exact.square().mean(dim=1, keepdim=True) + _EPSILON).sqrt()
    worst = float((in_float64(y[rows]) - exact).abs().max())
    if not worst <= _TOLERANCE:
        raise WorkError(
            f"a {kind} is wrong by {worst:.2g}",
            expectation=f"expected at most {_TOLERANCE:g}",
            remedy="check the device and the torch installation",
        )
