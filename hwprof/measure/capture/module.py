"""What does any torch module compute, move and keep? One forward and backward pass, seen call by call.

Under fake tensors nothing is computed and no memory taken, so that a model of any size can be captured on any machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)
from torch.utils._pytree import tree_leaves

from hwprof.errors import HwprofError, InputError
from hwprof.measure.capture.flexible import without_flex_kernels
from hwprof.measure.capture.layers.ran import HasToRunError
from hwprof.measure.capture.layers.repeats import Repeats
from hwprof.measure.capture.layers.seen import Traits
from hwprof.measure.capture.mode import CallRecorder
from hwprof.measure.capture.shapes import shapes_only
from hwprof.measure.capture.subject import Subject
from hwprof.specs.job.labels import MODEL_LABEL, label_of
from hwprof.specs.model.captured import TensorWay
from hwprof.specs.record.captured import Capture, ParameterUse, Place

_NEEDS_DATA = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)
_TRAINED_OUTPUTS = ("loss", "logits")


def capture(
    subject: Subject, *, autocast: torch.dtype | None = None, backward: bool = True, whole: bool = False
) -> Capture:
    """Run the module once forward and, if anything gets a gradient, once backward.

    The gradient starts at the loss function's result. Without one it starts at the output's ``loss`` or else its
    ``logits``, where it is a record of several, or at all floating-point tensors of the output, as ones.

    Of layers that are equal, on shapes alone, one runs and the others do what it did, where that can be shown.

    Args:
        subject: module, inputs, loss function, and the fake-tensor mode that they live in.
        autocast: run the forward pass under autocast to this type.
        backward: whether the backward pass runs, too; what it would need is kept in any case.
        whole: whether all layers run.

    Raises:
        InputError: the module raises, needs real data, or makes tensors that are not dense.
    """
    run: set[str] = set()
    strides: dict[tuple[str, int], Traits] = {}
    for tries in range(_TRIES + 1):
        recorder = CallRecorder()
        repeats = None
        if subject.fake is not None and not whole and tries < _TRIES:
            repeats = Repeats(subject.module, recorder, subject.fake, run, strides)
        try:
            return _captured(subject, recorder, repeats, autocast=autocast, backward=backward)
        except HasToRunError as error:
            run |= error.paths
            strides |= error.strides
        except InputError:
            if repeats is None or not repeats.used:
                raise
            whole = True  # what stands for a layer may be what failed
        subject.module.zero_grad()
    raise AssertionError


_TRIES = 5
"""So often layers may turn out to have to run; then all do."""


def _captured(
    subject: Subject,
    recorder: CallRecorder,
    repeats: Repeats | None,
    *,
    autocast: torch.dtype | None,
    backward: bool,
) -> Capture:
    excluded = _numbers(recorder, [*subject.module.parameters(), *subject.module.buffers()])
    recorder.mark_parameters(_numbers(recorder, list(subject.module.parameters())))
    with ExitStack() as stack:
        stack.enter_context(_around(subject))
        stack.enter_context(subject.around())
        stack.enter_context(without_flex_kernels())
        stack.enter_context(recorder.inside(subject.module.named_modules()))
        stack.enter_context(nullcontext() if repeats is None else repeats.installed())
        try:
            roots = _forward(recorder, subject, autocast)
            kept = recorder.kept(without=excluded | _numbers(recorder, roots))
            start = len(recorder.calls)
            if repeats is not None:
                repeats.check(roots)
            if backward:
                _backward(recorder, roots, again=repeats is not None)
            calls = recorder.calls if repeats is None else repeats.with_backward(start)
        except (HwprofError, HasToRunError):
            raise
        except Exception as error:
            raise _refusal(subject, error) from error
    return Capture(calls=tuple(calls), kept=kept, parameters=tuple(parameter_uses(recorder, subject.module)))


def _around(subject: Subject) -> AbstractContextManager[None]:
    return nullcontext() if subject.fake is None else shapes_only(subject.fake)


def _numbers(recorder: CallRecorder, tensors: list[Any]) -> set[int]:
    return {recorder.storages.number(tensor) for tensor in tensors}


def _forward(recorder: CallRecorder, subject: Subject, autocast: torch.dtype | None) -> list[torch.Tensor]:
    """The tensors at which gradients start; all else of the output is let go."""
    casting: AbstractContextManager[Any] = (
        nullcontext() if autocast is None else torch.autocast(subject.device.type, dtype=autocast)
    )
    with recorder, recorder.packing():
        with casting:
            output = subject.module(*subject.arguments, **subject.keywords)
        if subject.loss is not None:
            recorder.outside = "loss"
            return [subject.loss(output)]
    return [leaf for leaf in tree_leaves(_trained(output)) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]


def _trained(output: Any) -> Any:
    if isinstance(output, Mapping):
        return next((output[name] for name in _TRAINED_OUTPUTS if output.get(name) is not None), output)
    return output


def _backward(recorder: CallRecorder, roots: list[torch.Tensor], *, again: bool) -> None:
    """``again``: the graph stays, since a module may hold a part of it that the next try goes through, too."""
    trained = [root for root in roots if root.requires_grad]
    if not trained:
        return
    gradients = [torch.ones_like(root, memory_format=torch.contiguous_format) for root in trained]
    recorder.outside, recorder.direction = MODEL_LABEL, "backward"
    with recorder:
        torch.autograd.backward(trained, gradients, retain_graph=again)


def parameter_uses(recorder: CallRecorder, module: nn.Module) -> Iterator[ParameterUse]:
    """Each parameter at the call that read it first."""
    plan = getattr(module, "tp_plan", None) or getattr(module, "_tp_plan", None) or {}
    for name, parameter in module.named_parameters():
        owner = Place(name.rpartition(".")[0] or MODEL_LABEL, "parameter")
        yield ParameterUse(
            place=recorder.first_use.get(recorder.storages.number(parameter), owner),
            elements=parameter.numel(),
            size_bytes=parameter.numel() * parameter.element_size(),
            trainable=parameter.requires_grad,
            shape=tuple(parameter.shape),
            split=_split(plan, name, parameter),
            linear=name.endswith(".weight") and _is_linear(module.get_submodule(name.rpartition(".")[0])),
        )


def _split(plan: Mapping[str, Any], name: str, parameter: nn.Parameter) -> TensorWay:
    """By the words of transformers' plans: of a row-wise matrix only the bias is whole."""
    path = label_of(name)
    style = plan.get(path) or plan.get(path.rpartition(".")[0], "")
    if not isinstance(style, str):  # an object of diffusers' own, whose split is not told by a word
        return ""
    if style in _GATHERED:
        return "gathered"
    if "colwise" in style:
        return "column"
    return "row" if "rowwise" in style and parameter.dim() > 1 else ""


