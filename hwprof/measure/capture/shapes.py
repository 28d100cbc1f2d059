"""How does a module run on shapes alone? Its fake tensors, values beside them, and what torch would stumble over."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_map

from hwprof.measure.capture.fake import ShapesOnly
from hwprof.measure.capture.torch_internals import without_kernels_of_layers
from hwprof.measure.capture.values import KnownValues


@contextmanager
def shapes_only(mode: ShapesOnly) -> Iterator[None]:
    """Fake tensors, and values beside them where they are known."""
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        stack.enter_context(_instead(torch.utils, "swap_tensors", _changed_format))
        stack.enter_context(_instead(FakeTensor, "__format__", _written))
        stack.enter_context(_instead(FakeTensor, "numpy", _as_array))
        stack.enter_context(_instead(torch, "tensor", partial(_tensor_of_numbers, torch.tensor)))
        stack.enter_context(without_kernels_of_layers())
        stack.enter_context(mode)
        stack.enter_context(KnownValues(mode))
        yield


@contextmanager
def _instead(owner: Any, name: str, other: Any) -> Iterator[None]:
    own = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def _tensor_of_numbers(make: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
    """``torch.tensor`` of a list that holds single numbers as tensors."""
    if isinstance(data, list | tuple):
        data = tree_map(lambda leaf: leaf.item() if isinstance(leaf, FakeTensor) else leaf, data)
    return make(data, *args, **kwargs)


def _as_array(tensor: Any) -> Any:
    """The numbers of a tensor whose values are known."""
    import numpy as np

    return np.array(tensor.tolist())


def _written(tensor: torch.Tensor, how: str) -> str:
    """A single number in a text is the number, as of a real tensor."""
    return tensor.item().__format__(how) if tensor.dim() == 0 else object.__format__(tensor, how)


def _changed_format(parameter: torch.Tensor, other: torch.Tensor) -> None:
    """What ``Module.to`` does of itself to real parameters; of fake ones it would swap what others refer to."""
    if parameter.dtype != other.dtype:
        parameter.data = other.data


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch logs a traceback when a fake tensor is refused; the error itself says what is needed."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
