"""What does one forward pass take in? Names, shapes and types of its tensors, its rows and its tokens."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_MOST_INPUTS = 6
_INTEGERS = (torch.int64, torch.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenInputs:
    """One or more forward passes. ``tokens`` is None where no input is token ids, ``rows`` where there is no tensor."""

    described: tuple[str, ...] = ()
    rows: int | None = None
    tokens: int | None = None

    def plus(self, other: SeenInputs) -> SeenInputs:
        """This and a further forward pass of the same step."""
        return SeenInputs(
            described=self.described or other.described,
            rows=_sum(self.rows, other.rows),
            tokens=_sum(self.tokens, other.tokens),
        )


def see_inputs(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> SeenInputs:
    """Describe the arguments of a module's forward.

    Rows are the leading size of the first tensor. Token ids are the first integer tensor of two dimensions
    ``[rows, tokens]`` that is no label and no position; it may be nested, whose rows are of different lengths.
    """
    tensors = [(name, tensor) for name, tensor in _tensors(module, args, kwargs) if tensor.dim()]
    ids = next((tensor for name, tensor in tensors if tensor.dim() == 2 and _may_be_ids(name, tensor)), None)
    return SeenInputs(
        described=tuple(_words(name, tensor) for name, tensor in tensors[:_MOST_INPUTS]),
        rows=tensors[0][1].size(0) if tensors else None,
        tokens=None if ids is None else ids.numel(),
    )


def _may_be_ids(name: str, tensor: torch.Tensor) -> bool:
    other = any(word in name for word in ("label", "target", "mask", "position"))
    return tensor.dtype in _INTEGERS and (tensor.is_nested or tensor.shape[1] > 1) and not other


def _tensors(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    names = list(inspect.signature(module.forward).parameters)
    positional = [(names[place] if place < len(names) else "", value) for place, value in enumerate(args)]
    for name, value in (*positional, *kwargs.items()):
        if isinstance(value, torch.Tensor):
            yield name, value
        elif isinstance(value, Mapping):
            yield from ((str(key), item) for key, item in value.items() if isinstance(item, torch.Tensor))
        elif isinstance(value, list | tuple):
            yield from ((name, item) for item in value if isinstance(item, torch.Tensor))


def _words(name: str, tensor: torch.Tensor) -> str:
    shape = f"{tensor.size(0)}×nested" if tensor.is_nested else "×".join(map(str, tensor.shape))
    return f"{name} {shape} {str(tensor.dtype).removeprefix('torch.')}".strip()


def _sum(first: int | None, second: int | None) -> int | None:
    return first if second is None else second if first is None else first + second
