"""When does the program come to a collective, and when has it what it waits for? Whoever asks torch.distributed for it.

Whatever issues collectives, in Python or C++ (DistributedDataParallel's reducer, FSDP, DTensor, a call by hand), does
so by an operator ``c10d::...``; a kernel in its autograd slot notes the arrival and passes everything on.
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
_SLOTS = ("AutogradCPU", "AutogradCUDA")

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
    try:
        library = torch.library.Library("c10d", "IMPL")  # type: ignore[no-untyped-call]
        hooks.undo(library._destroy)  # noqa: SLF001
        for name in _OPERATORS:
            _note(library, name, hooks.guarded(arrive))
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        return f"this torch does not tell when collectives begin ({type(error).__name__})"
    _around_wait(hooks, hooks.guarded(wait), hooks.guarded(go_on))
    return ""


def _note(library: Any, name: str, arrive: Arrive) -> None:
    operators: Any = torch.ops.c10d
    operator = getattr(operators, name).default
    below: Any = torch._C._after_autograd_keyset  # noqa: SLF001

    def kernel(keys: Any, *args: Any, **kwargs: Any) -> Any:
        arrive(name)
        return operator.redispatch(keys & below, *args, **kwargs)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a kernel stands in the place of the fallback
        for slot in _SLOTS:
            library.impl(name, kernel, slot, with_keyset=True)


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
