"""What is an operation? Its cost by direction, what it keeps for the backward pass, and the registry of its kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hwprof.count.ops.cost import Cost
from hwprof.count.ops.precision import Precision
from hwprof.specs.job.settings import Direction, LayerKind

Device = Literal["cpu", "cuda"]
AttentionKernel = Literal["flash", "materialised"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How an operation is carried out; its arithmetic is the same, its traffic is not.

    Attributes:
        precision: element widths.
        device: which of torch's kernels run (they keep different tensors for the backward pass).
        fused: False = eager kernels, each reading and writing memory; True = compiled: chains of elementwise
            operations, casts and norms are one pass each, and intermediate results stay in registers.
        attention: ``flash`` = one kernel that stores no scores; ``materialised`` = scores in memory, in the format of
            the products (Megatron-LM's unfused attention).
        wide_norms: RMS norms are not one kernel but steps in fp32; without effect where kernels are fused.
        repeats_kv: keys and values are copied to all query heads before attention.
        recurrence_kernels: state spaces and linear attention of captured models run as kernels made for them; they do
            where kernels are fused.
    """

    precision: Precision
    device: Device = "cuda"
    fused: bool = False
    attention: AttentionKernel = "flash"
    wide_norms: bool = False
    repeats_kv: bool = False
    recurrence_kernels: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OpCost:
    """Cost of one instance of an operation on one micro-batch.

    Attributes:
        forward: cost of the forward pass.
        backward: cost of the backward pass.
        update: cost of what happens once a step, after all backward passes (clip, optimizer).
        saved_bytes: kept from forward to backward, beyond what another operation already keeps; parameters excluded.
        weight_saved_bytes: of that what the gradient of its own weight alone needs; a frozen weight saves it.
        weight_copy_bytes: narrow copies of weights that autocast makes and backward needs.
        input_bytes: size of the inputs that get a gradient.
        output_bytes: size of the result of its last kernel, or of all its matrix-multiply kernels.
    """

    forward: Cost = Cost.ZERO
    backward: Cost = Cost.ZERO
    update: Cost = Cost.ZERO
    saved_bytes: int = 0
    weight_saved_bytes: int = 0
    weight_copy_bytes: int = 0
    input_bytes: int = 0
    output_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operation of a model: ``repeats`` instances of equal cost, each field being the cost of ONE instance.

    Attributes:
        label: module path with layer numbers replaced by ``*`` (see ``hwprof.specs.job.labels``).
        kind: its row in the op table.
        layer_kind: the kind of layer that it belongs to.
        repeats: how many instances there are (the number of layers, or 1).
        forward: cost of its forward pass.
        backward: cost of its backward pass.
        recompute: cost of running (parts of) its forward pass again during backward.
        update: cost once a step, after all backward passes.
        saved_bytes: kept for backward, of one micro-batch, beyond what another operation keeps.
        weight_saved_bytes: of that what the gradient of its own weight alone needs.
        weight_copy_bytes: narrow copies of its weights, kept for backward.
        input_bytes: size of the inputs that get a gradient, of one micro-batch.
        output_bytes: size of its result, of one micro-batch.
        parameters: of one instance; those of a tied head are counted at the embedding.
        micro_batches: how many micro-batches the described work has; costs are of one of them.
        calls: of a captured operator in the forward pass of one instance.
    """

    label: str
    kind: str
    layer_kind: LayerKind
    repeats: int
    forward: Cost
    backward: Cost
    recompute: Cost = Cost.ZERO
    update: Cost = Cost.ZERO
    saved_bytes: int = 0
    weight_saved_bytes: int = 0
    weight_copy_bytes: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    parameters: int = 0
    micro_batches: int = 1
    calls: int = 1

    @property
    def in_layer(self) -> bool:
        """Whether it is repeated in every layer, or in every layer of its sort."""
        return "layers.*" in self.label

    def cost(self, direction: Direction) -> Cost:
        """Cost of all instances on all micro-batches, in one direction."""
        costs = {
            "forward": self.forward,
            "backward": self.backward,
            "recompute": self.recompute,
            "update": self.update,
        }
        return costs[direction] * (self.repeats * self.micro_batches)

    @property
    def total(self) -> Cost:
        """Cost of all instances on all micro-batches, in all directions."""
        return (self.forward + self.backward + self.recompute + self.update) * (self.repeats * self.micro_batches)


CostFunction = Callable[..., OpCost]

OPS: dict[str, CostFunction] = {}
"""Op kind -> pure function ``(how: Execution, *, shapes...) -> OpCost``."""


def register(kind: str) -> Callable[[CostFunction], CostFunction]:
    """Enter a cost function into the op table.

    Raises:
        ValueError: the kind is registered already; two formulas for one kind would make the count ambiguous.
    """

    def enter(function: CostFunction) -> CostFunction:
        if kind in OPS:
            raise ValueError(f"op kind {kind!r} is registered already, by {OPS[kind].__module__}")
        OPS[kind] = function
        return function

    return enter
