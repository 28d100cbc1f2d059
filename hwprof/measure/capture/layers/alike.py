"""Which layers of a module are equal, but for numbers that only say which of them they are?

Two layers are equal where their classes, attributes, parameters' shapes and buffers' values are, part by part. Whole
numbers may differ (``layer_idx``): whether a pass looks at them is seen when it runs.
"""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from hwprof.measure.watch.hooks import Hook

_LISTS = (nn.ModuleList, nn.Sequential)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Layers that are equal.

    Attributes:
        layers: path -> layer, in order.
        numbers: names of attributes that differ, each with the path of its owner within the layer.
    """

    layers: dict[str, nn.Module]
    numbers: frozenset[tuple[str, str]]


def stacks_of(module: nn.Module, values: Mapping[torch.Tensor, torch.Tensor]) -> Iterator[Stack]:
    """The largest equal parts that stand in one list, two or more of each; none shares a part or a weight with others.

    Args:
        module: the whole.
        values: fake tensor -> the numbers that it stands for, where they are known.
    """
    shared = _shared(module)
    yield from _below(module, "", shared, values)


def _below(
    module: nn.Module, path: str, shared: AbstractSet[int], values: Mapping[torch.Tensor, Any]
) -> Iterator[Stack]:
    stacked: set[str] = set()
    children = {f"{path}.{name}".lstrip("."): child for name, child in module.named_children()}
    if isinstance(module, _LISTS):
        for stack in _equal(children, shared, values):
            stacked |= stack.layers.keys()
            yield stack
    for name, child in children.items():
        if name not in stacked:
            yield from _below(child, name, shared, values)


def _equal(
    layers: dict[str, nn.Module], shared: AbstractSet[int], values: Mapping[torch.Tensor, Any]
) -> Iterator[Stack]:
    found: list[dict[str, nn.Module]] = []
    differing: list[set[tuple[str, str]]] = []
    for path, layer in layers.items():
        if not _parts(layer).isdisjoint(shared):
            continue
        for members, numbers in zip(found, differing, strict=True):
            comparison = Comparison(values)
            if comparison.modules(next(iter(members.values())), layer):
                members[path] = layer
                numbers.update(comparison.numbers)
                break
        else:
            found.append({path: layer})
            differing.append(set())
    for members, numbers in zip(found, differing, strict=True):
        if len(members) > 1:
            yield Stack(layers=members, numbers=frozenset(numbers))


def _parts(layer: nn.Module) -> set[int]:
    return {id(part) for part in (*layer.modules(), *layer.parameters())}


def _shared(module: nn.Module) -> set[int]:
    """Parts and weights that have more than one owner."""
    owners: Counter[int] = Counter()
    for part in module.modules():
        owners.update(id(child) for child in part._modules.values() if child is not None)  # noqa: SLF001 (duplicates, too)
        owners.update(id(each) for each in part._parameters.values() if each is not None)  # noqa: SLF001
    return {number for number, times in owners.items() if times > 1}


class Comparison:
    """Compares two layers.

    Attributes:
        numbers: what differs, and may.

    Args:
        values: of fake tensors.
    """

    def __init__(self, values: Mapping[torch.Tensor, Any]) -> None:
        self.numbers: set[tuple[str, str]] = set()
        self._values = values
        self._seen: dict[tuple[int, int], tuple[Any, Any]] = {}  # held, so that no other takes its number

    def modules(self, one: nn.Module, other: nn.Module, path: str = "") -> bool:
        """Whether they are equal."""
        self._seen[id(one), id(other)] = one, other  # an attribute may lead back to its owner
        if type(one) is not type(other) or vars(one).keys() != vars(other).keys():
            return False
        for name, value in vars(one).items():
            beside = vars(other)[name]
            if name == "_modules":
                if value.keys() != beside.keys() or not all(
                    self._part(value[each], beside[each], f"{path}.{each}".lstrip(".")) for each in value
                ):
                    return False
            elif type(value) is type(beside) is int and value != beside:
                self.numbers.add((path, name))
            elif not self.equal(value, beside):
                return False
        return True

    def _part(self, one: nn.Module | None, other: nn.Module | None, path: str) -> bool:
        if one is None or other is None:
            return one is other
        return self.modules(one, other, path)

    def equal(self, one: Any, other: Any) -> bool:
        """Whether two values of attributes are equal; what can't be told is not."""
        if one is other or (id(one), id(other)) in self._seen:
            return True
        self._seen[id(one), id(other)] = one, other
        return type(one) is type(other) and self._values_of_one_type(one, other)

    def _values_of_one_type(self, one: Any, other: Any) -> bool:
        if isinstance(one, _PLAIN):
            return bool(one == other)
        if isinstance(one, Mapping):
            return one.keys() == other.keys() and all(self.equal(one[key], other[key]) for key in one)
        if isinstance(one, list | tuple):
            return len(one) == len(other) and all(map(self.equal, one, other))
        if isinstance(one, torch.Tensor):
            return self._tensors(one, other)
        return not self._numbers_of(one, other) if isinstance(one, nn.Module) else self._objects(one, other)

    def _numbers_of(self, one: nn.Module, other: nn.Module) -> bool:
        """Whether parts that no list of parts names differ, by numbers or more."""
        inside = Comparison(self._values)
        inside._seen = self._seen
        return not inside.modules(one, other) or bool(inside.numbers)

    def _objects(self, one: Any, other: Any) -> bool:
        if isinstance(one, Hook):
            return True  # our own
        if isinstance(one, types.MethodType):
            return one.__func__ is other.__func__ and self.equal(one.__self__, other.__self__)
        if isinstance(one, partial):
            return self.equal((one.func, one.args, one.keywords), (other.func, other.args, other.keywords))
        if isinstance(one, types.FunctionType):
            cells = [[cell.cell_contents for cell in each.__closure__ or ()] for each in (one, other)]
            defaults = [(each.__defaults__, each.__kwdefaults__) for each in (one, other)]
            return one.__code__ is other.__code__ and self.equal(*defaults) and self.equal(*cells)
        return hasattr(one, "__dict__") and self.equal(vars(one), vars(other))

    def _tensors(self, one: torch.Tensor, other: torch.Tensor) -> bool:
        traits = [(each.shape, each.stride(), each.dtype, each.device, each.requires_grad) for each in (one, other)]
        if traits[0] != traits[1] or not self.equal(vars(one), vars(other)):
            return False
        known = [self._values.get(each) for each in (one, other)]
        if known[0] is None or known[1] is None:
            return known[0] is known[1]
        return torch.equal(known[0], known[1])


_PLAIN = (bool, int, float, complex, str, bytes, set, frozenset, torch.dtype, torch.device, torch.Size, type)
