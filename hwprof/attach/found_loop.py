"""Which module does an optimizer of somebody's program train, and when is a step over? One measurement of that loop."""

from __future__ import annotations

import atexit
import gc
from typing import Any

import torch
from torch import nn

from hwprof.loop.profile import Profile, profile

_LOOKS = 20
"""After so many steps without a module that has the optimizers' parameters, the search is given up."""


class FoundLoop:
    """A training loop that is found by its optimizers' steps, and measured from then on.

    A step ends with the last optimizer before one steps again. Mutable: it looks until it has found.

    Args:
        options: of ``hwprof.profile``.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._order: list[torch.optim.Optimizer] = []
        self._steps = 0
        self._profile: Profile | None = None

    def stepped(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer has stepped."""
        if self._profile is not None:
            if optimizer is self._order[-1]:
                self._profile.step()
            return
        self._steps += 1
        known = any(optimizer is one for one in self._order)
        if not known:
            self._order.append(optimizer)
        if self._steps > _LOOKS or torch._C._current_graph_task_id() >= 0:  # noqa: SLF001 (in the backward pass)
            return
        root = trained_by(self._order)
        if root is None:
            return
        alone = {id(each) for each in root.parameters() if each.requires_grad} <= _parameters([optimizer])
        if alone or (known and optimizer is self._order[-1]):
            self._begin(root)

    def _begin(self, root: nn.Module) -> None:
        self._profile = profile(root, self._order, **self._options)
        self._profile.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Write the report."""
        if self._profile is not None:
            self._profile.stop()


def _parameters(optimizers: list[torch.optim.Optimizer]) -> set[int]:
    return {id(each) for one in optimizers for group in one.param_groups for each in group["params"]}


def trained_by(optimizers: list[torch.optim.Optimizer]) -> nn.Module | None:
    """The module whose parameters these optimizers change: of those that have all of them the one with least beside.

    Of a module and what it is wrapped in, the wrapper: that is what a loop calls. None where there is none.
    """
    wanted = _parameters(optimizers)
    found: list[tuple[int, int, nn.Module]] = []
    for module in [one for one in gc.get_objects() if issubclass(type(one), nn.Module)]:
        own = {id(each) for each in module.parameters()}
        if wanted <= own:
            found.append((len(own), -sum(1 for _ in module.modules()), module))
    return min(found, key=lambda one: one[:2])[2] if found else None
