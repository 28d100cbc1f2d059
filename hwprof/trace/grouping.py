"""Which rows are alike? Groups of equal rows among columns of whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def groups(*columns: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """The first row of each group, and the group of each row.

    The columns are joined to one number a row; each is first numbered from 0, so that the number does not overflow.
    """
    key = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        low = int(column.min()) if len(column) else 0
        width = int(column.max()) - low + 1 if len(column) else 1
        if width > _DENSE:
            known, column = np.unique(column, return_inverse=True)  # noqa: PLW2901 (the numbered column replaces it)
            low, width = 0, len(known)
        key *= width
        key += column
        key -= low
        if width * len(key) > 0 and key.max(initial=0) > _LARGEST:
            key = np.unique(key, return_inverse=True)[1]
    order = np.argsort(key, kind="stable")
    key = key[order]
    opens = np.concatenate([[True], key[1:] != key[:-1]])[: len(key)]
    group = np.empty(len(key), dtype=np.int32)
    group[order] = np.cumsum(opens, dtype=np.int32) - 1
    return order[opens], group


_DENSE = 1 << 20
_LARGEST = 1 << 40
