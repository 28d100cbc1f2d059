"""Which of many cases differ? Each distinct case is worked out once, and the others look it up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

LARGEST_KEY = 2**62


def distinct(*columns: Integers) -> tuple[Integers, Integers]:
    """Where each distinct row of the columns stands first, and for every row which of them it is.

    Args:
        columns: of equal length, whole numbers. [rows]

    Rows are told apart by one number each (their digits in a mixed base), which sorts far faster than rows do.
    """
    key, size = np.zeros(len(columns[0]), dtype=np.int64), 1
    for column in columns:
        low = int(column.min())
        span = int(column.max()) - low + 1
        if size * span > LARGEST_KEY:
            key = np.unique(key, return_inverse=True)[1].reshape(-1)
            size = len(key)
        key = key * span + (column - low)
        size *= span
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    return first, index.reshape(-1)
