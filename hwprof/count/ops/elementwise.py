"""How is one formula evaluated for a number and for a whole array of layouts? Comparisons that take either.

numpy is imported only where an array comes in: counting one layout does without it.
"""

from __future__ import annotations

import operator
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Amount: TypeAlias = "float | NDArray[Any]"
else:
    Amount = Any


def larger(*amounts: Amount) -> Amount:
    """The largest of the amounts, element by element."""
    return reduce(lambda one, other: _pick("maximum", one, other), amounts)


def smaller(*amounts: Amount) -> Amount:
    """The smallest of the amounts, element by element."""
    return reduce(lambda one, other: _pick("minimum", one, other), amounts)


def where(condition: Amount, yes: Amount, no: Amount) -> Amount:
    """``yes`` where the condition holds, else ``no``; amounts that are not finite must not stand in either.

    >>> where(3 > 2, 1.0, 5.0)
    1.0
    """
    if isinstance(condition, bool | int | float):
        return yes if condition else no
    chosen: Amount = _numpy().where(condition, yes, no)
    return chosen


def scaled(times: Amount, amount: Amount) -> Amount:
    """``times`` x ``amount``, without work for an array where either is nothing."""
    nothing = any(isinstance(factor, int | float) and not factor for factor in (times, amount))
    return 0.0 if nothing else times * amount


def added(*amounts: Amount) -> Amount:
    """The sum of the amounts: numbers first, then arrays."""
    numbers = sum(amount for amount in amounts if isinstance(amount, int | float))
    arrays = [amount for amount in amounts if not isinstance(amount, int | float)]
    if not arrays:
        return numbers
    return reduce(operator.add, arrays) + numbers if numbers else reduce(operator.add, arrays)


def _pick(name: str, one: Amount, other: Amount) -> Amount:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return max(one, other) if name == "maximum" else min(one, other)
    picked: Amount = getattr(_numpy(), name)(one, other)
    return picked


def _numpy() -> Any:
    import numpy as np

    return np
