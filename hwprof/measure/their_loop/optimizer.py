"""Which optimizer does a loop that somebody else wrote update with?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch

from hwprof.errors import InputError
from hwprof.train.optimizers import FOREACH_ON

Implementation = Literal["for-loop", "foreach", "fused", ""]


def plain_optimizers(
    given: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | None,
) -> tuple[torch.optim.Optimizer, ...]:
    """The optimizers themselves, without what libraries wrap them in.

    Raises:
        InputError: one of them is no optimizer.
    """
    several: Any = () if given is None else given if isinstance(given, list | tuple) else (given,)
    return tuple(_plain(one) for one in several)


def _plain(optimizer: Any) -> torch.optim.Optimizer:
    """Accelerate's and other wrappers keep the optimizer in an attribute of this name."""
    while hasattr(optimizer, "optimizer") and isinstance(optimizer.optimizer, torch.optim.Optimizer):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            f"{type(optimizer).__name__} is no torch.optim.Optimizer",
            expectation="expected the optimizer whose step() updates the model, or several in a list",
            remedy="leave it out, and every optimizer of the program is watched",
        )
    return optimizer


def implementation(optimizers: Iterable[torch.optim.Optimizer], device: torch.device) -> Implementation:
    """Which of torch's implementations the first optimizer asks for; empty where it has no such choice.

    Where nothing is asked for, torch takes lists of tensors (foreach) on ``FOREACH_ON`` and a loop elsewhere.
    """
    defaults = next((optimizer.defaults for optimizer in optimizers), {})
    if not {"fused", "foreach"} & defaults.keys():
        return ""
    if defaults.get("fused"):
        return "fused"
    if defaults.get("foreach") is None:
        return "foreach" if device.type in FOREACH_ON else "for-loop"
    return "foreach" if defaults["foreach"] else "for-loop"
