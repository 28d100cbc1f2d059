"""What do gradients do that come from several layers? They are added, one layer's after another's.

Of a tensor that several layers read (an encoder's result, keys that layers share) each layer hands back a part of the
gradient, and the engine adds it to what it has. A layer that does not run hands back one part; what the layer that
stands for it had added is told apart, so that it can be written down as often as it would have been.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from typing import Any

import torch

from hwprof.measure.capture.layers.ran import HasToRunError, Ran, Taker
from hwprof.measure.capture.layers.seen import Traits, of_gradient
from hwprof.measure.capture.mode import CallRecorder
from hwprof.measure.capture.torch_internals import number_of_node
from hwprof.specs.record.captured import PlacedCall, TensorView


class Sums:
    """What a layer that stands for others hands back to tensors that others read, too.

    Attributes:
        expected: places among what went into the layer -> how often it reads them.

    Args:
        run: the layer.
        takers: who in it reads them.
        recorder: what records the backward pass.
    """

    def __init__(self, run: Ran, takers: Collection[Taker], recorder: CallRecorder) -> None:
        self._run, self._recorder = run, recorder
        self.expected = Counter(place for _, _, place in takers)
        self._handed: dict[int, tuple[int, dict[int, int]]] = {}
        self._traits: dict[int, list[Traits]] = defaultdict(list)
        by_node: dict[int, tuple[Any, dict[int, int]]] = {}
        for node, which, place in takers:
            by_node.setdefault(number_of_node(node), (node, {}))[1][which] = place
        for number, (node, places) in by_node.items():
            node.register_hook(self._noting(number, places))

    def _noting(self, number: int, places: dict[int, int]) -> Any:
        storages = self._recorder.storages

        def note(found: tuple[torch.Tensor | None, ...], _got: Any) -> None:
            numbers = [None if each is None else storages.number(each) for each in found]
            mine: dict[int, int] = {}
            for which, place in places.items():
                gradient, one = found[which], numbers[which]
                if gradient is None or one is None or numbers.count(one) > 1:
                    return  # which of them is added can't be told
                mine[one] = place
                self._traits[place].append(of_gradient(gradient)[:3])
            self._handed[number] = len(self._recorder.calls), mine

        return note

    def additions(self) -> dict[int, int]:
        """Number of a call -> the place to whose gradient it adds.

        Raises:
            HasToRunError: they are others than those that are expected.
        """
        found: dict[int, int] = {}
        for number, node in enumerate(self._recorder.nodes):
            start, mine = self._handed.get(-1 if node is None else node, (0, {}))
            place = mine.get(added_by(self._recorder.calls[number])) if number >= start else None
            if place is not None:
                found[number] = place
        if Counter(found.values()) != self.expected:
            raise HasToRunError(self._run.stack)
        return found

    def check(self, other: Ran) -> None:
        """What another layer handed back looks like each part of this one's.

        Raises:
            HasToRunError: it does not.
        """
        learned: dict[tuple[str, int], Traits] = {}
        for place in self.expected:
            shape, strides, dtype = other.gave[place][:3]
            first, *others = self._traits[place]
            if first[::2] != (shape, dtype) or any(each != first for each in others):
                raise HasToRunError({other.path})
            if first[1] != strides:
                learned[self._run.path, place] = first[1]
        if learned:
            raise HasToRunError((), learned)


def added_by(placed: PlacedCall) -> int:
    """The memory that a call adds to another; -1 where it adds none."""
    other = placed.call.arguments.get("other")
    return other.storage if placed.call.name == "aten::add" and isinstance(other, TensorView) else -1
