"""How does a module exist without its weights? Parameters are of the meta device while it is made, and fake after."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakIdKeyDictionary

from hwprof.errors import InputError

KNOWN_ELEMENTS = 1 << 24
"""The values of larger tensors are not followed: nothing looks at so many numbers."""
MOST_TENSORS = 250_000
"""More weights than any published model has as modules (Switch's 2,048 experts make 98,304); a file with a slip in it
would fill this machine's memory with modules."""


@contextmanager
def weightless() -> Iterator[None]:
    """Every parameter becomes one of the meta device as a module takes it.

    Its memory is given back before anything is written to it, and initialising it does nothing. All other tensors are
    real, so that a factory may look at their values (as for stochastic depth by layer); but empty ones that no module
    looks at, of more than ``KNOWN_ELEMENTS``, are of the meta device at once: the experts of one layer may be 30 GB.

    Raises:
        InputError: there are more than 250,000 of them.
    """
    empty: Any = WeakIdKeyDictionary()
    numbers = itertools.count(1)

    def replace(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta or is_lazy(parameter):
            return None
        if parameter not in empty:
            if next(numbers) > MOST_TENSORS:
                raise InputError(
                    f"the model has more than {MOST_TENSORS:,} weights (matrices and vectors)",
                    remedy="give fewer layers or experts: those that are alike cost alike",
                )
            empty[parameter] = _like(parameter, torch.empty_like(parameter, device="meta"))
        shared: nn.Parameter = empty[parameter]
        return shared

    register: Any = register_module_parameter_registration_hook  # typed as if the hook returned nothing
    handle = register(replace)
    try:
        with _LargeOnesHaveNoMemory():
            yield
    finally:
        handle.remove()


_MAKERS = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn)


class _LargeOnesHaveNoMemory(TorchFunctionMode):
    """``torch.empty`` and its like of many elements are of the meta device, unless their caller names one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        if func in _MAKERS and "device" not in keywords and _elements(args) > KNOWN_ELEMENTS:
            keywords = keywords | {"device": "meta"}
        return func(*args, **keywords)


def _elements(sizes: Any) -> int:
    """How many elements sizes make, one after another or in a tuple."""
    flat = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes
    return math.prod(size for size in flat if isinstance(size, int))


class ShapesOnly(FakeTensorMode):  # type: ignore[no-untyped-call]  # torch types it so
    """A mode of fake tensors.

    Attributes:
        values: fake tensor -> the numbers that it stands for, where they are known.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.values: Any = WeakIdKeyDictionary()


def make_fake(module: nn.Module) -> ShapesOnly:
    """Replace parameters and buffers by fake tensors of the CPU, those with two names by one; the mode they live in.

    Raises:
        InputError: a lazy module does not know its shapes yet.
    """
    mode = ShapesOnly()
    made: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False, remove_duplicate=False)):
            if is_lazy(parameter):
                raise InputError(
                    f"{type(part).__name__} does not know the shape of its {name} before it has run",
                    remedy="run the module once in the factory, and capture it on real tensors with --device cpu",
                )
            if id(parameter) not in made:
                made[id(parameter)] = _like(parameter, fake_of(parameter.detach(), mode))
            setattr(part, name, made[id(parameter)])
        for name, buffer in list(part.named_buffers(recurse=False, remove_duplicate=False)):
            setattr(part, name, fake_of(buffer, mode))
    return mode


def fake_of(value: Any, mode: ShapesOnly) -> Any:
    """A fake tensor in place of a real one or one of the meta device; anything else as it is."""
    if not isinstance(value, torch.Tensor) or isinstance(value, FakeTensor):
        return value
    if value.is_meta:
        with mode:
            return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
    made = mode.from_tensor(value)
    if value.numel() <= KNOWN_ELEMENTS:
        mode.values[made] = value
    return made


def all_fake(values: Any, mode: ShapesOnly) -> Any:
    """``fake_of`` every leaf of nested lists and records."""
    return tree_map(lambda leaf: fake_of(leaf, mode), values)


def _like(parameter: nn.Parameter, data: torch.Tensor) -> nn.Parameter:
    """A parameter with this data, and with the marks that its maker left on it."""
    other = nn.Parameter(data, requires_grad=parameter.requires_grad)
    other.__dict__.update(parameter.__dict__)
    return other


StandIn = Callable[..., torch.Tensor]


def _grouped_product(left: torch.Tensor, right: torch.Tensor, offsets: torch.Tensor | None, *_: Any) -> torch.Tensor:
    groups = [] if offsets is None or left.dim() != 2 or right.dim() != 2 else [offsets.shape[0]]
    batch = [left.shape[0]] if left.dim() == right.dim() == 3 else groups
    return left.new_empty([*batch, left.shape[-2], right.shape[-1]])


_GROUPED = getattr(torch.ops.aten, "_grouped_mm", None)
STAND_INS: dict[Any, StandIn] = {} if _GROUPED is None else {_GROUPED.default: _grouped_product}
"""Operator -> its result's shape, where torch's own rule for fake tensors takes fewer types than its kernel."""
