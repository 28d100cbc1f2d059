"""What does a rate measured at some sizes say of others? The nearest sizes dominate a mean; beyond, the edge holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLOSE = 1e-6
"""Squared distance, in squared natural logarithms of sizes, below which two sizes are the same."""


def nearest_mean(wanted: Floats, known: Floats, values: Floats) -> Floats:
    """Geometric mean of the known values with inverse squared distance weights (Shepard 1968), for each wanted size.

    Args:
        wanted: [rows, dimensions] sizes, above 0; those beyond the known ones are taken as the nearest that lie within.
        known: [points, dimensions] sizes at which there is a value.
        values: [points], above 0.
    """
    inside = np.clip(np.log(wanted), np.log(known).min(axis=0), np.log(known).max(axis=0))
    distance = ((inside[:, None, :] - np.log(known)[None, :, :]) ** 2).sum(axis=2)
    weight = 1 / np.maximum(distance, CLOSE)
    mean: Floats = np.exp((weight * np.log(values)).sum(axis=1) / weight.sum(axis=1))
    return mean