_GATHERED = frozenset({"colwise_gather_output", "colwise_rep", "embedding_rowwise"})


def _is_linear(part: nn.Module) -> bool:
    """Whether it is a linear layer: torch's own, or transformers' of GPT-2, whose matrix lies the other way."""
    return isinstance(part, nn.Linear) or type(part).__name__ == "Conv1D"


def _refusal(subject: Subject, error: Exception) -> InputError:
    what = f"{subject.name} raised {type(error).__name__} while it was captured: {_first_line(error)}"
    if isinstance(error, TypeError) and "argument" in str(error):
        return InputError(
            what,
            expectation="its forward gets the inputs of the factory or of --input",
            remedy="return (module, inputs) from the factory, or say --input SHAPE:DTYPE or --input NAME=SHAPE:DTYPE",
        )
    by_hand = "call the module by hand on these inputs"
    if subject.fake is None:
        return InputError(what, remedy=f"{by_hand}; what runs there can be captured")
    if isinstance(error, _NEEDS_DATA):
        fact = "it looks at values, which fake tensors have not"
        real = "capture it on real tensors with --device cpu"
        if subject.around is not nullcontext:
            real = "build a small one in a function that returns (module, inputs), and count that on real tensors: "
            real += "hwprof count --module PACKAGE.MODULE:FUNCTION --device cpu"
        return InputError(what, expectation=fact, remedy=real)
    if subject.around is not nullcontext:
        given = ", ".join(
            f"{name}={_typed(value)}" for name, value in subject.keywords.items() if hasattr(value, "shape")
        )
        return InputError(what, expectation=f"it got {given}", remedy="`hwprof count` takes others with --input")
    return InputError(what, remedy=f"{by_hand}; if it runs there, capture it on real tensors with --device cpu")


def _typed(tensor: torch.Tensor) -> str:
    """As it is typed after --input NAME=."""
    return f"{'x'.join(map(str, tensor.shape))}:{str(tensor.dtype).removeprefix('torch.')}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]
