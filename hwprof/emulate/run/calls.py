"""How is a call of an operator written down? Its name, the shapes that decide what it costs, its FLOP."""
# ruff: noqa: SLF001 (this module is a border to names that torch does not promise)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from hwprof.count.aten import matmul
from hwprof.count.aten.registry import aten_cost
from hwprof.emulate.tape import Call
from hwprof.specs.record.captured import AtenCall, TensorView, Value
from hwprof.specs.record.saved_calls import Layout

_FLASH_BACKWARD_PRODUCTS = 5
"""Products of flash attention's backward pass, which computes the scores again; four of them are its gradients."""


def shapes_of(value: Any) -> Any:
    """What of an argument decides what a call costs."""
    if isinstance(value, torch.Tensor):
        return (value.shape, value.dtype, value.device.type)
    if isinstance(value, list | tuple):
        return tuple(shapes_of(each) for each in value)
    if isinstance(value, int | str | None):
        return value
    return str(value) if isinstance(value, torch.dtype | torch.device) else type(value).__name__


def call_of(func: Any, name: str, args: Any, kwargs: dict[str, Any], out: Any, *, view: bool, line: str) -> Call:
    """One kind of call; a view computes nothing."""
    leaves = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
    types = {leaf.device.type for leaf in leaves}
    device = "cuda" if "cuda" in types else "cpu" if "cpu" in types else ""
    if view or not device:
        return Call(name=name, flop=0, device="", call=None, line="")
    call = _aten_call(func, name, args, kwargs, out)
    return Call(name=name, flop=_flop(func, call, args, kwargs, out), device=device, call=call, line=line)


def _flop(func: Any, call: AtenCall, args: Any, kwargs: dict[str, Any], out: Any) -> int:
    counted = flop_registry.get(func._overloadpacket)
    if counted is not None:
        names = [each.name for each in func._schema.arguments]
        if func._overloadname.startswith("dtype"):  # its result's type is no argument of torch's counter
            args = [value for name, value in zip(names, args, strict=False) if name != "out_dtype"]
        return int(counted(*args, **kwargs, out_val=out))
    flop = int(aten_cost(call).matmul_flop)
    attention = call.name in {f"{name}_backward" for name in matmul.ATTENTION}
    return flop * _FLASH_BACKWARD_PRODUCTS // 4 if attention else flop


def _aten_call(func: Any, name: str, args: Any, kwargs: dict[str, Any], out: Any) -> AtenCall:
    given, results, written = _bound(func, args, kwargs, out)
    return AtenCall(
        name=name,
        arguments={key: _value(value) for key, value in given.items()},
        results=tuple(tensor_view(tensor) for tensor in results),
        written=written,
    )


def _bound(
    func: Any, args: Any, kwargs: dict[str, Any], out: Any
) -> tuple[dict[str, Any], list[torch.Tensor], tuple[str, ...]]:
    """Arguments by name but those that receive results, results, and names of what is changed in place."""
    arguments = func._schema.arguments
    given = {each.name: each.default_value for each in arguments if each.has_default_value()}
    given |= dict(zip((each.name for each in arguments), args, strict=False)) | kwargs
    changed = [each for each in arguments if each.alias_info is not None and each.alias_info.is_write]
    receiving = {each.name for each in changed if each.is_out}
    received = [given[key] for key in receiving] if receiving and out is None else out
    results = [leaf for leaf in tree_leaves(received) if isinstance(leaf, torch.Tensor)]
    kept = {key: value for key, value in given.items() if key not in receiving}
    return kept, results, tuple(each.name for each in changed if not each.is_out)


def layouts_of(
    func: Any, args: Any, kwargs: dict[str, Any], out: Any, number: Callable[[torch.Tensor], int]
) -> tuple[Layout, ...]:
    """Where the tensors of a call lie, in the order in which ``call_of`` has them."""
    given, results, _ = _bound(func, args, kwargs, out)
    tensors = [leaf for leaf in tree_leaves(list(given.values())) if isinstance(leaf, torch.Tensor)]
    return tuple((number(each), int(each.storage_offset()), tuple(each.stride())) for each in (*tensors, *results))


def _value(value: Any) -> Value:
    if isinstance(value, torch.Tensor):
        return tensor_view(value)
    if isinstance(value, list | tuple):
        return tuple(_value(item) for item in value)
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def tensor_view(tensor: torch.Tensor) -> TensorView:
    """A tensor as calls are written down: elements that are there once, however often they are read."""
    width = tensor.element_size()
    spread = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        spread *= size if stride else 1
    storage = tensor.untyped_storage()
    return TensorView(
        shape=tuple(tensor.shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
        element_bytes=width,
        elements=min(spread, storage.nbytes() // width),
        storage=storage._cdata,
    )
