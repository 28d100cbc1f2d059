"""What does a captured module cost? Its calls priced and added up to the same rows as those of a spec's op table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from hwprof.count.aten.registry import aten_cost, unpriced
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.specs.job.labels import kind_of_words, label_of, own_kind
from hwprof.specs.job.settings import Direction, LayerKind
from hwprof.specs.record.captured import Capture, Place

_KIND_OF_OPERATOR: dict[str, LayerKind] = {
    "native_layer_norm": "norm",
    "_fused_rms_norm": "norm",
    "native_batch_norm": "norm",
    "native_group_norm": "norm",
    "embedding": "embedding",
    "nll_loss_forward": "loss",
    "_log_softmax": "loss",
}


@dataclass(slots=True)
class _Instance:
    """What one module does with one operator. Mutable: it is added up while the calls go by."""

    forward: Cost = Cost.ZERO
    backward: Cost = Cost.ZERO
    recompute: Cost = Cost.ZERO
    update: Cost = Cost.ZERO
    saved_bytes: int = 0
    weight_saved_bytes: int = 0
    weight_copy_bytes: int = 0
    parameters: int = 0

    def add(self, direction: Direction, cost: Cost) -> None:
        setattr(self, direction, getattr(self, direction) + cost)


def captured_ops(capture: Capture, *, causal_half: bool = False) -> tuple[Op, ...]:
    """One row for each operator of each module, in the order of their first calls; equal layers are one row.

    A label has several rows of one kind where its layers differ, as by the first one's input, which has no gradient.
    Backward work stands at the forward operator that it is the gradient of. ``input_bytes`` and ``output_bytes`` are 0.

    Args:
        capture: of one forward and backward pass.
        causal_half: count half of attention that was called with ``is_causal``.
    """
    return tuple((half if causal_half else full) for full, half in captured_pairs(capture, label_of))


def captured_pairs(
    capture: Capture, label: Callable[[str], str], *, frozen: Capture | None = None
) -> tuple[tuple[Op, Op], ...]:
    """Each row twice, with all of attention and with half of attention that was called with ``is_causal``.

    Args:
        capture: of one forward and backward pass.
        label: of a module's path; modules with one label whose rows are equal are one row.
        frozen: the same forward pass with all weights frozen: what it keeps less is for gradients of weights.
    """
    both = [_instances(capture, causal_half=half, frozen=frozen) for half in (False, True)]
    rows: dict[tuple[Op, Op], int] = {}
    for place in both[0]:
        full, half = (_row(place, instances[place], label) for instances in both)
        if full != _row(place, _Instance(), label):
            rows[full, half] = rows.get((full, half), 0) + 1
    return tuple((replace(full, repeats=times), replace(half, repeats=times)) for (full, half), times in rows.items())


def operators_unpriced(capture: Capture) -> tuple[str, ...]:
    """Operators that the module called whose FLOP are not known; their bytes are counted."""
    return unpriced(placed.call.name for placed in capture.calls)


def captured_kind(label: str, operator: str) -> LayerKind:
    """The kind of layer of a row: by our own labels, else by the operator, else by the words that people use."""
    own = own_kind(label)
    if own != "other":
        return own
    plain = operator.partition("::")[2]
    if plain in _KIND_OF_OPERATOR:
        return _KIND_OF_OPERATOR[plain]
    return kind_of_words(label)


def _instances(capture: Capture, *, causal_half: bool, frozen: Capture | None = None) -> Mapping[Place, _Instance]:
    instances: dict[Place, _Instance] = defaultdict(_Instance)
    costs: dict[int, Cost] = {}  # layers that are equal have their calls in common
    for placed in capture.calls:
        cost = costs.get(id(placed.call))
        if cost is None:
            cost = costs[id(placed.call)] = aten_cost(placed.call, causal_half=causal_half)
        instances[placed.place].add(placed.direction, cost)
    for kept in capture.kept:
        if kept.weight_copy:
            instances[kept.place].weight_copy_bytes += kept.size_bytes
        else:
            instances[kept.place].saved_bytes += kept.size_bytes
    if frozen is not None:
        for instance in instances.values():
            instance.weight_saved_bytes = instance.saved_bytes
        for kept in frozen.kept:
            instances[kept.place].weight_saved_bytes -= 0 if kept.weight_copy else kept.size_bytes
    for use in capture.parameters:
        instances[use.place].parameters += use.elements
    return instances


def _row(place: Place, instance: _Instance, label: Callable[[str], str]) -> Op:
    own = label_of(place.path)
    return Op(
        label=label(place.path),
        kind=place.kind,
        layer_kind=captured_kind(own, place.kind),
        repeats=1,
        forward=instance.forward,
        backward=instance.backward,
        recompute=instance.recompute,
        update=instance.update,
        saved_bytes=instance.saved_bytes,
        weight_saved_bytes=instance.weight_saved_bytes,
        weight_copy_bytes=instance.weight_copy_bytes,
        parameters=instance.parameters,
    )
