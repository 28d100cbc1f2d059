"""What does the model say of the rows of a kernel table, and of which rows nothing?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.curves.kernel_time import Basis, KernelTime

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RowTimes:
    """Predictions of rows, in their order.

    Attributes:
        seconds, lo_s, hi_s: not a number where a row is refused.
        refused: the reason of each row, or nothing.
        group: under which name a row's error is counted.
        bases: who said the times.
    """

    seconds: Floats
    lo_s: Floats
    hi_s: Floats
    refused: list[str]
    group: list[str]
    bases: dict[str, Basis]

    @classmethod
    def empty(cls, rows: int) -> RowTimes:
        """Of so many rows, none predicted yet."""
        unknown = np.full((3, rows), np.nan)
        return cls(unknown[0], unknown[1], unknown[2], [""] * rows, [""] * rows, {})

    def put(self, index: NDArray[np.int64], times: KernelTime, *, name: str) -> None:
        """The times of the rows at ``index``; ``name`` says what they are, for the basis."""
        self.seconds[index], self.lo_s[index], self.hi_s[index] = times.seconds, times.lo_s, times.hi_s
        self.bases[name] = times.basis

    def refuse(self, index: NDArray[np.int64], reason: str) -> None:
        """Say why the rows at ``index`` have no prediction."""
        for row in index:
            self.refused[row] = reason
