"""Which options does no other beat in everything? The Pareto front over quantities that should be small."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def front(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places of the points that no other point is at least as small as in every column and smaller than in one.

    Args:
        points: one row an option, one column a quantity; finite.

    Returns:
        Places in order; of equal points the first.
    """
    order = np.lexsort(points.T[::-1])
    kept: list[int] = []
    for place in order:
        rivals = points[kept]
        if not len(rivals) or not np.any(np.all(rivals <= points[place], axis=1)):
            kept.append(int(place))
    return np.array(sorted(kept), dtype=np.int64)
