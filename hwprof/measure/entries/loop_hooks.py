"""Which activity is the loop's thread in? Phases, loading, checkpoints, garbage collection, recompilation."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from hwprof.measure.entries.ledger import Activity, Ledger
from hwprof.measure.watch.hooks import Hooks

_WHOLE_COLLECTION = 2
"""The oldest generation of Python's garbage collector; younger ones take microseconds."""

_WRITERS: Mapping[str, tuple[str, ...]] = {
    "torch": ("save",),
    "torch.serialization": ("save",),
    "torch.distributed.checkpoint": ("save", "async_save"),
    "torch.distributed.checkpoint.state_dict_saver": ("save", "async_save"),
    "safetensors.torch": ("save_file", "save_model"),
}
"""Module -> its functions that write checkpoints."""


class LoopHooks:
    """Tells a ledger what the loop does, until it is closed.

    Args:
        root: the module that the loop calls.
        optimizers: its optimizers; empty = every optimizer of the program.
        ledger: which is told.
        hooks: that are closed with it.
    """

    def __init__(
        self, root: nn.Module, optimizers: Sequence[torch.optim.Optimizer], ledger: Ledger, hooks: Hooks
    ) -> None:
        self._ledger = ledger
        self._hooks = hooks
        self._depth = 0
        self._wrapped: set[str] = set()
        self._compiles = False
        hooks.before(root, self._enter_forward, prepend=True)
        hooks.after(root, self._leave_forward)
        hooks.around_backward(self._enter_backward, self._leave_backward)
        before, after = (hooks.guarded(lambda *_, to=to: ledger.switch(to)) for to in ("optimizer", "data"))
        for optimizer in optimizers:
            hooks.undo(optimizer.register_step_pre_hook(before).remove)
            hooks.undo(optimizer.register_step_post_hook(after).remove)
        if not optimizers:
            hooks.undo(register_optimizer_step_pre_hook(before).remove)
            hooks.undo(register_optimizer_step_post_hook(after).remove)
        self._collections()
        self._loading()
        self.look_again()

    def look_again(self) -> None:
        """What was imported since: other writers of checkpoints, the compiler."""
        for module, names in _WRITERS.items():
            if module in sys.modules and module not in self._wrapped:
                self._wrapped.add(module)
                for name in names:
                    if hasattr(sys.modules[module], name):
                        self._around(sys.modules[module], name, "checkpoint")
        if not self._compiles and "torch._dynamo.callback" in sys.modules:
            self._compiles = True
            self._compiling()

    def _enter_forward(self, *_: object) -> None:
        self._depth += 1
        if self._depth == 1:
            self._ledger.switch("forward" if torch.is_grad_enabled() else "evaluation")

    def _leave_forward(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._ledger.switch("loss" if torch.is_grad_enabled() else "data")

    def _enter_backward(self) -> None:
        self._ledger.switch("backward")

    def _leave_backward(self) -> None:
        self._ledger.go_on()
        self._ledger.switch("clip")

    def _collections(self) -> None:
        def told(phase: str, info: Mapping[str, int]) -> None:
            if info["generation"] == _WHOLE_COLLECTION:
                if phase == "start":
                    self._ledger.begin("garbage collection")
                else:
                    self._ledger.end()

        gc.callbacks.append(told)
        self._hooks.undo(lambda: gc.callbacks.remove(told) if told in gc.callbacks else None)

    def _loading(self) -> None:
        from torch.utils.data import dataloader

        self._around(dataloader._BaseDataLoaderIter, "__next__", "loading")  # noqa: SLF001

    def _compiling(self) -> None:
        handler = sys.modules["torch._dynamo.callback"].callback_handler
        start = self._hooks.guarded(lambda *_: self._ledger.begin("recompilation"))
        end = self._hooks.guarded(lambda *_: self._ledger.end())
        for add, remove, call in (
            ("register_start_callback", "remove_start_callback", start),
            ("register_end_callback", "remove_end_callback", end),
        ):
            getattr(handler, add)(call)
            self._hooks.undo(functools.partial(getattr(handler, remove), call))

    def _around(self, owner: Any, name: str, activity: Activity) -> None:
        """Book the time of a function until the hooks are closed."""
        original: Callable[..., Any] = getattr(owner, name)
        begin = self._hooks.guarded(lambda: self._ledger.begin(activity))
        end = self._hooks.guarded(self._ledger.end)

        @functools.wraps(original)
        def around(*args: Any, **kwargs: Any) -> Any:
            begin()
            try:
                return original(*args, **kwargs)
            finally:
                end()

        setattr(owner, name, around)

        def undo() -> None:
            if getattr(owner, name) is around:
                setattr(owner, name, original)

        self._hooks.undo(undo)
