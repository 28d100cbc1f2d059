"""Which phase of its step is somebody else's loop in? Found by hooks, or named by hand; none are left behind.

The forward pass is found by hooks of the module, the backward pass by wrapping ``torch.autograd.backward`` (which
``loss.backward()`` calls), the update by the optimizer's own step hooks. What lies between has the name of what loops
do there: the loss after the forward pass, clipping after the backward pass, data after the update.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from hwprof.measure.watch.hooks import Hooks
from hwprof.specs.job.settings import PhaseName
from hwprof.train.loop import PhaseContext, no_phase

BESIDE_TRAINING: frozenset[PhaseName] = frozenset({"evaluation", "checkpoint"})

USUAL_AFTER = 3
"""So many steps in a row with an evaluation in them, and it is a part of the step."""

OnForward = Callable[[tuple[Any, ...], Mapping[str, Any]], None]


class PhaseFinder:
    """Runs each phase of the steps of a loop in the phase context of the step.

    Args:
        root: the module that the loop calls.
        optimizers: its optimizers; empty = every optimizer of the program.

    Attributes:
        empty_gaps: gaps that are no phase, because nothing runs in them; set by the owner.
        backward_passes: of a step; after an earlier one comes more data and no clipping. None = not known; set by the
            owner.
        on_forward: called with its arguments before each forward pass; set by the owner.
        seen: phases that were found or named so far.
        stepped: the optimizers whose steps were found so far.
        elsewhere: whether the model was called in a thread that takes no steps.
        notes: what went wrong in looking.
    """

    def __init__(self, root: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._root = root
        self._optimizers = optimizers
        self._thread = threading.get_ident()
        self._phase: PhaseContext = no_phase
        self.notes: list[str] = []
        self._hooks = Hooks(self.notes)
        self._hung = False
        self._open: tuple[PhaseName, AbstractContextManager[object]] | None = None
        self._by_hand = 0
        self._forward_depth = 0
        self._backward_depth = 0
        self._update_depth = 0
        self._beside = False
        self._backward_done = 0
        self._in_a_row = 0
        self.empty_gaps: frozenset[PhaseName] = frozenset()
        self.backward_passes: int | None = None
        self.on_forward: OnForward | None = None
        self.seen: set[PhaseName] = set()
        self.stepped: list[torch.optim.Optimizer] = []
        self.elsewhere = False

    def begin(self, phase: PhaseContext) -> None:
        """A step of the thread that calls this begins; ``no_phase`` leaves nothing in the loop's way.

        Args:
            phase: the context that its phases run in.
        """
        self._thread = threading.get_ident()
        self._phase = phase
        self._beside = False
        self._backward_done = 0
        self._forward_depth = self._backward_depth = self._update_depth = 0
        if phase is no_phase:
            self._remove()
            return
        if not self._hung:
            self._install()
        self._switch("data")

    def end(self) -> None:
        """The step is over."""
        self._switch(None)

    def stop(self) -> None:
        """End the step and leave nothing behind; may be called at any time, and again."""
        try:
            self._switch(None)
        finally:  # a device that broke marks no phase any more
            self._remove()
            self._phase = no_phase

    @contextmanager
    def by_hand(self, name: PhaseName, inputs: Any = None) -> Iterator[None]:
        """A phase that the loop names itself; nothing is looked for inside it.

        Args:
            name: of the phase.
            inputs: of a forward pass.
        """
        self._beside |= name in BESIDE_TRAINING
        if self._phase is no_phase or self._by_hand:
            yield
            return
        before = self._open[0] if self._open else None
        switch = self._hooks.guarded(self._switch)
        if inputs is not None and self.on_forward is not None:
            self._hooks.guarded(self.on_forward)((inputs,), {})
        self._by_hand += 1
        switch(name)
        try:
            yield
        finally:
            self._by_hand -= 1
            switch(_after(name) or before)

    def leave_out(self) -> None:
        """Something else than training ran in this step."""
        self._beside = True

    def disturbed(self) -> bool:
        """Whether something else than training ran in the step just taken, and not in every step before it."""
        self._in_a_row = self._in_a_row + 1 if self._beside else 0
        return self._beside and self._in_a_row <= USUAL_AFTER

    @property
    def evaluates_always(self) -> bool:
        """Whether an evaluation is a part of every step."""
        return self._in_a_row > USUAL_AFTER

    def _switch(self, name: PhaseName | None) -> None:
        now = self._open[0] if self._open else None
        wanted = None if name in self.empty_gaps else name
        if wanted == now:
            return
        if self._open:
            _, context = self._open
            self._open = None
            context.__exit__(None, None, None)
        if wanted is not None:
            self.seen.add(wanted)
            context = self._phase(wanted)
            context.__enter__()
            self._open = wanted, context

    @property
    def _looking(self) -> bool:
        return not self._by_hand and threading.get_ident() == self._thread

    def _install(self) -> None:
        self._hung = True
        self._hooks.before(self._root, self._enter_forward, prepend=True, with_kwargs=True)
        self._hooks.after(self._root, self._leave_forward)
        for handle in self._step_hooks():
            self._hooks.undo(handle.remove)
        self._hooks.around_backward(self._enter_backward, self._leave_backward)

    def _step_hooks(self) -> Iterator[Any]:
        """Hooks around the step of each optimizer, or of every one in the program."""
        before, after = self._hooks.guarded(self._enter_update), self._hooks.guarded(self._leave_update)
        for optimizer in self._optimizers:
            yield optimizer.register_step_pre_hook(before)
            yield optimizer.register_step_post_hook(after)
        if not self._optimizers:
            yield register_optimizer_step_pre_hook(before)
            yield register_optimizer_step_post_hook(after)

    def _remove(self) -> None:
        self._hooks.close()
        self._hung = False

    def _enter_forward(self, _module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._forward_depth += 1
        self.elsewhere |= threading.get_ident() != self._thread
        if self._forward_depth > 1 or self._backward_depth or not self._looking:
            return
        if torch.is_grad_enabled():
            self._switch("forward")
            if self.on_forward is not None:
                self.on_forward(args, kwargs)
        else:
            self._beside = True
            self._switch("evaluation")

    def _leave_forward(self, *_: object) -> None:
        self._forward_depth -= 1
        if not self._forward_depth and not self._backward_depth and self._looking:
            evaluated = self._open is not None and self._open[0] == "evaluation"
            self._switch("data" if evaluated else "loss")

    def _enter_backward(self) -> None:
        self._backward_depth += 1
        if self._backward_depth == 1 and self._looking:
            self._switch("backward")

    def _leave_backward(self) -> None:
        self._backward_depth -= 1
        if self._backward_depth:
            return
        self._backward_done += 1
        if self._looking:
            more = self.backward_passes is not None and self._backward_done < self.backward_passes
            self._switch("optimizer" if self._update_depth else "data" if more else "clip")

    def _enter_update(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        self._update_depth += 1
        if not any(optimizer is known for known in self.stepped):
            self.stepped.append(optimizer)
        if self._update_depth == 1 and self._looking:
            self._switch("optimizer")

    def _leave_update(self, *_: object) -> None:
        self._update_depth -= 1
        if not self._update_depth and self._looking:
            self._switch("backward" if self._backward_depth else "data")


def _after(name: PhaseName) -> PhaseName | None:
    """What follows a phase that was named by hand; None = what ran before it."""
    following: dict[PhaseName, PhaseName] = {
        "forward": "loss",
        "backward": "clip",
        "optimizer": "data",
        "evaluation": "data",
        "checkpoint": "data",
    }
    return following.get(name)
