"""How many operators does a piece of work dispatch?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from hwprof.measure.probes.bench import Bench

LONG_CALL_S = 0.05
"""A call as long as this warms up what comes after it."""


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts what is dispatched inside of it, forward and backward."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += 1
        return func(*args, **(kwargs or {}))


def operators_of(work: Callable[[], object]) -> int:
    """Operators that one call dispatches once autograd is done with them; views among them."""
    counting = _Counting()
    with counting:
        work()
    return counting.operators


def warmed_up(bench: Bench, work: Callable[[], object]) -> tuple[Bench, int]:
    """Call some work once: the bench, which warms it up no more if that took long, and how many operators it has."""
    began_s = bench.timer.mark().host_s
    operators = operators_of(work)
    long = bench.timer.mark().host_s - began_s > LONG_CALL_S
    return replace(bench, warmups=0) if long else bench, operators
