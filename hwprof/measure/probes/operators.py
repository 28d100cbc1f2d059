"""How many operators does a piece of work dispatch?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from hwprof.measure.probes.bench import FEW_LONG_SAMPLES, Bench
from hwprof.measure.probes.sampling import Work

LONG_CALL_S = 0.05
"""A call as long as this warms up what comes after it."""

MOST_FOR_FEW_S = 1.0
"""So much time more than was set aside for it may long work take, to be timed as often as it takes to trust it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """Work that was called once.

    Attributes:
        bench: warms it up no more, if the call was long.
        operators: that a call dispatches.
        deadline_s: time to sample it for.
    """

    bench: Bench
    operators: int
    deadline_s: float


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts what is dispatched inside of it, forward and backward."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += 1
        return func(*args, **(kwargs or {}))


def operators_of(work: Work) -> int:
    """Operators that one call dispatches once autograd is done with them; views among them."""
    counting = _Counting()
    with counting:
        work()
    return counting.operators


def warmed_up(bench: Bench, work: Work, *, deadline_s: float) -> Warm:
    """Call some work once, for which so much time is set aside."""
    began_s = bench.timer.mark().host_s
    operators = operators_of(work)
    call_s = bench.timer.mark().host_s - began_s
    if call_s <= LONG_CALL_S:
        return Warm(bench=bench, operators=operators, deadline_s=deadline_s)
    few_s = min(FEW_LONG_SAMPLES * call_s, MOST_FOR_FEW_S)
    return Warm(bench=replace(bench, warmups=0), operators=operators, deadline_s=max(deadline_s - call_s, few_s))
