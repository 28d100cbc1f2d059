"""Which numbers does the script read from tensors that hold none, and what is it told?

Small tensors that come from data, constants and arithmetic on them keep their values: each operator on them runs for
real beside the fake one. What follows from weights or activations has none; where the script asks all the same, a rule
answers: every expert gets the same share, losses and norms are 1, nothing is infinite, what is to hold for all holds.
"""
# ruff: noqa: SLF001 (this module is a border to names that torch does not promise)

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten

MOST_WHOLE, MOST_BROKEN = 2**21, 2**14
"""Elements of whole numbers and flags, and of other numbers, up to which values are kept."""

_VALUE, _MAKER, _FLAG = "_hwprof_value", "_hwprof_maker", "_hwprof_flag"

ALL_HOLD = frozenset({"all", "isfinite", "eq", "equal", "ge", "le"})
"""Operators whose unknown flags are taken to be true; those of others are false."""

_CHOICES = {aten.topk.default: 1, aten.sort.default: 1, aten.sort.stable: 1, aten.argsort.default: 0,
            aten.argmax.default: 0, aten.argmin.default: 0, aten.multinomial.default: 0, aten.max.dim: 1,
            aten.min.dim: 1}  # fmt: skip
"""Operators that choose among elements, and which of their results says where the chosen ones are."""

_KEEPS = {aten._amp_foreach_non_finite_check_and_unscale_.default}
"""Operators that write to a tensor with a value and leave it as it is: no gradient is infinite."""


