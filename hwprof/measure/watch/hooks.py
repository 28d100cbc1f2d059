"""How does a mark of ours stand in somebody's program? Guarded, absent from copies of the model, gone when closed.

A mark that fails is left out and noted; the program goes on. ``copy.deepcopy``, ``pickle`` and ``torch.save`` of a
module that is watched see it as it would be without us.
"""

from __future__ import annotations

import copyreg
import functools
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from hwprof.measure.watch.sessions import make_way_if_asked

_PROTOCOL = 4
"""Of pickle, in which ``copy`` asks an object what it consists of."""

_FORWARD_HOOKS = {
    "_forward_pre_hooks": ("_forward_pre_hooks_with_kwargs",),
    "_forward_hooks": ("_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
}
"""Where a module keeps its hooks by number, and what it says of them by the same number."""

_lock = threading.RLock()


class Hook:
    """A call that somebody's program makes for us; what goes wrong in it is noted once and never raised.

    Args:
        call: what to do; what it returns is not handed on.
        notes: where to note what went wrong.
    """

    __slots__ = ("_call", "_notes")

    def __init__(self, call: Callable[..., object], notes: list[str]) -> None:
        self._call = call
        self._notes = notes

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Do it; an error becomes a note."""
        try:
            self._call(*args, **kwargs)
            make_way_if_asked()
        except Exception as error:  # noqa: BLE001 (whatever it is, somebody's step must not end for it)
            first_line = next(iter(str(error).splitlines()), "")
            note = f"a mark failed inside the loop and was left out: {type(error).__name__}: {first_line}"
            if note not in self._notes:
                self._notes.append(note)

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        """A copy does nothing; it is met only where a module describes itself in a way of its own."""
        return _inert, ()


def _inert() -> Callable[..., None]:
    return _nothing


def _nothing(*_args: object, **_kwargs: object) -> None:
    """What a copy of a hook does."""


class Hooks:
    """Hooks in somebody's program, until this is closed.

    Args:
        notes: where to note what went wrong in them.
    """

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self._undo: list[Callable[[], object]] = []

    def guarded(self, call: Callable[..., object]) -> Hook:
        """A call of ours that can't raise."""
        return Hook(call, self._notes)

    def before(self, module: nn.Module, call: Callable[..., object], **how: Any) -> None:
        """Call before each forward of a module; ``how`` as ``register_forward_pre_hook`` has it."""
        self._hang(module, module.register_forward_pre_hook(self.guarded(call), **how))

    def after(self, module: nn.Module, call: Callable[..., object]) -> None:
        """Call after each forward of a module, also one that failed."""
        self._hang(module, module.register_forward_hook(self.guarded(call), always_call=True))

    def around_backward(self, before: Callable[[], object], after: Callable[[], object]) -> None:
        """Call these around every ``torch.autograd.backward``."""
        self.undo(_backward.heard_by(self.guarded(before), self.guarded(after)))

    def undo(self, action: Callable[[], object]) -> None:
        """Do this, too, when the hooks are closed."""
        self._undo.append(action)

    def close(self) -> None:
        """Leave nothing behind; closing twice is harmless."""
        while self._undo:
            self._undo.pop()()

    def _hang(self, module: nn.Module, handle: Any) -> None:
        self.undo(_copied_without_hooks(type(module)))
        self.undo(handle.remove)


_hung: Counter[type] = Counter()
_described_before: dict[type, Any] = {}


def _copied_without_hooks(kind: type) -> Callable[[], None]:
    """Modules of this class are copied and saved without hooks of ours; the result ends that."""
    with _lock:
        _hung[kind] += 1
        if _hung[kind] == 1:
            _described_before[kind] = copyreg.dispatch_table.get(kind)
            copyreg.dispatch_table[kind] = _description

    def end() -> None:
        with _lock:
            _hung[kind] -= 1
            if _hung[kind]:
                return
            before = _described_before.pop(kind)
            if before is not None:
                copyreg.dispatch_table[kind] = before
            else:
                copyreg.dispatch_table.pop(kind, None)

    return end


def _description(module: nn.Module) -> Any:
    """What a module says that it consists of (``object.__reduce_ex__``), without hooks of ours."""
    own = _described_before.get(type(module))
    said: Any = module.__reduce_ex__(_PROTOCOL) if own is None else own(module)
    return tuple(map(_without_hooks, said)) if isinstance(said, tuple) else said


def _without_hooks(part: Any) -> Any:
    """A part of a description: the state of a module, or arguments among which it may be."""
    if isinstance(part, tuple):
        return tuple(map(_without_hooks, part)) if type(part) is tuple else part
    if type(part) is not dict or not _FORWARD_HOOKS.keys() <= part.keys():
        return part
    left = dict(part)
    for name, beside in _FORWARD_HOOKS.items():
        ours = {number for number, hook in part[name].items() if isinstance(hook, Hook)}
        left |= {key: _less(part[key], ours) for key in (name, *beside) if key in part}
    return left


def _less(hooks: Mapping[int, Any], numbers: set[int]) -> Any:
    kind: Any = type(hooks)
    return kind((number, hook) for number, hook in hooks.items() if number not in numbers)


class _Backward:
    """``torch.autograd.backward`` (which ``loss.backward()`` calls), wrapped once for all who want to hear of it."""

    def __init__(self) -> None:
        self._heard: tuple[tuple[Hook, Hook], ...] = ()
        self._original: Any = None
        self._wrapper: Any = None
        self._thread = threading.local()

    def heard_by(self, before: Hook, after: Hook) -> Callable[[], None]:
        """Call these around every backward pass, of nested ones around the outermost; the result ends that."""
        pair = before, after
        with _lock:
            if not self._heard:
                self._original = torch.autograd.backward
                self._wrapper = torch.autograd.backward = self._around(self._original)
            self._heard = (*self._heard, pair)

        def end() -> None:
            with _lock:
                self._heard = tuple(one for one in self._heard if one is not pair)
                if not self._heard and torch.autograd.backward is self._wrapper:
                    torch.autograd.backward = self._original
                # else somebody has wrapped it in turn, and calls it on

        return end

    def _around(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def backward(*args: Any, **kwargs: Any) -> None:
            inside = getattr(self._thread, "inside", False)
            heard = () if inside else self._heard
            self._thread.inside = True
            for before, _ in heard:
                before()
            try:
                original(*args, **kwargs)
            finally:
                self._thread.inside = inside
                for _, after in reversed(heard):
                    after()

        return backward


_backward = _Backward()
