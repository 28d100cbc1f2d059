"""What is known of a layer that ran, or of one that another stands for: what went in and out, where in the graph?"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from hwprof.measure.capture.fake import ShapesOnly
from hwprof.measure.capture.layers.seen import Seen, Traits, of_gradient
from hwprof.measure.capture.mode import CallRecorder, Passage
from hwprof.measure.capture.torch_internals import Storages, number_of_node
from hwprof.specs.record.captured import Place, PlacedCall

Edge = tuple[int, int]
"""A result in autograd's graph: the number of its node, and which of the node's results it is."""

Taker = tuple[Any, int, int]
"""A node of a layer, which of its gradients is meant, and the place of what it reads among what went into the layer."""


class HasToRunError(Exception):
    """Of some layers it is not shown that they do the same as another.

    Attributes:
        paths: theirs.
        strides: what was seen of the gradients that another hands back, for the next try: its path and the place of its
            input -> strides.
    """

    def __init__(self, paths: Iterable[str], strides: Mapping[tuple[str, int], Traits] | None = None) -> None:
        self.paths = frozenset(paths)
        self.strides = strides or {}
        super().__init__(*sorted(self.paths))


@dataclass(slots=True, kw_only=True)
class Ran:
    """A layer that ran, or one that did not. Mutable: it is filled while the passes run.

    Attributes:
        path: of the layer.
        layer: itself.
        stack: paths of the layers that are equal to it.
        seen, form: what went in.
        template: the layer that stands for it; None = it ran.
        usable: whether it may stand for others.
        repeated: for how many it stands.
        passage: what was recorded, where it ran.
        nodes: numbers of what it made in the graph.
        calls: places of its calls among all.
        memory: numbers of what it made.
        inputs: results in the graph that it starts from, each with the place of its leaf.
        results: results in the graph that came out, each with its place.
        outputs: what came out: the place of what went in and came out again, a tensor, or (value,) of another kind.
        out_form: how that is nested.
        used: outputs that gradients come from.
        got, gave: what gradients of outputs and inputs look like.
        handed: memory of gradients that it gave, where it did not run -> the place of their input.
    """

    path: str
    layer: nn.Module
    stack: frozenset[str]
    seen: list[Seen]
    form: Any
    template: Ran | None
    usable: bool = False
    repeated: int = 0
    passage: Passage | None = None
    nodes: range = range(0)
    calls: range = range(0)
    memory: range = range(0)
    inputs: dict[Edge, int] = field(default_factory=dict)
    results: dict[Edge, int] = field(default_factory=dict)
    outputs: list[Any] = field(default_factory=list)
    out_form: Any = None
    used: set[int] = field(default_factory=set)
    got: dict[int, Traits] = field(default_factory=dict)
    gave: dict[int, Traits] = field(default_factory=dict)
    handed: dict[int, int] = field(default_factory=dict)
    _places: dict[Place, Place] = field(default_factory=dict)

    def may_stand_for(self, seen: list[Seen], form: Any) -> bool:
        """Whether what goes in elsewhere is like what went in here."""
        if not self.usable or form != self.form or len(seen) != len(self.seen):
            return False
        same = all(one.is_like(other) for one, other in zip(self.seen, seen, strict=True))
        return same and _together(self.seen) == _together(seen)

    def holds(self, path: str) -> bool:
        """Whether a path is its own or of a part of it."""
        return path == self.path or path.startswith(f"{self.path}.")

    def place(self, place: Place) -> Place:
        """Its own place that stands for one of its template."""
        found = self._places.get(place)
        if found is None:
            assert self.template is not None
            found = self._places[place] = Place(self.path + place.path[len(self.template.path) :], place.kind)
        return found

    def placed(self, calls: Iterable[PlacedCall]) -> Iterator[PlacedCall]:
        """Calls of its template as its own."""
        return (PlacedCall(self.place(each.place), each.direction, each.call) for each in calls)

    @property
    def fresh(self) -> dict[int, Seen]:
        """Tensors that it made and gave out, by their place among what came out."""
        return {place: out for place, out in enumerate(self.outputs) if isinstance(out, Seen)}

    @property
    def internal(self) -> set[int]:
        """Memory that it made and that did not come out."""
        assert self.passage is not None
        packed = {number for number, _, _ in self.passage.packs if number in self.memory}
        return (packed | self.passage.born.keys()) - {out.storage for out in self.fresh.values()}

    def with_fresh(self, given: list[Any], made: Iterable[torch.Tensor]) -> list[Any]:
        """What comes out elsewhere, where these went in and were made."""
        made = iter(made)
        return [
            given[out] if isinstance(out, int) else out[0] if isinstance(out, tuple) else next(made)
            for out in self.outputs
        ]

    def note_input(self, place: int, leaf: torch.Tensor) -> None:
        """Note from where in the graph it starts."""
        if leaf.grad_fn is not None:
            self.inputs[number_of_node(leaf.grad_fn), leaf.output_nr] = place

    def note_outputs(
        self, given: list[Any], leaves: list[Any], form: Any, fake: ShapesOnly, storages: Storages
    ) -> None:
        """Note what came out."""
        places = {id(leaf): place for place, leaf in enumerate(given) if isinstance(leaf, torch.Tensor)}
        self.out_form = form
        for place, leaf in enumerate(leaves):
            if id(leaf) in places:
                self.outputs.append(places[id(leaf)])
            elif isinstance(leaf, torch.Tensor):
                self.outputs.append(Seen.of(leaf, fake, storages))
                self._note_result(place, leaf)
            else:
                self.outputs.append((leaf,))

    def _note_result(self, place: int, leaf: torch.Tensor) -> None:
        if leaf.grad_fn is not None:
            self.results[number_of_node(leaf.grad_fn), leaf.output_nr] = place

    def is_closed(self) -> bool:
        """Whether it wrote its own memory alone, ran its own parts alone, and gives tensors that share no memory."""
        assert self.passage is not None
        made = [out.storage for out in self.fresh.values()]
        born = self.passage.born.keys()
        return (
            len(set(made)) == len(made)
            and born >= set(made)
            and all(out.is_whole for out in self.fresh.values())
            and all(self.holds(each.place.path) for each in self.passage.calls)
            and all(tensor.storage in self.memory for each in self.passage.calls for tensor in each.call.outputs)
        )

    def watch(self, given: list[Any], leaves: list[Any]) -> None:
        """Note what gradients look like when they come."""
        for place in self.inputs.values():
            given[place].register_hook(_noted(self.gave, place))
        for place in self.results.values():
            leaves[place].register_hook(_noted(self.got, place))

    def note_repeated(self, leaves: list[Any], recorder: CallRecorder) -> None:
        """Record once more what was recorded of its template, as of this layer."""
        template = self.template
        assert template is not None
        assert template.passage is not None
        numbers = {one.storage: other.storage for one, other in zip(template.seen, self.seen, strict=True)}
        owned = zip(_tensors(template.layer), _tensors(self.layer), strict=True)
        numbers |= {recorder.storages.number(one): recorder.storages.number(other) for one, other in owned}
        for place, out in template.fresh.items():
            leaf = leaves[place]
            numbers[out.storage] = recorder.storages.number(leaf)
            self._note_result(place, leaf)
            if leaf.grad_fn is not None:
                node = number_of_node(leaf.grad_fn)
                self.nodes = range(node, node + 1)
        numbers |= {one: recorder.stand_in(one) for one in template.internal}
        recorder.repeat(template.passage, self.place, numbers)
        for one, other in zip(template.layer.parameters(), self.layer.parameters(), strict=True):
            first = recorder.first_use.get(recorder.storages.number(one))
            if first is not None:
                recorder.first_use.setdefault(recorder.storages.number(other), self.place(first))

    def check_gradients(self, apart: Container[int]) -> Ran:
        """After the backward pass: gradients came in and went out as those of the template, which is given back.

        Args:
            apart: places of what others read, too, whose gradients are sums.

        Raises:
            HasToRunError: they did not.
        """
        assert self.template is not None
        gave = [
            {place: each for place, each in one.gave.items() if place not in apart} for one in (self, self.template)
        ]
        if self.got != self.template.got or gave[0] != gave[1]:
            raise HasToRunError({self.path})
        return self.template


def _noted(notes: dict[int, Traits], place: int) -> Any:
    def note(gradient: torch.Tensor) -> None:
        notes[place] = of_gradient(gradient)

    return note


def _tensors(layer: nn.Module) -> Iterator[torch.Tensor]:
    yield from layer.parameters()
    yield from layer.buffers()


def _together(seen: Iterable[Seen]) -> list[int]:
    """Which of them lie in the same memory."""
    order: dict[int, int] = {}
    return [order.setdefault(each.storage, len(order)) for each in seen]
