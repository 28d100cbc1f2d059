"""How far are predictions of servers from what was measured, over all and by model, device, engine and mode?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.deploy.published import ServingRows
from hwprof.predict.curves.misses import GroupErrors


@dataclass(frozen=True, slots=True, kw_only=True)
class BothErrors:
    """Errors of the time of a token and of the time to the first one; None where nothing was measured."""

    tpot: GroupErrors | None
    ttft: GroupErrors | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingErrors:
    """What came of a table: rows, how many of them predicted, errors over all and by group, reasons of refusal."""

    rows: int
    predicted: int
    coverage: float
    tpot: GroupErrors | None
    ttft: GroupErrors | None
    by_mode: dict[str, BothErrors]
    by_engine: dict[str, BothErrors]
    by_device: dict[str, BothErrors]
    by_model: dict[str, BothErrors]
    refused: dict[str, int]


def serving_errors(found: ServingRows) -> ServingErrors:
    """Errors of a table's predictions, where it says what was measured."""
    everything = np.ones(len(found.rows), dtype=bool)
    reasons = [reason for reason in found.refused if reason]
    count = len(found.rows)
    return ServingErrors(
        rows=count,
        predicted=count - len(reasons),
        coverage=(count - len(reasons)) / count if count else 0.0,
        tpot=_errors(found, everything, 1),
        ttft=_errors(found, everything, 0),
        by_mode=_by(found, "mode"),
        by_engine=_by(found, "backend"),
        by_device=_by(found, "device"),
        by_model=_by(found, "model_path"),
        refused=dict(Counter(reasons).most_common()),
    )


def _by(found: ServingRows, column: str) -> dict[str, BothErrors]:
    values = np.array([row.get(column, "") for row in found.rows])
    groups = {str(value): values == value for value in np.unique(values)}
    return {
        name: BothErrors(tpot=_errors(found, chosen, 1), ttft=_errors(found, chosen, 0))
        for name, chosen in groups.items()
    }


def _errors(found: ServingRows, chosen: NDArray[np.bool_], which: int) -> GroupErrors | None:
    """``which``: 0 for the first token, 1 for the others."""
    measured = found.measured[:, which]
    seconds, low, high = found.times[:, 3 * which : 3 * which + 3].T
    known = chosen & np.isfinite(measured) & (measured > 0) & np.isfinite(seconds)
    if not known.any():
        return None
    inside = (low[known] <= measured[known]) & (measured[known] <= high[known])
    return GroupErrors.of(np.log(seconds[known] / measured[known]), inside)
