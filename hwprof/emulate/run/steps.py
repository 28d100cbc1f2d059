"""Where does a step begin, which phase runs, inside which module? Hooks that see it without the script's help."""
# ruff: noqa: SLF001 (this module is a border to names that torch does not promise)

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

from hwprof.emulate.run.rank import EnoughError, Rank
from hwprof.emulate.run.rebinding import rebind

MOST_STEPS = 4
"""Steps that are emulated at most where no number is asked for: buckets and optimizers settle in the first two."""


class Steps:
    """The steps of a rank: one reaches from the end of an optimizer's update to that of the next one.

    Attributes:
        optimizers: those that have stepped.
    """

    def __init__(self, rank: Rank) -> None:
        self._rank = rank
        self._begun, self._updated = False, False
        self._names: dict[int, str] = {}
        self._path: list[str] = []
        self.optimizers: weakref.WeakSet[Any] = weakref.WeakSet()

    def install(self) -> None:
        """Watch, for the rest of this process."""
        quiet = self._rank.host_time.not_counted
        modules.register_module_forward_pre_hook(quiet(self._enter))
        modules.register_module_forward_hook(quiet(self._leave), always_call=True)
        optimizers.register_optimizer_step_pre_hook(quiet(self._before_update))
        optimizers.register_optimizer_step_post_hook(quiet(self._after_update))
        graph: Any = torch.autograd.graph
        backward = graph._engine_run_backward

        def watched(*args: Any, **kwargs: Any) -> Any:
            with self._rank.host_time:
                self._start()
                self._rank.enter("backward")
            try:
                return backward(*args, **kwargs)
            finally:
                self._rank.regions.leave()
                self._rank.enter("forward")

        rebind(graph, "_engine_run_backward", watched)

    def finish(self) -> None:
        """The script is over."""
        rank = self._rank
        if self._updated or (not rank.tape.steps and rank.tape.current.events):
            rank.tape.end_step()

    def _enter(self, module: nn.Module, _inputs: Any) -> None:
        if not self._path:
            self._start()
            if id(module) not in self._names:
                root = type(module).__name__
                self._names |= {id(part): name or root for name, part in module.named_modules()}
        self._path.append(self._names.get(id(module), type(module).__name__))
        self._rank.place = self._path[-1]

    def _leave(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        if self._path:
            self._path.pop()
        self._rank.place = self._path[-1] if self._path else ""

    def _start(self) -> None:
        """A forward pass that trains, or a backward pass: here a step may begin."""
        if not torch.is_grad_enabled() and self._rank.phase != "backward":
            return
        rank = self._rank
        if not self._begun:
            self._begun = True
            rank.tape.begin()
            rank.regions.begin()
        elif self._updated and rank.phase != "backward":
            self._updated = False
            known, alike = bool(rank.tape.unstored or rank.tape.passing), rank.tape.end_step()
            rank.regions.begin()
            if (rank.tape.unstored or rank.tape.passing) and not known:
                rank.storages.settle()
            wanted = rank.finished
            if rank.tape.steps >= (wanted or MOST_STEPS) or (wanted is None and alike):
                raise EnoughError

    def _before_update(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        held = self._rank.storages
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        held.kinds("weights", [_local(each) for each in parameters])
        held.kinds("gradients", [_local(each.grad) for each in parameters if each.grad is not None])
        self._rank.enter("optimizer")

    def _after_update(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        self._rank.enter("forward")
        self._updated = True
        self._rank.tape.mark()
        if optimizer not in self.optimizers:
            self.optimizers.add(optimizer)
            states = [value for state in optimizer.state.values() for value in state.values()]
            tensors = [_local(each) for each in states if isinstance(each, torch.Tensor)]
            self._rank.storages.kinds("optimizer states", tensors)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a sharded tensor that is here."""
    return getattr(tensor, "_local_tensor", tensor)
