"""What does it cost to turn gradients into new weights? Clipping and the optimizers, once a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Execution, OpCost, register
from hwprof.specs.job.settings import OptimizerImplementation, OptimizerName
from hwprof.specs.job.switches import JobOptimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Passes over the parameters: how often an fp32 array of their size is read and written, and FLOP a parameter."""

    reads: int
    writes: int
    flop: int


SEPARATE_PASSES: dict[JobOptimizer, Passes] = {
    # w·(1-λη) | m lerp g | v·β₂ | v addcmul g,g | √v | /√(1-β₂ᵗ) | +ε | w addcdiv m,·
    "adamw": Passes(reads=12, writes=8, flop=14),
    "adam": Passes(reads=11, writes=7, flop=13),  # the same without the decay of w
    "sgd": Passes(reads=7, writes=4, flop=6),  # g + λ·w | buf·μ | buf + g | w - η·buf
    # ‖w‖ | row norms of g | column norms of g | row x column | /mean | clamp | rsqrt | ·g | ‖update‖ | w + update
    "adafactor": Passes(reads=11, writes=6, flop=15),
    # w·(1-λη) | m lerp g | sign | w - η·sign | m lerp g (Chen et al. 2023, algorithm 2)
    "lion": Passes(reads=8, writes=5, flop=10),
}
"""One kernel for each line of the optimizer (weight decay in adamw and sgd, momentum in sgd), in a
loop over tensors or over lists of them (``foreach``): the same passes.

Read off torch.optim (adam.py, sgd.py, _adafactor.py: ``_single_tensor_*``, ``_multi_tensor_*``); the list form of
Adafactor scales its update in one pass more, which is not counted."""

ONE_PASS: dict[JobOptimizer, Passes] = {
    "adamw": Passes(reads=4, writes=3, flop=14),  # w, g, m, v in; w, m, v out
    "adam": Passes(reads=4, writes=3, flop=13),
    "sgd": Passes(reads=3, writes=2, flop=6),  # w, g, buf in; w, buf out
    "lion": Passes(reads=3, writes=2, flop=10),  # w, g, m in; w, m out
}
"""Everything in one kernel: ``fused=True``. torch has no such kernel for Adafactor, nor for Lion, others have."""

MUON_STEPS = 5
"""Newton-Schulz iterations of Muon (Jordan et al. 2024)."""

_MUON_BYTES = 2
"""They run in bf16."""


class UpdatedWeight(NamedTuple):
    """Weights of one shape, so many of them; ``orthogonal`` = Muon makes their update orthogonal."""

    shape: tuple[int, ...]
    number: int
    orthogonal: bool


def update_cost(
    weights: Sequence[UpdatedWeight],
    optimizer: JobOptimizer,
    *,
    fused: bool,
    element_bytes: float = 4,
    narrow_bytes: float = 0,
) -> Cost:
    """One update of all weights, whose arrays have ``element_bytes`` each; narrow weights are written beside them."""
    elements = sum(math.prod(weight.shape) * weight.number for weight in weights)
    written = Cost(write_bytes=elements * narrow_bytes)
    if optimizer == "adamw-8bit":  # one kernel: w, g and two moments of a byte in; w and moments out
        two = 2 * elements
        arrays = elements * element_bytes
        return written + Cost(vector_flop=18 * elements, read_bytes=2 * arrays + two, write_bytes=arrays + two)
    if optimizer != "muon":
        return written + _passes(elements, optimizer, fused=fused, element_bytes=element_bytes)
    chosen = [weight for weight in weights if weight.orthogonal]
    rest = elements - sum(math.prod(weight.shape) * weight.number for weight in chosen)
    cost = written + _passes(rest, "adamw", fused=fused, element_bytes=element_bytes)
    return sum((_orthogonal(weight, element_bytes) for weight in chosen), cost)


def _passes(elements: int, optimizer: JobOptimizer, *, fused: bool, element_bytes: float) -> Cost:
    passes = ONE_PASS.get(optimizer, SEPARATE_PASSES[optimizer]) if fused else SEPARATE_PASSES[optimizer]
    array = elements * element_bytes
    return Cost(vector_flop=passes.flop * elements, read_bytes=passes.reads * array, write_bytes=passes.writes * array)


def _orthogonal(weight: UpdatedWeight, element_bytes: float) -> Cost:
    """Muon's update of matrices [a, b], a the shorter side: momentum, then five times X·Xᵀ, A·A and B·X.

    Products of an iteration: 2·a²·b, 2·a³ and 2·a²·b FLOP; they read and write X, A and B in bf16. Momentum and weight
    are read and written in ``element_bytes``.
    """
    *stacked, one, other = weight.shape
    matrices, short, long = math.prod(stacked) * weight.number, min(one, other), max(one, other)
    matrix, square = short * long, short * short
    iteration = Cost(
        matmul_flop=4 * square * long + 2 * square * short,
        vector_flop=2 * matrix + 3 * square,
        read_bytes=_MUON_BYTES * (3 * matrix + 4 * square),
        write_bytes=_MUON_BYTES * (matrix + 2 * square),
    )
    momentum = Cost(
        vector_flop=10 * matrix, read_bytes=5 * matrix * element_bytes, write_bytes=3 * matrix * element_bytes
    )
    return (iteration * MUON_STEPS + momentum) * matrices


@register("clip")
def clip(how: Execution, *, parameters: int) -> OpCost:
    """Clip the global gradient norm: one pass to add up g², one to scale g (torch always scales, if only by 1)."""
    g = parameters * how.precision.weight_bytes
    return OpCost(update=Cost(vector_flop=3 * parameters, read_bytes=2 * g, write_bytes=g))


@register("unscale")
def unscale(how: Execution, *, parameters: int) -> OpCost:
    """Divide gradients by the fp16 loss scale and look for infinities, in one pass (torch.amp.GradScaler)."""
    g = parameters * how.precision.weight_bytes
    return OpCost(update=Cost(vector_flop=2 * parameters, read_bytes=g, write_bytes=g))


@register("optimizer")
def optimizer(
    how: Execution, *, parameters: int, name: OptimizerName, implementation: OptimizerImplementation
) -> OpCost:
    """One update of all parameters; weights, gradients and state are fp32. Compiling the model does not change it.

    >>> from hwprof.count.ops.precision import Precision
    >>> how = Execution(precision=Precision.of("bf16"))
    >>> optimizer(how, parameters=1000, name="adamw", implementation="fused").update.moved_bytes
    28000
    """
    fused, width = implementation == "fused", how.precision.weight_bytes
    return OpCost(update=_passes(parameters, name, fused=fused, element_bytes=width))
