"""How long does a call of an operator take that somebody's script makes? Called again, alone, on numbers of its own.

The shapes and types are those that were recorded; memory is laid out plainly, numbers lie between 0 and 1, indices
within what they are taken from. Where a CPU's last cache can't hold what a step holds, several sets take turns.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from hwprof.measure.probes.bench import Bench, CannotRunError
from hwprof.measure.probes.matmul import l2_flush
from hwprof.measure.probes.rotation import rotating
from hwprof.measure.probes.sampling import Work
from hwprof.measure.timing import ThreadTimer
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.captured import AtenCall, TensorView, Value, tensors_in
from hwprof.specs.record.saved_calls import call_name

SAMPLE_S, CALL_S = 2e-3, 0.3
"""Shortest sample, and time for all samples of a call: hundreds of kinds of calls are timed."""

MOST_BYTES = 4 * 2**30
"""Of the tensors of one call."""


def call_ceiling(bench: Bench, call: AtenCall) -> Ceiling:
    """``call.<operator>.<digest>``: seconds of one call from Python, what it takes the host included on a CPU.

    With one thread they are the processor's: what other processes take of it is no part of the call.

    Raises:
        CannotRunError: torch of this machine has no such operator, or its tensors are too large.
    """
    size_bytes = sum(tensor.size_bytes for tensor in (*call.inputs, *call.results))
    if size_bytes > MOST_BYTES:
        raise CannotRunError(f"its tensors hold {size_bytes} bytes, at most {MOST_BYTES} are tried")
    operator = operator_of(call)
    on_cpu = bench.device.type == "cpu"
    timer = ThreadTimer() if on_cpu and torch.get_num_threads() == 1 else bench.timer
    quick = replace(bench, timer=timer, minimum_sample_s=SAMPLE_S if on_cpu else 0.0, samples=5)
    with torch.inference_mode(mode=False), torch.no_grad():
        work = rotating(lambda: _work(operator, call, bench.device), size_bytes, bench.device)
        timed = quick.time(work, deadline_s=CALL_S, prepare=l2_flush(bench.device))
    return bench.ceiling(call_name(call), "latency", timed, conditions={"call": call.name, "played": "alone"})


def operator_of(call: AtenCall) -> Any:
    """The overload of an operator whose arguments are named and typed like those of a call.

    Raises:
        CannotRunError: there is none.
    """
    space, _, name = call.name.partition("::")
    with contextlib.suppress(ImportError):
        importlib.import_module(_MAKERS.get(space, "torch"))
    packet = getattr(getattr(torch.ops, space), name, None)
    for overload in packet.overloads() if packet is not None else ():
        found = getattr(packet, overload)
        asked = {each.name: str(each.type) for each in found._schema.arguments if not each.is_out}  # noqa: SLF001
        if asked.keys() == call.arguments.keys() and all(map(_fits, asked.values(), _by_name(call, asked))):
            return found
    raise CannotRunError(f"torch of this machine has no {call.name} of such arguments")


_MAKERS = {"fsdp": "torch.distributed.fsdp", "_dtensor": "torch.distributed.tensor"}
"""Namespace of operators -> what has to be imported for them."""


def _by_name(call: AtenCall, names: Sequence[str] | dict[str, str]) -> list[Value]:
    return [call.arguments[name] for name in names]


def _fits(kind: str, value: Value) -> bool:
    """Whether a value can be an argument of a type of torch's schemas."""
    if value is None:
        return kind.startswith(("Optional", "List[Optional"))
    if isinstance(value, TensorView):
        return kind in {"Tensor", "Optional[Tensor]"}
    if isinstance(value, tuple):
        return "List" in kind and ("Tensor" in kind) == any(isinstance(each, TensorView) for each in value)
    if "Tensor" in kind or "List" in kind:
        return False
    if isinstance(value, str):
        return True  # a type, a device, a layout, or a word
    return not (isinstance(value, float) and kind in {"int", "Optional[int]", "bool"})


def _work(operator: Any, call: AtenCall, device: torch.device) -> Work:
    """The call on tensors of its own."""
    known: dict[tuple[int, tuple[int, ...], str], torch.Tensor] = {}
    bound = bound_of(call)

    def made(view: TensorView) -> torch.Tensor:
        key = (view.storage, view.shape, view.dtype)
        if key not in known:
            known[key] = tensor_like(view, device, bound)
        return known[key]

    positional, named = arguments_of(operator, call, made, device)
    return lambda: operator(*positional, **named)


def arguments_of(
    operator: Any, call: AtenCall, made: Callable[[TensorView], torch.Tensor], device: torch.device
) -> tuple[list[Any], dict[str, Any]]:
    """What an operator is called with, by place and by name; ``made`` gives its tensors, one after the other.

    Results are made only for an operator that there is not without a place for them.
    """
    arguments = {name: _argument(name, value, made, device) for name, value in call.arguments.items()}
    asked = operator._schema.arguments  # noqa: SLF001
    results = map(made, call.results)
    for each in asked:
        if each.is_out:
            arguments[each.name] = list(results) if "List" in str(each.type) else next(results)
    positional = [arguments[each.name] for each in asked if not each.kwarg_only]
    return positional, {each.name: arguments[each.name] for each in asked if each.kwarg_only}


def _argument(name: str, value: Value, made: Callable[[TensorView], torch.Tensor], device: torch.device) -> Any:
    if isinstance(value, TensorView):
        return made(value)
    if isinstance(value, tuple):
        return [_argument(name, each, made, device) for each in value]
    if name == "device" and value is not None:
        return device
    if name == "generator":
        return None
    if isinstance(value, str) and value.startswith("torch."):
        return getattr(torch, value.removeprefix("torch."))
    return value


def tensor_like(view: TensorView, device: torch.device, bound: int, *, most: float = 1.0) -> torch.Tensor:
    """A tensor of a shape and type, with plain numbers up to ``most``; one number, where all elements are one.

    Raises:
        CannotRunError: torch has no such type.
    """
    dtype = getattr(torch, view.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise CannotRunError(f"torch of this machine has no type {view.dtype}")
    repeated = view.elements == 1 and len(view.shape) > 0
    shape = (1,) * len(view.shape) if repeated else view.shape
    if dtype.is_floating_point or dtype.is_complex:
        wide = torch.rand(shape, device=device, dtype=torch.float32 if dtype.itemsize < 4 else None)
        found = (wide if most == 1.0 else wide * most).to(dtype)
    else:
        found = torch.randint(0, 2 if dtype is torch.bool else bound, shape, device=device).to(dtype)
    return found.expand(view.shape) if repeated else found


def bound_of(call: AtenCall) -> int:
    """What every index of a call stays below: the smallest size of what it could be taken from."""
    rows = call.arguments.get("num_weights")
    if isinstance(rows, int):
        return max(rows, 1)
    name = _TABLES.get(call.name)
    if name is not None:
        table = call.tensor(name[0])
        return max(table.shape[name[1]], 1)
    return max(min(_sizes(call), default=1), 1)


_TABLES = {
    "aten::embedding": ("weight", 0),
    "aten::nll_loss_forward": ("self", -1),
    "aten::nll_loss_backward": ("self", -1),
}
"""Operator -> of which argument, along which dimension, its indices choose."""


def _sizes(call: AtenCall) -> Iterator[int]:
    for value in call.arguments.values():
        for tensor in tensors_in(value):
            if tensor.is_float:
                yield from tensor.shape
