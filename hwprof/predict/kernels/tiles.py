"""How much work is a product when it is cut into tiles that compute units do in waves?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Tiles = tuple[tuple[int, int, float], ...]
"""Rows and columns of each tile that a library may choose, and its work for a number over that of the largest."""

_SMALL = (
    *((64, 128, 1.25), (128, 64, 1.25), (64, 64, 1.5), (32, 128, 1.5), (128, 32, 1.5)),
    *((16, 128, 2.0), (128, 16, 2.0), (16, 16, 4.0)),
)
_LARGE = ((128, 256, 1.0), (256, 128, 1.0))
TILINGS: dict[str, Tiles] = {
    "large": (*_LARGE, *_SMALL),
    "equal": ((128, 128, 1.0), *_SMALL),
    "fine": (
        *_LARGE,
        *((128, 192, 1.05), (192, 128, 1.05), (128, 160, 1.07), (160, 128, 1.07), (128, 128, 1.1)),
        *((64, 256, 1.15), (256, 64, 1.15), (128, 96, 1.15), (96, 128, 1.15), *_SMALL),
    ),
}
"""Sets of tiles that libraries may have: which of them a device's library uses, its measured products tell. The extra
work of small tiles is assumed: they read their operands more often, for (1/rows + 1/columns) numbers a result."""


def padded_results(rows: Floats, columns: Floats, batch: Floats, *, units: float, tiles: Tiles) -> Floats:
    """Numbers of the result [batch, rows, columns] in whole tiles and full waves, with the best tile; never falls.

    Less than a wave is not filled up: libraries then split the inner size among the idle units.

    Args:
        rows: of each result.
        columns: of each result.
        batch: results.
        units: compute units; each does one tile at a time.
        tiles: to choose from.
    """
    down = {height: np.ceil(rows / height) * batch / units for height in {tile[0] for tile in tiles}}
    across = {width: np.ceil(columns / width) for width in {tile[1] for tile in tiles}}
    best = np.full(np.shape(rows), np.inf)
    for height, width, extra in tiles:
        waves = down[height] * across[width]
        np.copyto(waves, np.ceil(waves), where=waves > 1)
        waves *= units * height * width * extra
        np.minimum(best, waves, out=best)
    return best
