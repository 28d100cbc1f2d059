"""What may a fake module look at? Values that follow from known ones are known, and routing is made up, evenly.

Under fake tensors alone a module can't ask which tokens stand for images, or which tokens meet an expert. What follows
from whole numbers that went in, or from constants, costs next to nothing and is computed for real beside fake tensors.
What weights decide (which experts are best) is not known; the choice is made up so that each is chosen equally often.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import prod
from typing import Any

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

from hwprof.measure.capture.fake import KNOWN_ELEMENTS, ShapesOnly, fake_of
from hwprof.measure.capture.torch_internals import signature_of, storage_of

aten = torch.ops.aten

_CONSTANT = frozenset(
    {aten.zeros_like, aten.ones_like, aten.full_like, aten.new_zeros, aten.new_ones, aten.new_full, aten.fill_}
)
"""Operators whose result does not depend on the values of their tensor."""

_UNKNOWN = frozenset({aten.empty, aten.empty_like, aten.new_empty, aten.empty_strided, aten.rand, aten.randn})
_DYNAMIC = (DataDependentOutputException, DynamicOutputShapeException)


class KnownValues(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types it so
    """Follows values that are known; entered inside of a ``FakeTensorMode``.

    Args:
        fake: that mode.
    """

    def __init__(self, fake: ShapesOnly) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._fake = fake
        self._values = fake.values
        self._stale: Any = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator for its shapes, and beside that for its values where they are known."""
        given = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, given)) if isinstance(leaf, torch.Tensor)]
        if not self._follows(func, tensors, args):
            self._forget_written(func, args, given)
            return self._for_shapes(func, args, given)
        known_args, known_given = tree_map(self._known_or_like, (args, given))
        with _disable_current_modes():
            values = func(*known_args, **known_given)
        if func is aten._local_scalar_dense.default:  # noqa: SLF001 (an operator's name)
            return values
        if any(leaf is value for leaf in tensors for value in tree_leaves(values)):
            return values  # a real tensor that was changed in place
        try:
            result = func(*args, **given)
        except _DYNAMIC:
            result = tree_map(lambda value: fake_of(value, self._fake), values)
        for leaf, value in zip(tree_leaves(result), tree_leaves(values), strict=True):
            if isinstance(leaf, FakeTensor) and isinstance(value, torch.Tensor):
                self._values[leaf] = value
        return result

    def _known(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The values of a tensor; None where they are not known."""
        if not isinstance(tensor, FakeTensor):
            return None if tensor.is_meta else tensor
        value = self._values.get(tensor)
        return None if value is None or storage_of(value) in self._stale else value

    def _known_or_like(self, leaf: Any) -> Any:
        """Known values of a tensor; of one that serves its shape alone something of that shape."""
        if not isinstance(leaf, torch.Tensor):
            return leaf
        known = self._known(leaf)
        if known is not None:
            return known
        with _disable_current_modes():
            return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype)

    def _follows(self, func: Any, tensors: list[torch.Tensor], args: tuple[Any, ...]) -> bool:
        if func.overloadpacket in _UNKNOWN:
            return False
        constant = func.overloadpacket in _CONSTANT and all(tensor.is_floating_point() for tensor in tensors[1:])
        if not constant and any(self._known(tensor) is None for tensor in tensors):
            return False
        return _size(func, tensors, args) <= KNOWN_ELEMENTS

    def _forget_written(self, func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        """What is written with something that is not known is not known any more, nor are its views."""
        signature = signature_of(func)
        if not signature.written:
            return
        named = dict(zip(signature.names, args, strict=False)) | given
        for leaf in tree_leaves([named.get(name) for name in signature.written]):
            if isinstance(leaf, FakeTensor):
                value = self._values.get(leaf)
                if value is not None:
                    self._stale[storage_of(value)] = True
            elif isinstance(leaf, torch.Tensor):
                raise DataDependentOutputException(func)  # a real tensor would keep its old values

    def _for_shapes(self, func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        if func is aten.index.Tensor or func.overloadpacket in {aten.index_put, aten.index_put_}:
            args = (args[0], [each for index in args[1] for each in self._positions(index)], *args[2:])
        result = func(*args, **given)
        made_up = _MADE_UP.get(func)
        if made_up is not None:
            chosen, values = made_up(result, args, given)
            if values is not None:
                self._values[chosen] = values
        return result

    def _positions(self, index: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        """A mask whose values are known as the positions that it chooses; their number is then known, too."""
        if index is None or index.dtype not in {torch.bool, torch.uint8}:
            return (index,)
        known = self._known(index)
        if known is None:
            return (index,)
        with _disable_current_modes():
            positions = known.nonzero(as_tuple=True)
        return tuple(fake_of(each, self._fake) for each in positions)


def _size(func: Any, tensors: list[torch.Tensor], args: tuple[Any, ...]) -> int:
    """About how many numbers come out: those of the arguments broadcast, or of a size that is asked for."""
    sizes = [prod(leaf) for leaf in args if isinstance(leaf, list | tuple) and all(type(each) is int for each in leaf)]
    sizes += [tensor.numel() for tensor in tensors]
    if func.overloadpacket is aten.arange:
        sizes += [int(leaf) for leaf in args if isinstance(leaf, int | float)]
    shapes = [tensor.shape for tensor in tensors]
    with suppress(RuntimeError):  # no elementwise operator
        sizes.append(prod(torch.broadcast_shapes(*shapes)))  # type: ignore[no-untyped-call]
    return max(sizes, default=0)


def _rows(shape: torch.Size, dim: int, chosen: int) -> torch.Tensor:
    """Positions [.., chosen, ..] along ``dim``, each equally often: row i takes those from i x chosen on."""
    size = shape[dim]
    others = list(shape)
    others[dim] = 1
    with _disable_current_modes():
        rows = torch.arange(prod(others)).reshape(others) * chosen
        steps = torch.arange(chosen)
        steps = steps.reshape([chosen if place == dim % len(shape) else 1 for place in range(len(shape))])
        return (rows + steps) % max(size, 1)


Chosen = tuple[torch.Tensor, torch.Tensor | None]
"""The tensor of positions that were chosen, and the values that are made up for it."""


def _top(result: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Chosen:
    named = _named(aten.topk.default, args, given)
    source = named["self"]
    if not _may_be_made_up(source):
        return result[1], None
    return result[1], _rows(source.shape, int(named["dim"]), int(named["k"]))


def _best(result: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Chosen:
    named = _named(aten.argmax.default, args, given)
    if named["dim"] is None or not _may_be_made_up(named["self"]):
        return result, None
    found = _rows(named["self"].shape, int(named["dim"]), 1)
    with _disable_current_modes():
        return result, found if named["keepdim"] else found.squeeze(int(named["dim"]))


def _largest(result: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Chosen:
    _, chosen = _best(result[1], args, given)
    return result[1], chosen


def _order(result: Any, args: tuple[Any, ...], given: dict[str, Any]) -> Chosen:
    values, positions = result
    dim = int(given.get("dim", next((each for each in args[1:] if type(each) is int), -1)))
    if not _may_be_made_up(values):
        return positions, None
    with _disable_current_modes():
        steps = torch.arange(values.shape[dim])
        shape = [values.shape[dim] if place == dim % values.dim() else 1 for place in range(values.dim())]
        return positions, steps.reshape(shape).expand(positions.shape).contiguous()


def _may_be_made_up(source: torch.Tensor) -> bool:
    return source.dim() > 0 and source.numel() <= KNOWN_ELEMENTS


def _named(func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
    signature = signature_of(func)
    return signature.defaults | dict(zip(signature.names, args, strict=False)) | given


_MADE_UP: dict[Any, Callable[..., Chosen]] = {
    aten.topk.default: _top,
    aten.argmax.default: _best,
    aten.max.dim: _largest,
    aten.min.dim: _largest,
    aten.sort.default: _order,
    aten.sort.stable: _order,
}
"""Operators that choose by values which are not known -> a choice that is made up."""
