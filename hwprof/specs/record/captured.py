"""What was seen when a module ran? Its calls to torch's operators, what autograd kept, whose the parameters are.

Plain data without torch: ``hwprof.measure.capture.module`` writes it, ``hwprof.count`` prices it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

from hwprof.specs.job.settings import Direction
from hwprof.specs.model.captured import Piece, TensorWay


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor as an operator gets or gives it.

    Attributes:
        shape: its sizes.
        dtype: as torch calls it ("float32").
        element_bytes: width of an element.
        elements: distinct elements in memory; what is repeated by broadcasting counts once.
        storage: number of the memory behind it; equal for views of one another.
    """

    shape: tuple[int, ...]
    dtype: str
    element_bytes: int
    elements: int
    storage: int

    @property
    def size_bytes(self) -> int:
        """Bytes of its distinct elements."""
        return self.elements * self.element_bytes

    @property
    def is_float(self) -> bool:
        """Whether its elements are floating-point or complex numbers."""
        return self.dtype.startswith(("float", "bfloat", "complex"))


Value: TypeAlias = "TensorView | tuple[Value, ...] | bool | int | float | str | None"
"""An argument: a tensor, a list, a number; what is none of these (a device, a generator) stands as its text."""


def tensors_in(value: Value) -> Iterator[TensorView]:
    """The tensors of an argument, lists opened."""
    if isinstance(value, TensorView):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from tensors_in(item)


@dataclass(frozen=True, slots=True)
class AtenCall:
    """One call of an operator that computes or moves something; views of memory are no calls.

    Attributes:
        name: namespace and operator without overload ("aten::mm").
        arguments: by the names of the operator's schema, defaults included; not those that only receive a result.
        results: what it returns or writes to an ``out`` argument.
        written: names of the arguments that it changes in place.
    """

    name: str
    arguments: Mapping[str, Value]
    results: tuple[TensorView, ...]
    written: tuple[str, ...] = ()

    def tensor(self, name: str) -> TensorView:
        """The tensor argument ``name``."""
        value = self.arguments[name]
        assert isinstance(value, TensorView), f"{name} of {self.name} is {value!r}"
        return value

    @property
    def inputs(self) -> tuple[TensorView, ...]:
        """All tensors among the arguments."""
        return tuple(tensor for value in self.arguments.values() for tensor in tensors_in(value))

    @property
    def outputs(self) -> tuple[TensorView, ...]:
        """What it writes: arguments changed in place, and results in memory of their own."""
        changed = tuple(tensor for name in self.written for tensor in tensors_in(self.arguments[name]))
        known = {tensor.storage for tensor in self.inputs}
        return changed + tuple(result for result in self.results if result.storage not in known)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operation belongs.

    Attributes:
        path: of the innermost module around it, or of the module of its forward operation; ``model`` for the root.
        kind: name of the forward operator.
    """

    path: str
    kind: str


@dataclass(frozen=True, slots=True)
class PlacedCall:
    """A call, where it belongs, and in which direction it ran."""

    place: Place
    direction: Direction
    call: AtenCall


@dataclass(frozen=True, slots=True)
class Kept:
    """Memory that is alive between forward and backward, once however many views are kept; no parameter, no buffer.

    Attributes:
        place: who kept it first.
        size_bytes: of the whole memory behind what was kept.
        weight_copy: whether it is a copy of a parameter in another width.
    """

    place: Place
    size_bytes: int
    weight_copy: bool = False


@dataclass(frozen=True, slots=True)
class ParameterUse:
    """A parameter, once however many names it has, at the operation that reads it first.

    Attributes:
        place: of that operation; its owner, with kind ``parameter``, where none reads it.
        elements: how many numbers.
        size_bytes: of all of them.
        trainable: whether it gets a gradient.
        shape: its sizes.
        linear: whether it is the matrix of a linear layer.
        split: how tensor ranks share it by the plan of its class, by outputs, by outputs that are gathered at once, by
            inputs; empty = each has all of it.
    """

    place: Place
    elements: int
    size_bytes: int
    trainable: bool
    shape: tuple[int, ...] = ()
    linear: bool = False
    split: TensorWay = ""


CachedKind = Literal["tokens", "window", "cross", "state"]
"""``tokens`` has a place for each token; ``window`` only for the last ones; ``cross`` for those of an encoder's result;
``state`` is as large whatever the length: of convolutions, recurrences and sums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """A tensor that a model keeps from one new token to the next.

    Attributes:
        kind: how it grows.
        shape: its sizes, the batch first; tokens are the last but one where there are any.
        element_bytes: width of an element.
        layer: of which layer's cache.
        window: how many tokens a window has; 0 = it is none.
    """

    kind: CachedKind
    shape: tuple[int, ...]
    element_bytes: int
    layer: int = 0
    window: int = 0

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the configuration of a captured model says beside its module.

    Attributes:
        by: version and class, for people.
        family: its ``model_type``.
        widths: fields of a model.
        experts: how many a layer has, and how many a token meets; 1, 1 where there are none.
        causal: whether it generates tokens.
        classifies: whether it tells classes of whole inputs.
        encoder_decoder: whether it has two sides.
        remarks: what the file leaves to its class, or says in vain.
        pieces: of its recurrences.
    """

    by: str
    family: str
    widths: dict[str, int]
    experts: tuple[int, int]
    causal: bool
    classifies: bool
    encoder_decoder: bool
    remarks: tuple[str, ...]
    pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True)
class Capture:
    """One forward and, where there is something to train, one backward pass of a module."""

    calls: tuple[PlacedCall, ...]
    kept: tuple[Kept, ...]
    parameters: tuple[ParameterUse, ...]


@dataclass(frozen=True, slots=True)
class CapturedStep:
    """One whole step of a training loop.

    Attributes:
        calls: those of forward, loss, backward, clipping and optimizer, in order.
        beside: those between the optimizer and the next forward pass: data, and what else the loop does there.
        backward_passes: how often gradients were computed.
        failure: what ended the recording before the step was over; empty where it is whole.
    """

    calls: tuple[PlacedCall, ...]
    beside: tuple[PlacedCall, ...]
    backward_passes: int
    failure: str = ""
