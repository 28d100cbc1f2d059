"""How far are predictions of a group of rows from what was measured?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupErrors:
    """Errors of some rows.

    Sizes are |ln(predicted / measured)| as per cent, exp(...) - 1; ``bias_pct`` is the median with its sign, and
    ``interval_coverage`` the share of the rows inside their 90 % interval.
    """

    count: int
    median_abs_pct: float
    p90_abs_pct: float
    bias_pct: float
    interval_coverage: float

    @classmethod
    def of(cls, miss: NDArray[np.float64], inside: NDArray[np.bool_]) -> Self:
        """Of at least one row: ln(predicted / measured), and whether it is inside its interval."""
        size = 100 * np.expm1(np.abs(miss))
        return cls(
            count=len(miss),
            median_abs_pct=float(np.median(size)),
            p90_abs_pct=float(np.quantile(size, 0.9)),
            bias_pct=float(100 * np.expm1(np.median(miss))),
            interval_coverage=float(inside.mean()),
        )
