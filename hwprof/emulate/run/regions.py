"""Which calls are in compiled code, forwards and backwards, and what do they read and write?"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_leaves

from hwprof.emulate.fusion import Flow, FlowKind, Part, Place

if TYPE_CHECKING:
    from hwprof.emulate.run.rank import Rank

POINTWISE = frozenset({
    "_to_copy", "copy_", "fill_", "zero_", "cat", "stack", "complex", "embedding", "gather", "constant_pad_nd",
    "native_dropout", "native_dropout_backward", "full_like", "zeros_like", "ones_like", "slice_backward",
    "select_backward",
})  # fmt: skip
"""What TorchInductor lowers to elementwise code beside the operators that torch tags so."""
REDUCTIONS = frozenset({
    "_softmax", "_softmax_backward_data", "_log_softmax", "_log_softmax_backward_data", "native_layer_norm",
    "native_layer_norm_backward", "_fused_rms_norm", "_fused_rms_norm_backward", "nll_loss_forward",
    "nll_loss_backward", "var", "var_mean", "linalg_vector_norm",
})  # fmt: skip
"""What it decomposes into reductions and elementwise code."""
OVERWRITES = frozenset({"copy_", "fill_", "zero_"})


def flow_kind(name: str, tags: Collection[Any], *, view: bool) -> FlowKind:
    """What a compiler can do with an operator of ``aten``, by its name and its tags."""
    if view:
        return "view"
    if name in POINTWISE or torch.Tag.pointwise in tags:
        return "pointwise"
    if name in REDUCTIONS or torch.Tag.reduction in tags:
        return "reduction"
    return "other"


class Regions:
    """The compiled code of a script. Mutable: it follows the script.

    Attributes:
        any: whether the script compiles at all.
        passing: storages that are not kept when the forward pass of the current region is over.
    """

    def __init__(self, rank: Rank) -> None:
        self._rank = rank
        self._kinds: dict[tuple[Any, bool], FlowKind] = {}
        self._current: tuple[int, bool] | None = None
        self._stream = 0
        self._next, self._count = 0, 0
        self._counts: dict[tuple[int, bool], int] = {}
        self.any = False
        self.passing: list[weakref.ref[torch.UntypedStorage]] = []

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose calls are those of compiled code, and those of its backward pass."""
        self.any = True

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            if self._current is not None:
                return function(*args, **kwargs)
            number = self._next
            self._next += 1
            for tensor in _followed((args, kwargs)):
                if tensor.grad_fn is not None:
                    tensor.register_hook(functools.partial(self._left, number))  # type: ignore[no-untyped-call]
            self._enter(number, backward=False)
            try:
                out = function(*args, **kwargs)
            finally:
                self._current = None
                for storage in filter(None, (reference() for reference in self.passing)):  # some are gone already
                    self._rank.storages.empty(storage)
                self.passing.clear()
            results = _followed(out)
            self.outside(results)
            for tensor in results:
                if tensor.grad_fn is not None:
                    tensor.register_hook(functools.partial(self._again, number))  # type: ignore[no-untyped-call]
            return out

        return run

    def begin(self) -> None:
        """A step begins."""
        self._next = 0
        self._counts.clear()

    def leave(self) -> None:
        """No compiled code runs any more."""
        self._current = None

    def place(self) -> Place | None:
        """The next call's."""
        if self._current is None or self._rank.stream != self._stream:
            return None
        self._counts[self._current] = number = self._counts.get(self._current, -1) + 1
        return (*self._current, number)

    def flow(
        self, func: Any, call: int, place: Place | None, given: Any, results: list[FakeTensor], *, view: bool
    ) -> None:
        """Write down what a call reads and writes."""
        name = func.overloadpacket.__name__
        kind = self._kinds.get((func, view))
        if kind is None:
            kind = self._kinds[func, view] = flow_kind(name, func.tags, view=view)
        read = _followed(given)[name in OVERWRITES :]
        step = self._rank.tape.current
        step.flows.append(
            Flow(
                event=len(step.events) - 1,
                call=call,
                region=place,
                kind=kind,
                reads=() if view else self._parts(read),
                writes=() if view else self._parts(results),
            )
        )

    def _enter(self, number: int, *, backward: bool) -> None:
        self._current, self._stream = (number, backward), self._rank.stream

    def _left(self, number: int, _gradient: Any) -> None:
        """The gradient of what a region was given is there."""
        if self._current == (number, True):
            self._current = None

    def _again(self, number: int, _gradient: Any) -> None:
        """The gradient of what a region gave is there."""
        self._enter(number, backward=True)

    def outside(self, given: Any) -> None:
        """What no compiled code reads: the caller of a region, or a collective in it."""
        step = self._rank.tape.current
        parts = self._parts([getattr(each, "_local_tensor", each) for each in _followed(given)])
        step.flows.append(Flow(event=len(step.events), call=-1, region=None, kind="other", reads=parts, writes=()))

    def _parts(self, tensors: list[Any]) -> tuple[Part, ...]:
        return tuple(self._part(tensor) for tensor in tensors)

    def _part(self, tensor: torch.Tensor) -> Part:
        width = tensor.element_size()
        elements = 1
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            elements *= size if stride else 1
        return self._rank.storages.number(tensor), int(tensor.storage_offset()), elements * width


def _followed(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]
