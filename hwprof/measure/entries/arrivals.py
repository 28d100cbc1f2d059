"""When does the program come to a collective, and when has it what it waits for? Whoever asks torch.distributed for it.

Whatever issues collectives, in Python or C++ (DistributedDataParallel's reducer, FSDP, DTensor, compiled code, a call
by hand), does so by an operator ``c10d::...``; a kernel above its own notes the arrival and passes everything on.
DTensor and compiled code wait by ``_c10d_functional::wait_tensor``, the others by ``Work.wait``.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch

from hwprof.measure.watch.hooks import Hooks

_OPERATORS = (
    "allreduce_",
    "allreduce_coalesced_",
    "allgather_",
    "_allgather_base_",
    "allgather_coalesced_",
    "allgather_into_tensor_coalesced_",
    "reduce_scatter_",
    "_reduce_scatter_base_",
    "reduce_scatter_tensor_coalesced_",
    "alltoall_",
    "alltoall_base_",
    "broadcast_",
    "barrier",
)
"""Of torch/csrc/distributed/c10d/Ops.cpp: those at which every rank of a group waits for every other."""
_SLOT: Any = torch._C.DispatchKey.BackendSelect  # noqa: SLF001
"""Below autograd, which DTensor's own calls leave out; above what works, so that fake tensors never come to it."""

Arrive = Callable[[str], object]


def watch(hooks: Hooks, *, arrive: Arrive, wait: Callable[[], object], go_on: Callable[[], object]) -> str:
    """Call these at every collective until the hooks are closed; returns why not, empty where they are called.

    Args:
        hooks: which close it.
        arrive: with the operator's name, before it is issued.
        wait: before the program waits for one.
        go_on: after that.
    """
    if not torch.distributed.is_available():
        return "this torch has no torch.distributed"
    arrive, wait, go_on = hooks.guarded(arrive), hooks.guarded(wait), hooks.guarded(go_on)
    try:
        library = _library(hooks, "c10d")
        for name in _OPERATORS:
            _place(library, getattr(torch.ops.c10d, name), before=functools.partial(arrive, name))
        library = _library(hooks, "_c10d_functional")
        _place(library, torch.ops._c10d_functional.wait_tensor, before=wait, after=go_on)  # noqa: SLF001
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        return f"this torch does not tell when collectives begin ({type(error).__name__})"
    _around_wait(hooks, wait, go_on)
    return ""


def _library(hooks: Hooks, space: str) -> Any:
    library = torch.library.Library(space, "IMPL")  # type: ignore[no-untyped-call]
    hooks.undo(library._destroy)  # noqa: SLF001
    return library


def _place(
    library: Any, operator: Any, *, before: Callable[[], object], after: Callable[[], object] = lambda: None
) -> None:
    """A kernel in the slot right above the operator's own, which goes on to that one.

    Going on lets other threads run Python meanwhile. A kernel in the own one's place would have to call it by
    ``torch.library.get_kernel(...).call_boxed``, which does not (torch 2.13), while gloo's threads wait for just that.
    """

    def kernel(keys: Any, *args: Any, **kwargs: Any) -> Any:
        before()
        try:
            return operator.default.redispatch(keys.remove(_SLOT), *args, **kwargs)
        finally:
            after()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a kernel stands in the place of the fallback
        library.impl(operator.default, kernel, _SLOT.name, with_keyset=True)


def _around_wait(hooks: Hooks, wait: Callable[[], object], go_on: Callable[[], object]) -> None:
    """``work.wait()`` of every collective that Python waits for."""
    kind: Any = torch.distributed.Work
    original = kind.wait

    @functools.wraps(original)
    def waits(self: Any, *args: Any, **kwargs: Any) -> Any:
        wait()
        try:
            return original(self, *args, **kwargs)
        finally:
            go_on()

    kind.wait = waits

    def undo() -> None:
        if kind.wait is waits:
            kind.wait = original

    hooks.undo(undo)
