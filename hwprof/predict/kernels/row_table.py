"""What is to be timed, as arrays: the kernels of many shares of a model, and what each share's device offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwprof.count.job.rows import Row

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTable:
    """Rows of several shares, as arrays; ``share`` says to which share each row belongs, of ``shares`` in all.

    ``experts`` are the sizes of each share's routed experts [shares, 3].
    """

    share: NDArray[np.int64]
    shares: int
    experts: Floats
    part: NDArray[np.int64]
    when: NDArray[np.int64]
    unit: NDArray[np.int64]
    m: Floats
    n: Floats
    k: Floats
    groups: Floats
    flop: Floats
    moved_bytes: Floats
    times: Floats


class ExpertSizes(NamedTuple):
    """The model's width, that of an expert on a device, and the ranks that share a layer's experts."""

    hidden: float
    width: float
    ranks: float


NO_EXPERTS = ExpertSizes(0.0, 0.0, 0.0)


def row_table(rows_by_share: Sequence[Sequence[Row]], experts: Sequence[ExpertSizes]) -> RowTable:
    """The rows of each share, in order, and the sizes of its experts."""
    share = np.repeat(np.arange(len(rows_by_share)), [len(rows) for rows in rows_by_share])
    numbers = chain.from_iterable(chain.from_iterable(rows_by_share))
    values = np.fromiter(numbers, dtype=float, count=len(share) * len(Row._fields)).reshape(-1, len(Row._fields))
    column = dict(zip(Row._fields, values.T, strict=True))
    part, when, unit = (column.pop(name).astype(np.int64) for name in ("part", "when", "unit"))
    sizes = np.array(experts, dtype=np.float64).reshape(-1, len(ExpertSizes._fields))
    return RowTable(share=share, shares=len(rows_by_share), experts=sizes, part=part, when=when, unit=unit, **column)
