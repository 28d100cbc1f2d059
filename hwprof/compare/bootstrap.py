"""How sure is the difference of two sets of samples? Bootstrap intervals of the change of a median.

Both sets are drawn again with replacement, many times; the middle 95 % of the changes are the interval (Efron and
Tibshirani, An Introduction to the Bootstrap, 13.3: percentile interval). Each set sees only the noise within its own
run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000
FEWEST = 3
"""With fewer samples a bootstrap says nothing of their spread."""
SEED = 20240229
LEVEL = (0.025, 0.975)


def median_change(a: Sequence[float], b: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of median(b) - median(a), in their unit; None with fewer than three samples on a side."""
    if min(len(a), len(b)) < FEWEST:
        return None
    low, high = np.quantile(_medians(b, 1) - _medians(a, 0), LEVEL)
    return float(low), float(high)


def median_ratio_change(a: Sequence[float], b: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of median(b) / median(a) - 1; None as above, or where A takes no time."""
    if min(len(a), len(b)) < FEWEST or min(a) <= 0:
        return None
    low, high = np.quantile(_medians(b, 1) / _medians(a, 0) - 1, LEVEL)
    return float(low), float(high)


def _medians(samples: Sequence[float], stream: int) -> NDArray[np.float64]:
    """Medians of resamples; the same for the same samples."""
    values = np.asarray(samples, dtype=np.float64)
    draws = np.random.default_rng((SEED, stream)).integers(0, len(values), (RESAMPLES, len(values)))
    found: NDArray[np.float64] = np.median(values[draws], axis=1)
    return found
