"""Which operators does a module call, where do they belong, and which memory do they leave alive?

A dispatch mode sees every call below autograd. A forward call belongs to the innermost module around it; a backward
call to the forward call that made its autograd node, found by the node's sequence number. Backward runs with gradients
off and outside modules, so a call with gradients on or inside a module is a forward that runs again (checkpointing).
"""

from __future__ import annotations

import gc
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hwprof.measure.capture.fake import STAND_INS
from hwprof.measure.capture.torch_internals import (
    WEIGHTS,
    Storages,
    is_composite,
    is_sharded,
    newest_node,
    running_node,
    signature_of,
    storage_of,
)
from hwprof.measure.watch.hooks import Hooks
from hwprof.specs.job.labels import MODEL_LABEL
from hwprof.specs.job.settings import Direction
from hwprof.specs.record.captured import AtenCall, Kept, Place, PlacedCall, TensorView, Value

_ASKS_DEVICE = torch.ops.prim.device.default
_REENTRANT = "CheckpointFunctionBackward"
"""The node of a reentrant checkpoint, which does nothing but run its function again and start a backward pass."""

_BEFORE_ALL = Place(MODEL_LABEL, "backward")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What was seen while a part of a module ran forward.

    Attributes:
        calls: in order.
        packs: memory that autograd packed, with the place of what keeps it and its bytes.
        born: memory -> who wrote it first.
        copies: memory -> the parameter's of which it is a copy.
    """

    calls: tuple[PlacedCall, ...]
    packs: tuple[tuple[int, Place, int], ...]
    born: dict[int, Place]
    copies: dict[int, int]


Mark = tuple[int, int, int, int]
"""A moment of a recording."""


class CallRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types it so
    """Records calls while it is entered.

    Attributes:
        calls: what was called, in order.
        nodes: for each of them in a backward pass the node of autograd's that ran; None = none did.
        first_use: number of a memory -> the first forward call that reads it.
        storages: the numbers of memory.
        direction: of what runs now, as its owner says; a forward that runs again is seen by itself.
        outside: the path of calls outside every module; set by the owner.
        paused: whether calls go by unseen; set by the owner.
        failure: what ended the recording, where it was to end in place of the program.

    Args:
        keep_going: what goes wrong in recording ends the recording alone, not the program that is recorded.
    """

    def __init__(self, *, keep_going: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[PlacedCall] = []
        self.nodes: list[int | None] = []
        self.first_use: dict[int, Place] = {}
        self.storages = Storages()
        self.direction: Direction = "forward"
        self.outside = MODEL_LABEL
        self.paused = False
        self.failure = ""
        self._keep_going = keep_going
        self._paths: list[str] = []
        self._place_of_node: dict[int, Place | None] = {}
        self._nodes: list[int] = []
        self._place_of_node_again: dict[int, Place] = {}
        self._last = _BEFORE_ALL
        self._born: dict[int, Place] = {}
        self._copy_of: dict[int, int] = {}
        self._packs: list[tuple[int, int | None, Place, int]] = []
        self._stands_for: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and record it."""
        given = kwargs or {}
        if func is _ASKS_DEVICE or self.paused:
            return func(*args, **given)
        if any(is_sharded(kind) for kind in types):
            return NotImplemented  # its parts come back here one by one
        if is_composite(func, args):
            with self:
                smaller = func.decompose(*args, **given)
            if smaller is not NotImplemented:
                return smaller
        result = self._run(func, args, given)
        try:
            self._record(func, args, given, result)
        except Exception as error:
            if not self._keep_going:
                raise
            self.failure = f"{func}: {type(error).__name__}: {error}"
            self.paused = True
        return result

    @staticmethod
    def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func in STAND_INS and any(isinstance(leaf, FakeTensor) for leaf in args):
            return STAND_INS[func](*args, **kwargs)
        return func(*args, **kwargs)

    @contextmanager
    def inside(self, modules: Iterable[tuple[str, nn.Module]]) -> Iterator[None]:
        """Follow which of these modules, each with its path, is running."""
        hooks = Hooks([])  # what they do can't fail
        try:
            for path, part in modules:
                self._follow(hooks, part, path or MODEL_LABEL)
            yield
        finally:
            hooks.close()

    @contextmanager
    def packing(self) -> Iterator[None]:
        """Note what autograd keeps."""
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor):
            yield

    def kept(self, *, without: set[int]) -> tuple[Kept, ...]:
        """What is alive now and was kept by autograd or made by a recorded call, but for the memory ``without``."""
        packed: dict[int, Kept] = {}
        for number, node, place, size_bytes in self._packs:
            if number not in packed:
                packed[number] = Kept(self._keeper(node, place), size_bytes, self._is_copy(number))
        known = packed.keys() | without
        if self._held(known):
            gc.collect()  # what only a cycle of Python objects holds is not kept
        return tuple(kept for number, kept in (packed | self._held(known)).items() if number not in without)

    def _keeper(self, node: int | None, place: Place) -> Place:
        return place if node is None else self._place_of_node.get(node) or place

    def _held(self, known: Collection[int]) -> dict[int, Kept]:
        """What a forward call made and something other than autograd still holds."""
        alive = self.storages.alive()
        alive |= {number: alive[one] for number, one in self._stands_for.items() if one in alive}
        return {
            number: Kept(place, alive[number], self._is_copy(number))
            for number, place in self._born.items()
            if number in alive and number not in known
        }

    def is_placed(self, node: int | None) -> bool:
        """Whether it is known where what a node calls belongs; else it belongs to what ran before."""
        return node is not None and self._place_of(node) is not None

    def _place_of(self, node: int) -> Place | None:
        """The place of the call that made a node, or after which it was made, as by a write to a view."""
        if node in self._place_of_node or node in self._place_of_node_again:
            return self._place_of_node.get(node) or self._place_of_node_again.get(node)
        if node >= WEIGHTS or self._place_of_node_again:
            return None
        if len(self._nodes) != len(self._place_of_node):
            self._nodes = sorted(self._place_of_node)
        before = bisect_right(self._nodes, node)
        return self._place_of_node[self._nodes[before - 1]] if before else None

    def mark(self) -> Mark:
        """This moment."""
        return len(self.calls), len(self._packs), len(self._born), len(self._copy_of)

    def since(self, mark: Mark) -> Passage:
        """What was seen from a moment to now."""
        calls, packs, born, copies = mark
        return Passage(
            calls=tuple(self.calls[calls:]),
            packs=tuple((number, self._keeper(node, at), size) for number, node, at, size in self._packs[packs:]),
            born=dict(islice(self._born.items(), born, None)),
            copies=dict(islice(self._copy_of.items(), copies, None)),
        )

    def repeat(self, passage: Passage, place: Callable[[Place], Place], numbers: Mapping[int, int]) -> None:
        """Record it once more, at other places and on other memory.

        Calls keep the numbers of the memory that they were recorded with.

        Args:
            passage: what was seen.
            place: of a place of it the one that stands for it now.
            numbers: of memory -> those of what stands for it now; ``stand_in`` gives one for what is not there.
        """
        of = numbers.get
        self._place_of_node.setdefault(newest_node(), None)  # it stands for many calls
        self.calls.extend(PlacedCall(place(each.place), each.direction, each.call) for each in passage.calls)
        self.nodes.extend([None] * len(passage.calls))
        self._packs.extend((of(one, one), None, place(at), size_bytes) for one, at, size_bytes in passage.packs)
        for one, at in passage.born.items():
            self._born.setdefault(of(one, one), place(at))
        for one, source in passage.copies.items():
            self._copy_of.setdefault(of(one, one), of(source, source))

    def stand_in(self, one: int) -> int:
        """A number for memory that is not there, and is alive as long as this one."""
        number = self.storages.fresh()
        self._stands_for[number] = one
        return number

    def mark_parameters(self, numbers: set[int]) -> None:
        """Say which memory is that of parameters, so that copies of them are known as such."""
        self._copy_of.update({number: number for number in numbers})

    def _is_copy(self, number: int) -> bool:
        return self._copy_of.get(number, number) != number

    def _follow(self, hooks: Hooks, module: nn.Module, path: str) -> None:
        def enter(_module: nn.Module, _args: object) -> None:
            self._paths.append(path)

        def leave(_module: nn.Module, _args: object, _output: object) -> None:
            self._paths.pop()

        hooks.before(module, enter, prepend=True)
        hooks.after(module, leave)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        place = Place(self._path(), "backward")
        self._packs.append((self.storages.number(tensor), newest_node(), place, storage_of(tensor).nbytes()))
        return tensor

    def _path(self) -> str:
        return self._paths[-1] if self._paths else self.outside

    def _record(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        call = self._call(func, args, kwargs, result)
        place, direction, node = self._place(call.name)
        if not call.written and call.results and not call.outputs:
            return  # a view
        self.calls.append(PlacedCall(place, direction, call))
        self.nodes.append(node)
        if direction == "forward":
            self._note_memory(call, place)

    def _note_memory(self, call: AtenCall, place: Place) -> None:
        for tensor in call.inputs:
            self.first_use.setdefault(tensor.storage, place)
        for tensor in call.outputs:
            self._born.setdefault(tensor.storage, place)
        if call.name == "aten::_to_copy":
            source = call.tensor("self").storage
            if source in self._copy_of:
                self._copy_of[call.results[0].storage] = self._copy_of[source]

    def _place(self, name: str) -> tuple[Place, Direction, int | None]:
        if self.direction == "update":
            return Place(self.outside, name), "update", None
        if self.direction == "forward":
            return self._forward_place(Place(self._path(), name)), "forward", None
        node, node_name = running_node() or (None, "")
        if node is not None:
            self._last = self._place_of(node) or self._last
        runs_again = node is not None and torch.is_grad_enabled()
        if runs_again or self._paths or node_name == _REENTRANT:
            path = self._paths[-1] if self._paths else self._last.path
            return self._place_again(Place(path, name)), "recompute", node
        return self._last, "backward", node

    def _forward_place(self, place: Place) -> Place:
        self._place_of_node.setdefault(newest_node(), place)
        return place

    def _place_again(self, place: Place) -> Place:
        """A forward that runs again may do so in another thread, whose nodes are numbered from the start again."""
        self._place_of_node_again.setdefault(newest_node(), place)
        return place

    def _call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> AtenCall:
        signature = signature_of(func)
        given = signature.defaults | dict(zip(signature.names, args, strict=False)) | kwargs
        arguments = {name: self._value(value) for name, value in given.items() if name not in signature.receiving}
        returned = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        return AtenCall(
            name=signature.name,
            arguments=arguments,
            results=tuple(self._view(tensor) for tensor in returned),
            written=signature.written,
        )

    def _value(self, value: Any) -> Value:
        if isinstance(value, torch.Tensor):
            return self._view(value)
        if isinstance(value, list | tuple):
            return tuple(self._value(item) for item in value)
        return value if isinstance(value, bool | int | float | str | None) else str(value)

    def _view(self, tensor: torch.Tensor) -> TensorView:
        width = tensor.element_size()
        spread = prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride != 0)
        return TensorView(
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            element_bytes=width,
            elements=min(spread, storage_of(tensor).nbytes() // width),
            storage=self.storages.number(tensor),
        )
