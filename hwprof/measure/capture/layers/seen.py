"""What can an operator see of a tensor, so that another one may stand for it?"""

from __future__ import annotations

import weakref
from collections.abc import Container, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from hwprof.measure.capture.fake import ShapesOnly
from hwprof.measure.capture.layers.unread import inside
from hwprof.measure.capture.torch_internals import Storages, storage_of

Traits = tuple[Any, ...]

PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device, torch.Size)
"""What nothing can change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an operator can see of a tensor, or a value that is none.

    Attributes:
        traits: shape, layout, format.
        storage: number of its memory; -1 where it is no tensor.
        value: its numbers where they are known, or what is no tensor.
        requires_grad: whether it gets a gradient.
        itself: the tensor, or a mapping of a class of its own.
        version: how often it was written.
        holds: what the mapping held; tensors as weak references.
        own_number: whether it is one of the numbers of its layer, at which nothing looks.
    """

    traits: Traits = ()
    storage: int = -1
    value: Any = None
    requires_grad: bool = False
    itself: weakref.ref[Any] | None = None
    version: int = 0
    holds: tuple[Any, ...] = ()
    own_number: bool = False

    @classmethod
    def of(cls, leaf: Any, fake: ShapesOnly, storages: Storages, numbers: Container[int] = ()) -> Seen:
        """Look at it; ``numbers`` are those of its layer."""
        if isinstance(leaf, Mapping):
            held = (weakref.ref(each) if isinstance(each, torch.Tensor) else each for each in inside(leaf))
            return cls(itself=weakref.ref(leaf), holds=tuple(held))
        if not isinstance(leaf, torch.Tensor):
            if not isinstance(leaf, PLAIN):
                return cls(value=object())  # like nothing else; itself it would keep alive what it holds
            return cls(value=leaf, own_number=type(leaf) is int and leaf in numbers)
        traits = (tuple(leaf.shape), leaf.stride(), leaf.dtype, leaf.device)
        return cls(
            traits=(*traits, leaf.requires_grad, leaf.is_leaf, storage_of(leaf).nbytes(), type(leaf)),
            storage=storages.number(leaf),
            value=fake.values.get(leaf),
            requires_grad=leaf.requires_grad,
            itself=weakref.ref(leaf),
            version=leaf._version,  # noqa: SLF001 (counts what is written in place)
        )

    def is_itself(self, leaf: Any) -> bool:
        """Whether this is the same, unchanged."""
        if self.itself is None:
            return self.value is leaf
        return leaf is not None and self.itself() is leaf and self._is_as_it_was(leaf)

    def _is_as_it_was(self, leaf: Any) -> bool:
        if isinstance(leaf, torch.Tensor):
            return self.version == leaf._version  # noqa: SLF001
        then = (each() if isinstance(each, weakref.ref) else each for each in self.holds)
        return all(one is other for one, other in zip_longest(then, inside(leaf)))

    def is_like(self, other: Seen) -> bool:
        """Whether an operator can't tell them apart."""
        if self.own_number and other.own_number:
            return True
        now = other.itself() if other.itself is not None else None
        if now is not None and self.itself is not None and self.itself() is now:
            return self._is_as_it_was(now)
        if isinstance(now, Mapping):
            return False
        if self.traits != other.traits or type(self.value) is not type(other.value):
            return False
        if isinstance(self.value, torch.Tensor):
            with _disable_current_modes():
                return torch.equal(self.value, other.value)
        return self.value is other.value or (self.itself is None and bool(self.value == other.value))

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its memory, and no view."""
        itself = self.itself() if self.itself is not None else None
        if itself is None or itself._is_view() or itself.storage_offset():  # noqa: SLF001 (torch has no other name)
            return False
        sizes = zip(itself.shape, itself.stride(), strict=True)
        last = sum((size - 1) * stride for size, stride in sizes) if itself.numel() else -1
        size_bytes: int = (last + 1) * itself.element_size()
        return storage_of(itself).nbytes() == size_bytes

    def like(self) -> torch.Tensor:
        """Another tensor that looks the same."""
        shape, stride, dtype, device, *_ = self.traits
        return torch.empty_strided(shape, stride, dtype=dtype, device=device)

    def gradient(self, strides: Traits | None = None) -> torch.Tensor:
        """What a gradient of it looks like, with the strides that were seen elsewhere, if any were."""
        shape, stride, dtype, device, *_ = self.traits
        with torch.no_grad():
            if strides is not None:
                return torch.empty_strided(shape, strides, dtype=dtype, device=device)
            return torch.empty_like(torch.empty_strided(shape, stride, dtype=dtype, device=device))


def of_gradient(gradient: torch.Tensor) -> Traits:
    """What can be seen of a gradient."""
    return tuple(gradient.shape), gradient.stride(), gradient.dtype, storage_of(gradient).nbytes()
