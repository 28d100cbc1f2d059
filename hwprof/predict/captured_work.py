"""What work does one real step of somebody's loop stand for? Its calls priced, by label, direction and phase."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from hwprof.count.aten.captured import captured_kind
from hwprof.count.aten.registry import aten_cost, unpriced
from hwprof.count.ops.cost import Cost
from hwprof.predict.work import Work, phase_of
from hwprof.specs.job.labels import label_of
from hwprof.specs.record.captured import PlacedCall
from hwprof.specs.record.loop import SeenDtype
from hwprof.specs.record.run import Direction

_DTYPES: dict[str, SeenDtype] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float64": "fp64"}
_COLLECTIVES = ("c10d::", "_c10d_functional::", "_dtensor::")
"""Namespaces of collectives, whose bytes are not this device's memory traffic alone."""
_COPIES = ("fsdp::",)
"""Namespaces of operators that only move memory."""


def captured_work(calls: Iterable[PlacedCall], *, causal_half: bool = False) -> tuple[Work, ...]:
    """One entry for each operator of each label and direction; an instance is one call of average size.

    Args:
        calls: of a whole step.
        causal_half: count half of attention that was called with ``is_causal``.
    """
    sums: dict[tuple[str, Direction, str], Cost] = defaultdict(lambda: Cost.ZERO)
    times: Counter[tuple[str, Direction, str]] = Counter()
    for placed in calls:
        if placed.call.name.startswith(_COLLECTIVES):
            continue
        key = label_of(placed.place.path), placed.direction, placed.place.kind
        sums[key] += aten_cost(placed.call, causal_half=causal_half)
        times[key] += 1
    return tuple(_work(*key, cost=cost, calls=times[key]) for key, cost in sums.items())


def _work(label: str, direction: Direction, operator: str, *, cost: Cost, calls: int) -> Work:
    one = cost * (1 / calls)
    return Work(
        label=label,
        layer_kind=captured_kind(label, operator),
        direction=direction,
        phase=phase_of(label, direction),
        cost=one,
        instances=calls,
        working_set_bytes=one.moved_bytes,
    )


def matmul_dtype(calls: Iterable[PlacedCall]) -> SeenDtype:
    """The format of most matrix-multiply FLOP; ``unknown`` where there are none, or in none of the usual ones."""
    flop: dict[str, float] = defaultdict(float)
    for placed in calls:
        amount = aten_cost(placed.call).matmul_flop
        if amount:
            flop[next((tensor.dtype for tensor in placed.call.inputs if tensor.is_float), "")] += amount
    most = max(flop, key=lambda name: flop[name], default="")
    return _DTYPES.get(most, "unknown")


def unpriced_operators(calls: Iterable[PlacedCall]) -> tuple[str, ...]:
    """Operators whose FLOP nobody has said how to count; collectives, and the copies around them, do none."""
    names = (placed.call.name for placed in calls)
    return unpriced(name for name in names if not name.startswith((*_COLLECTIVES, *_COPIES)))


def recomputes(calls: Iterable[PlacedCall]) -> bool:
    """Whether a part of the forward pass ran again in the backward pass."""
    return any(placed.direction == "recompute" for placed in calls)
