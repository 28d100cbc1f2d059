"""Does a part of a module look at its own number, or change what it holds? Numbers that note it, and what it held."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

from torch import nn

from hwprof.measure.capture.layers.alike import Stack


class Unread:
    """A whole number that notes when something looks at it; handing it on is not looking.

    Attributes:
        value: the number.
        read: whether anything did.
    """

    def __init__(self, value: int) -> None:
        self.value = value
        self.read = False


def _looking(operation: Callable[..., Any]) -> Callable[..., Any]:
    def look(number: Unread, *others: Any) -> Any:
        number.read = True
        return operation(number.value, *(each.value if isinstance(each, Unread) else each for each in others))

    return look


def _turned(operation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda value, other: operation(other, value)


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "lshift", "rshift")
for _name in (*_BINARY, "eq", "ne", "lt", "le", "gt", "ge", "neg", "abs", "invert", "index"):
    setattr(Unread, f"__{_name.rstrip('_')}__", _looking(getattr(operator, _name)))
for _name in _BINARY:
    setattr(Unread, f"__r{_name.rstrip('_')}__", _looking(_turned(getattr(operator, _name))))
for _kind in (bool, int, float, hash, repr, str, format, round, divmod):
    setattr(Unread, f"__{_kind.__name__}__", _looking(_kind))


def numbers_of(stack: Stack, layer: nn.Module) -> set[int]:
    """The numbers of a layer that differ from those of others."""
    return {vars(layer.get_submodule(path))[name] for path, name in stack.numbers}


@contextmanager
def numbers_unread(stack: Stack, layer: nn.Module, given: list[Any]) -> Iterator[Callable[[], bool]]:
    """Watch a layer's own numbers while it runs, and those in a list that are; the result says whether none is read."""
    watched = [(vars(layer.get_submodule(path)), name) for path, name in stack.numbers]
    before = [owner[name] for owner, name in watched]
    numbers = [Unread(value) for value in before]
    for (owner, name), number in zip(watched, numbers, strict=True):
        owner[name] = number
    numbers += [each for each in given if isinstance(each, Unread)]
    try:
        yield lambda: not any(number.read for number in numbers)
    finally:
        for (owner, name), value in zip(watched, before, strict=True):
            owner[name] = value


class State:
    """What a layer holds at a moment, all its attributes and what is in their lists."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._held = list(_held(layer))

    def lasts(self) -> bool:
        """Whether it holds the same now."""
        return all(one is other for one, other in zip_longest(self._held, _held(self._layer)))


def _held(layer: nn.Module) -> Iterator[Any]:
    for part in layer.modules():
        yield from inside(vars(part))


def inside(value: Any) -> Iterator[Any]:
    """What a value is or holds: lists and mappings opened."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield key
            yield from inside(part)
    elif isinstance(value, list | tuple | set):
        yield value
        for part in value:
            yield from inside(part)
    else:
        yield value
