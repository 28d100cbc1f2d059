"""Which part of the program is its training loop? Found at the first optimizer step, or by a Trainer's own callbacks.

This is imported while torch is, so it imports nothing of it before something steps.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

from hwprof.attach.options import attached_options

_state: dict[str, Any] = {"watched": None, "trainer": False}
"""The loop that is watched, if one is; and whether a Trainer's callback watches it."""


def optimizers(module: Any) -> None:
    """Every optimizer of the program tells us of its steps, when torch is through with what it does around them.

    torch wraps the ``step`` of each class of optimizers when the first is made; ours goes around that.
    """
    original = module.Optimizer.profile_hook_step

    def profile_hook_step(step: Callable[..., Any]) -> Callable[..., Any]:
        wrapped = original(step)

        @functools.wraps(step)
        def stepped(*args: Any, **kwargs: Any) -> Any:
            found = wrapped(*args, **kwargs)
            _stepped(args[0])
            return found

        return stepped

    module.Optimizer.profile_hook_step = staticmethod(profile_hook_step)


def _stepped(optimizer: Any) -> None:
    if _state["trainer"] or _state["watched"] is False:
        return
    try:
        if _state["watched"] is None:
            from hwprof.attach.found_loop import FoundLoop

            _state["watched"] = FoundLoop(attached_options())
        _state["watched"].stepped(optimizer)
    except Exception as error:  # noqa: BLE001 (whatever it is, somebody's program must not end for it)
        _state["watched"] = False
        print(f"hwprof: not attached: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201


def process_groups(module: Any) -> None:
    """Before the program's ranks part, what they saw of each other is put together."""
    original = module.destroy_process_group

    @functools.wraps(original)
    def destroy_process_group(*args: Any, **kwargs: Any) -> Any:
        if _state["watched"]:
            _state["watched"].stop()
        return original(*args, **kwargs)

    module.destroy_process_group = destroy_process_group


def huggingface(module: Any) -> None:
    """The first ``Trainer`` gets our callback."""

    def add(trainer: Any) -> None:
        from hwprof.adapters.huggingface import HwprofCallback

        trainer.add_callback(HwprofCallback(**attached_options()))

    _at_first(module, add)


def lightning(module: Any) -> None:
    """The first ``Trainer`` gets our callback."""

    def add(trainer: Any) -> None:
        from hwprof.adapters.lightning import HwprofCallback

        trainer.callbacks.append(HwprofCallback(**attached_options()))

    _at_first(module, add)


def _at_first(module: Any, add: Callable[[Any], None]) -> None:
    """Call ``add`` with the first ``Trainer`` of a module once it is made."""
    original = module.Trainer.__init__

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if not _state["trainer"]:
            _state["trainer"] = True
            add(self)

    module.Trainer.__init__ = init


LISTENERS: Mapping[str, Callable[[Any], None]] = {
    "torch.optim.optimizer": optimizers,
    "torch.distributed.distributed_c10d": process_groups,
    "transformers.trainer": huggingface,
    "lightning.pytorch.trainer.trainer": lightning,
    "pytorch_lightning.trainer.trainer": lightning,
}
"""Module of ``imports.MODULES`` -> what is told of it once it is there."""
