"""What arguments did a recorded operator get? Shapes and element types as a profile spells them, and their bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from hwprof.spans.columns import Collective, Shapes

_ELEMENTS: dict[str, tuple[str, int]] = {
    "float": ("float32", 4),
    "double": ("float64", 8),
    "bfloat16": ("bfloat16", 2),
    "half": ("float16", 2),
    "float8_e4m3fn": ("float8_e4m3fn", 1),
    "float8_e5m2": ("float8_e5m2", 1),
    "complex<float>": ("complex64", 8),
    "complex<double>": ("complex128", 16),
    "long": ("int64", 8),
    "long int": ("int64", 8),
    "int": ("int32", 4),
    "short": ("int16", 2),
    "short int": ("int16", 2),
    "char": ("int8", 1),
    "signed char": ("int8", 1),
    "byte": ("uint8", 1),
    "unsigned char": ("uint8", 1),
    "bool": ("bool", 1),
}
"""An element type as operators (in C++) and collectives (torch's ScalarType) name it -> torch's name, bytes."""

TENSOR_LIST = "TensorList"
LISTED_ELEMENT = _ELEMENTS["float"]
"""A list of tensors does not tell their types; they are taken for fp32, as optimizers' are."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Arguments of one call as a profile has them, in the order of the operator's schema.

    Attributes:
        dims: sizes of a tensor; a list of those for a list of tensors; empty for what is no tensor.
        types: C++ element type, "TensorList", "Scalar", "ScalarList" or "".
        strides: as ``dims``; may be empty.
        values: what is no tensor, as text; may be empty.
    """

    dims: Sequence[Any]
    types: Sequence[str]
    strides: Sequence[Any] = ()
    values: Sequence[str] = ()


def element_of(kind: str) -> tuple[str, int] | None:
    """Torch's name of an element type and its bytes; None for what is no element type."""
    return _ELEMENTS.get(kind.removeprefix("c10::").lower())


def recorded(shapes: Shapes) -> Recorded | None:
    """The arguments that a trace spells; None where they are damaged."""
    try:
        dims, types, strides, values = (
            json.loads(text) if text else [] for text in (shapes.dims, shapes.types, shapes.strides, shapes.concrete)
        )
    except (ValueError, RecursionError):
        return None
    fields = (dims, types, strides, values)
    if not all(isinstance(field, list) for field in fields) or not all(isinstance(kind, str) for kind in types):
        return None
    return Recorded(dims=dims, types=types, strides=strides, values=[str(value) for value in values])


def tensor_bytes(call: Recorded) -> tuple[float, ...]:
    """The sizes of the tensors among the arguments; a list of tensors counts as one."""
    sizes = []
    for kind, dims in zip(call.types, call.dims, strict=False):
        listed = kind == TENSOR_LIST
        element = LISTED_ELEMENT if listed else element_of(kind)
        if element is not None:
            sizes.append(float(sum(map(prod, dims)) if listed else prod(dims)) * element[1])
    return tuple(sizes)


def collective_bytes(said: Collective) -> tuple[float, float]:
    """How much goes into a collective on one rank and how much comes out, by its own words; 0 for an unknown type."""
    _, each = element_of(said.dtype) or ("", 0)
    return float(said.elements * each), float(said.out_elements * each)