class Values:
    """Values of tensors, and what was made up.

    Attributes:
        made_up: rule -> how often it answered.

    Args:
        expert_skew: how often the first of several choices is taken, over the mean; 1: as often as each other.
    """

    def __init__(self, expert_skew: float = 1.0) -> None:
        self.made_up: Counter[str] = Counter()
        self._skew = expert_skew
        self._changed: dict[int, int] = {}

    def known(self, tensor: Any) -> torch.Tensor | None:
        """The value of a tensor; None where it has none. A real tensor is its own."""
        if not isinstance(tensor, FakeTensor):
            return tensor if not tensor.is_meta else None
        found = tensor.__dict__.get(_VALUE)
        if found is None:
            return None
        value, change = found
        return value if self._changed.get(_key(tensor), 0) == change else None

    def tell(self, tensor: Any, value: torch.Tensor) -> None:
        """Say what a fake tensor holds."""
        if isinstance(tensor, FakeTensor):
            key = _key(tensor)
            change = self._changed.setdefault(key, 0)
            tensor.__dict__[_VALUE] = (value, change)

    def forget(self, tensor: torch.Tensor) -> None:
        """Nobody knows any more what a memory holds."""
        if isinstance(tensor, FakeTensor):
            key = _key(tensor)
            if key in self._changed:
                self._changed[key] += 1

    def follow(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        """After a call of an operator: values of its results, where its arguments have them and they are small."""
        written = _written(func, args, kwargs)
        results = [leaf for leaf in (out if isinstance(out, tuple | list) else (out,)) if isinstance(leaf, FakeTensor)]
        targets = results or [each for each in written if isinstance(each, FakeTensor)]
        if not targets or not all(_small(each) for each in targets) or not self._all_known(args, kwargs):
            for tensor in written:
                if func not in _KEEPS:
                    self.forget(tensor)
            if len(results) == 1 and results[0].numel() == 1:
                results[0].__dict__[_MAKER] = (func._overloadpacket.__name__, _elements(args))
                self._decide(func, args, kwargs, results[0])
            self._choose(func, args, out)
            return
        value = self.compute(func, args, kwargs)
        if value is None:
            return
        for tensor, one in zip(
            results, [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)], strict=False
        ):
            self.tell(tensor, one)

    def _decide(self, func: Any, args: Any, kwargs: dict[str, Any], flag: torch.Tensor) -> None:
        """A flag that follows from single numbers is what it is for the numbers that they would be read as."""
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if flag.dtype is not torch.bool or not leaves or any(leaf.numel() != 1 for leaf in leaves):
            return

        def read(leaf: Any) -> Any:
            if not isinstance(leaf, torch.Tensor) or self.known(leaf) is not None:
                return self.known(leaf) if isinstance(leaf, torch.Tensor) else leaf
            answer = leaf.__dict__.get(_FLAG)
            if leaf.dtype is torch.bool and answer is None:
                answer = leaf.__dict__.get(_MAKER, ("", 1))[0] in ALL_HOLD
            return torch.ones(leaf.shape, dtype=leaf.dtype) if answer is None else torch.full(leaf.shape, answer)

        with _disable_current_modes(), torch.no_grad():
            found = func(*tree_map(read, args), **tree_map(read, kwargs))
            flag.__dict__[_FLAG] = bool(found)

    def compute(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """What an operator gives for the values of its arguments; None where it can't be computed here."""

        def real(leaf: Any) -> Any:
            if isinstance(leaf, torch.Tensor):
                return self.known(leaf)
            if isinstance(leaf, torch.device):
                return torch.device("cpu")
            return None if isinstance(leaf, torch.Generator) else leaf

        real_args, real_kwargs = tree_map(real, (args, kwargs))
        real_kwargs.pop("pin_memory", None)
        with _disable_current_modes(), torch.no_grad():
            try:
                return func(*real_args, **real_kwargs)
            except (RuntimeError, TypeError, NotImplementedError, IndexError, ValueError):
                for tensor in _written(func, args, kwargs):
                    self.forget(tensor)
                return None

    def item(self, tensor: torch.Tensor) -> Any:
        """The one number of a tensor."""
        value = self.known(tensor)
        if value is not None:
            with _disable_current_modes():
                return value.item()
        maker, elements = tensor.__dict__.get(_MAKER, ("", 1))
        decided = tensor.__dict__.get(_FLAG)
        if decided is not None:
            self.made_up["a loss, a norm or another number that was read is 1"] += 1
            return decided
        if tensor.dtype is torch.bool:
            answer = maker in ALL_HOLD
            self.made_up["a condition on all elements holds" if answer else "nothing is infinite, no flag is set"] += 1
            return answer
        if tensor.is_floating_point():
            self.made_up["a loss, a norm or another number that was read is 1"] += 1
            return 1.0
        self.made_up["what is counted is as many as there are elements, other whole numbers are 1"] += 1
        return elements if maker in {"sum", "count_nonzero"} else 1

    def made(self, tensor: torch.Tensor) -> torch.Tensor:
        """The value of a tensor; one that is made up by the same rules where it has none."""
        value = self.known(tensor)
        if value is not None:
            return value
        self.made_up["a tensor that was read as a whole holds ones"] += 1
        with _disable_current_modes():
            return torch.ones(tensor.shape, dtype=tensor.dtype)

    def _all_known(self, args: Any, kwargs: dict[str, Any]) -> bool:
        for leaf in itertools.chain(args, kwargs.values()):
            if isinstance(leaf, torch.Tensor):
                if self.known(leaf) is None:
                    return False
            elif isinstance(leaf, list | tuple) and any(
                isinstance(each, torch.Tensor) and self.known(each) is None for each in leaf
            ):
                return False
        return True

    def _choose(self, func: Any, args: Any, out: Any) -> None:
        """Chosen places are dealt out evenly."""
        place = _CHOICES.get(func)
        if place is None:
            return
        chosen = out[place] if isinstance(out, tuple | list) else out
        source = args[0]
        if not isinstance(chosen, FakeTensor) or chosen.numel() > MOST_WHOLE or not source.dim():
            return
        dim = args[2] if func is aten.topk.default and len(args) > 2 else -1
        if func in {aten.argmax.default, aten.argmin.default, aten.max.dim, aten.min.dim}:
            dim = args[1] if len(args) > 1 and args[1] is not None else -1
        choices = source.shape[dim] if dim is not None else source.numel()
        even = "is dealt out evenly"
        way = even if self._skew == 1 else f"falls on the first {self._skew:g} times as often as on the mean"
        self.made_up[f"what is chosen by weights or activations (experts) {way}"] += 1
        with _disable_current_modes():
            if chosen.dim() and func in {aten.sort.default, aten.sort.stable, aten.argsort.default}:
                row = torch.arange(chosen.shape[-1])
                value = row.expand(chosen.shape).contiguous()
            else:
                value = dealt(chosen.shape, max(choices, 1), self._skew)
        self.tell(chosen, value)


def dealt(shape: torch.Size, choices: int, skew: float) -> torch.Tensor:
    """Choices for each place of a result; those of a row differ where there are as many.

    With a skew the first choice is taken by so many times its mean share of the rows, evenly among them, and the others
    share the rest.
    """
    count = shape.numel()
    if skew == 1 or choices < 2 or not count:
        return (torch.arange(count) % choices).view(shape)
    width = shape[-1] if len(shape) > 1 else 1
    rows = count // width
    found = (1 + torch.arange(count) % (choices - 1)).view(rows, width)
    share = min(skew * width / choices, 1.0)
    places = torch.arange(rows, dtype=torch.float64)
    found[torch.floor((places + 1) * share) > torch.floor(places * share), 0] = 0
    return found.view(shape)


def _key(tensor: torch.Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key


def _small(tensor: torch.Tensor) -> bool:
    broken = tensor.is_floating_point() or tensor.is_complex()
    return tensor.numel() <= (MOST_BROKEN if broken else MOST_WHOLE) and tensor.fake_device.type != "meta"  # type: ignore[attr-defined]


def _elements(args: Iterable[Any]) -> int:
    return next((leaf.numel() for leaf in args if isinstance(leaf, torch.Tensor)), 1)


def _written(func: Any, args: Any, kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """Tensors that an operator changes."""
    if not func._schema.is_mutable:
        return []
    found: list[torch.Tensor] = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            found += [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]
    return found
