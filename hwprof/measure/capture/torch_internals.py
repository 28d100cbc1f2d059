"""Which parts of torch's interior does capture rest on? All of them, in one place; they exist from torch 2.4 on."""
# ruff: noqa: SLF001 (this module is the border to names that torch does not promise)

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from hwprof.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What an operator's schema says.

    Attributes:
        name: namespace and operator.
        names: of its arguments, in order.
        defaults: of arguments that may be left out.
        receiving: arguments that only receive a result.
        written: arguments that are changed in place.
    """

    name: str
    names: tuple[str, ...]
    defaults: dict[str, Any]
    receiving: frozenset[str]
    written: tuple[str, ...]


@cache
def signature_of(operator: Any) -> Signature:
    """The signature of one overload."""
    arguments = operator._schema.arguments
    changed = [each for each in arguments if each.alias_info is not None and each.alias_info.is_write]
    return Signature(
        name=operator._schema.name,
        names=tuple(each.name for each in arguments),
        defaults={each.name: each.default_value for each in arguments if each.has_default_value()},
        receiving=frozenset(each.name for each in changed if each.is_out),
        written=tuple(each.name for each in changed if not each.is_out),
    )


def is_composite(operator: Any, args: tuple[Any, ...]) -> bool:
    """Whether torch has no kernel of its own for this operator on the arguments' device, only smaller operators."""
    device = next((leaf.device.type for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)), "cpu")
    return isinstance(operator, torch._ops.OpOverload) and _composite(operator, device)


@cache
def _composite(operator: Any, device: str) -> bool:
    key = {"cpu": "CPU", "cuda": "CUDA"}.get(device, "Meta")
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return has(operator.name(), "CompositeImplicitAutograd") and not has(operator.name(), key)


def is_sharded(kind: type) -> bool:
    """Whether a tensor class stands for parts on several devices, and runs its operators on its own part."""
    return kind.__name__ == "DTensor"


@contextmanager
def without_kernels_of_layers() -> Iterator[None]:
    """Without oneDNN, whose kernels of whole recurrent layers show no products."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def newest_node() -> int:
    """Sequence number of the autograd node that was made last in this thread."""
    number: int = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]
    return number - 1


WEIGHTS = 1 << 63
"""Nodes that hand a gradient to a weight have numbers beyond it."""


def number_of_node(node: Any) -> int:
    """Sequence number of an autograd node."""
    number: int = node._sequence_nr()
    return number


def running_node() -> tuple[int, str] | None:
    """Sequence number and name of the autograd node whose backward runs."""
    node = torch._C._current_autograd_node()
    return None if node is None else (node._sequence_nr(), node.name())


class Storages:
    """Numbers for the memory behind tensors: equal for views of one another, never used twice."""

    def __init__(self) -> None:
        self._numbers: Any = WeakIdKeyDictionary()
        self._next = 0

    def number(self, tensor: torch.Tensor) -> int:
        """The number of a tensor's memory.

        Raises:
            InputError: the tensor has no single memory (sparse, nested).
        """
        storage = storage_of(tensor)
        number: int | None = self._numbers.get(storage)
        if number is None:
            number = self._numbers[storage] = self.fresh()
        return number

    def fresh(self) -> int:
        """A number that no memory has."""
        self._next += 1
        return self._next - 1

    def alive(self) -> dict[int, int]:
        """Number -> bytes of all memory that something still holds."""
        return {number: int(storage.nbytes()) for storage, number in list(self._numbers.items())}


def storage_of(tensor: torch.Tensor) -> torch.UntypedStorage:
    """The memory behind a tensor.

    Raises:
        InputError: it has no single one (sparse, nested).
    """
    if tensor.layout is not torch.strided or tensor.is_nested:
        raise InputError(
            f"the module makes a tensor of layout {'nested' if tensor.is_nested else tensor.layout}",
            expectation="tensors of plain, strided layout can be counted",
            remedy="use dense tensors (sparse=False in an embedding)",
        )
    return tensor.untyped_storage()
