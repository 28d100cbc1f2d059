"""What does it cost to turn gradients into new weights? Clipping and the optimizers, once a step."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.count.cost import Cost
from hwprof.count.op import Execution, OpCost, register
from hwprof.specs.settings import OptimizerImplementation, OptimizerName


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Passes over the parameters: how often an fp32 array of their size is read and written, and FLOP a parameter."""

    reads: int
    writes: int
    flop: int


SEPARATE_PASSES: dict[OptimizerName, Passes] = {
    # w·(1-λη) | m lerp g | v·β₂ | v addcmul g,g | √v | /√(1-β₂ᵗ) | +ε | w addcdiv m,·
    "adamw": Passes(reads=12, writes=8, flop=14),
    "adam": Passes(reads=11, writes=7, flop=13),  # the same without the decay of w
    "sgd": Passes(reads=7, writes=4, flop=6),  # g + λ·w | buf·μ | buf + g | w - η·buf
    # ‖w‖ | row norms of g | column norms of g | row x column | /mean | clamp | rsqrt | ·g | ‖update‖ | w + update
    "adafactor": Passes(reads=11, writes=6, flop=15),
}
"""One kernel for each line of the optimizer (weight decay in adamw and sgd, momentum in sgd), in a
loop over tensors or over lists of them (``foreach``): the same passes.

Read off torch.optim (adam.py, sgd.py, _adafactor.py: ``_single_tensor_*``, ``_multi_tensor_*``); the list form of
Adafactor scales its update in one pass more, which is not counted."""

ONE_PASS: dict[OptimizerName, Passes] = {
    "adamw": Passes(reads=4, writes=3, flop=14),  # w, g, m, v in; w, m, v out
    "adam": Passes(reads=4, writes=3, flop=13),
    "sgd": Passes(reads=3, writes=2, flop=6),  # w, g, buf in; w, buf out
}
"""Everything in one kernel: ``fused=True``. torch has no such kernel for Adafactor."""


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

    >>> from hwprof.count.precision import Precision
    >>> how = Execution(precision=Precision.of("bf16"))
    >>> optimizer(how, parameters=1000, name="adamw", implementation="fused").update.moved_bytes
    28000
    """
    passes = ONE_PASS.get(name, SEPARATE_PASSES[name]) if implementation == "fused" else SEPARATE_PASSES[name]
    array = parameters * how.precision.weight_bytes
    return OpCost(
        update=Cost(
            vector_flop=passes.flop * parameters, read_bytes=passes.reads * array, write_bytes=passes.writes * array
        )
    )
