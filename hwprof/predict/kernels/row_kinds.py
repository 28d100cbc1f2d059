"""Which rows of a table can be asked together, and which not at all?"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.curves.rows import RowTimes

Key = TypeVar("Key", bound=Hashable)


def refuse_unknown(
    times: RowTimes, words: Mapping[str, NDArray[np.str_]], known: Mapping[str, tuple[str, ...]]
) -> None:
    """Refuse the rows whose word in a column is not among the known ones."""
    for name, column in words.items():
        for word in sorted(set(column.tolist()) - set(known[name])):
            reason = f"{name} {word!r} is unknown; known: {', '.join(known[name])}"
            times.refuse(np.flatnonzero(column == word), reason)


def alike(kinds: Iterable[Key], times: RowTimes) -> list[tuple[Key, NDArray[np.int64]]]:
    """The rows of each kind, without those that are refused."""
    found: dict[Key, list[int]] = {}
    for row, kind in enumerate(kinds):
        if not times.refused[row]:
            found.setdefault(kind, []).append(row)
    return [(kind, np.array(index, dtype=np.int64)) for kind, index in found.items()]
