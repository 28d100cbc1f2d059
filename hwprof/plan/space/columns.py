"""How is a space of settings spelled out? Columns of equal length, widened one setting at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.int64]
Truths: TypeAlias = NDArray[np.bool_]
Columns: TypeAlias = dict[str, Numbers]
"""Name of a setting -> its value in each row."""


def rows_of(columns: Columns) -> int:
    """How many rows there are."""
    return len(next(iter(columns.values())))


def only(columns: Columns, kept: NDArray[Any]) -> Columns:
    """The rows of a mask, or of row numbers."""
    return {name: values[kept] for name, values in columns.items()}


def widened(
    columns: Columns, key: Numbers, names: Sequence[str], choices: Callable[[int], Sequence[Sequence[int]]]
) -> Columns:
    """Each row repeated for every choice that its key has.

    Args:
        columns: the rows.
        key: what decides the choices, one number a row.
        names: of the new columns.
        choices: key -> tuples of new values, one for each name.
    """
    keys, place = np.unique(key, return_inverse=True)
    tables = [np.array(choices(int(value)), dtype=np.int64).reshape(-1, len(names)) for value in keys]
    sizes = np.array([len(table) for table in tables], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    repeats = sizes[place]
    rows = np.repeat(np.arange(len(key)), repeats)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    table = np.concatenate([*tables, np.empty((0, len(names)), dtype=np.int64)])
    chosen = table[starts[place][rows] + within]
    return only(columns, rows) | {name: chosen[:, place] for place, name in enumerate(names)}


def divisors(number: int) -> list[int]:
    """All of them, in order.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    small = [value for value in range(1, int(number**0.5) + 1) if number % value == 0]
    return sorted({*small, *(number // value for value in small)})
