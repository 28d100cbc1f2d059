"""What does an operator cost that a profile recorded? Shapes and types of its arguments, priced like a captured call.

A profile says nothing of results: their shapes follow from the arguments' here. Lists of tensors have no types in a
profile; their elements are taken for fp32, as optimizers' are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any

from hwprof.count.aten.fused import CAUSAL, FUSED, fused_cost
from hwprof.count.aten.registry import ATEN, aten_cost, plain_name, unpriced
from hwprof.count.aten.results import result_shapes
from hwprof.count.aten.signatures import SIGNATURES, WRITTEN
from hwprof.count.ops.cost import Cost
from hwprof.spans.arguments import LISTED_ELEMENT, TENSOR_LIST, Recorded, element_of
from hwprof.specs.record.captured import AtenCall, TensorView, Value, tensors_in

_MOST_LISTED = 100_000
_MOST = 1e30
"""FLOP or bytes beyond this are those of a damaged trace."""
_CAUSAL_ARGUMENTS = ("is_causal", "custom_mask_type")
_VALUES: dict[str, Value] = {"True": True, "False": False, "": None}


def is_priced(name: str) -> bool:
    """Whether the operator has a cost function of its own, so that what it calls is not counted again."""
    return name in ATEN or name.removesuffix("_") in ATEN or name in FUSED


def recorded_cost(name: str, recorded: Recorded) -> Cost | None:
    """Cost of one call; None where nobody has said how to count it, or the arguments do not fit the operator."""
    own = name.startswith("aten::")
    if own and unpriced([name]):
        return None
    try:
        cost = _aten_cost(_call(name, recorded)) if own else fused_cost(name, recorded)
    except (LookupError, TypeError, ValueError, AssertionError, ArithmeticError, StopIteration):
        return None  # a damaged trace, or another operator of the same name: the formula asks for what is not there
    return cost if cost and 0 <= cost.flop < _MOST and 0 <= cost.moved_bytes < _MOST else None


def _aten_cost(call: AtenCall) -> Cost | None:
    return aten_cost(call) if call.inputs else None


def is_causal(name: str, recorded: Recorded) -> bool:
    """Whether a call of attention says that no query sees what comes after it.

    Memory-efficient attention has a number for its mask; 1 and 2 are the causal ones.
    """
    names = SIGNATURES.get(name, ())
    place = next((names.index(each) for each in _CAUSAL_ARGUMENTS if each in names), CAUSAL.get(name, -1))
    return 0 <= place < len(recorded.values) and recorded.values[place] in {"True", "1", "2"}


def recorded_dtype(recorded: Recorded) -> str:
    """The first floating-point type among the arguments, as torch calls it; "" if there is none."""
    found = (element[0] for kind in recorded.types if (element := element_of(kind)))
    return next((name for name in found if name.startswith(("float", "bfloat"))), "")


def _call(name: str, recorded: Recorded) -> AtenCall:
    names = SIGNATURES.get(name) or SIGNATURES.get(name.removesuffix("_"))
    values = _arguments(recorded)
    if names is None:
        names = ("self", *(f"argument{place}" for place in range(1, len(values))))
    arguments = dict(zip(names, values, strict=False))
    written = WRITTEN.get(name, ("self",) if name.endswith("_") and not name.endswith("__") else ())
    written = tuple(each for each in written if each in arguments)
    results = () if written else _results(name, arguments)
    return AtenCall(name=name, arguments=arguments, results=results, written=written)


def _arguments(recorded: Recorded) -> list[Value]:
    count = len(recorded.dims)
    types = [*recorded.types, *("float" if dims else "" for dims in recorded.dims[len(recorded.types) :])]
    strides = [*recorded.strides, *([()] * count)]
    values = [*recorded.values, *([""] * count)]
    return [_value(place, *each) for place, each in enumerate(zip(recorded.dims, types, strides, values, strict=False))]


def _value(place: int, dims: Any, kind: str, strides: Any, text: str) -> Value:
    """Storages count from the places, so that every tensor is memory of its own."""
    if kind == TENSOR_LIST or (dims and isinstance(dims[0], list)):
        if len(dims) > _MOST_LISTED:
            raise ValueError("a list of more tensors than an operator takes")
        return tuple(_tensor(each, LISTED_ELEMENT, (), -1 - place) for each in dims)
    element = element_of(kind)
    return _tensor(dims, element, strides, place) if element else _number(text)


def _tensor(dims: Any, element: tuple[str, int], strides: Any, storage: int) -> TensorView:
    shape = tuple(int(size) for size in dims)
    if any(size < 0 for size in shape):
        raise ValueError(f"a tensor of shape {shape}")
    dtype, width = element
    spread = len(strides) == len(shape)
    kept = [size for place, size in enumerate(shape) if not spread or strides[place] != 0]
    return TensorView(shape=shape, dtype=dtype, element_bytes=width, elements=prod(kept), storage=storage)


def _number(text: str) -> Value:
    """A scalar or a list of scalars; None for what is neither."""
    if text in _VALUES:
        return _VALUES[text]
    try:
        found = json.loads(text.replace("True", "true").replace("False", "false"))
    except (ValueError, RecursionError):
        return None
    return tuple(found) if isinstance(found, list) else found if isinstance(found, (int, float)) else None


def _results(name: str, arguments: Mapping[str, Value]) -> tuple[TensorView, ...]:
    first = [tensor for value in arguments.values() for tensor in tensors_in(value)]
    like = next((tensor for tensor in first if tensor.is_float), first[0] if first else None)
    if like is None:
        return ()
    shapes = result_shapes(name, plain_name(name), arguments)
    return tuple(
        TensorView(
            shape=shape,
            dtype=like.dtype,
            element_bytes=like.element_bytes,
            elements=prod(shape),
            storage=-(10**6) - place,
        )
        for place, shape in enumerate(shapes)
    )
