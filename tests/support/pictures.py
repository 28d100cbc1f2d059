"""How far are two pictures apart, in a way that forgives a shifted letter and not a missing curve?"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

CELL_PX = 4
"""Pictures are compared, and kept, in cells of this many pixels a side: the mean colour of each."""
MOST_APART = 12.0
"""Mean difference of the three channels, of 255, that one cell may have. Other settings of type and smoothing gave up
to 8; a curve or a dot that is missing gives 14 and more, and a test for each shows that it is seen."""
_GOLDEN = Path(__file__).parents[1] / "golden" / "pictures"


def cells_of(pixels: np.ndarray) -> np.ndarray:
    """Mean colours of the cells, [rows, columns, 3]."""
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((image.width // CELL_PX, image.height // CELL_PX), Image.Resampling.BOX))


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of a cell of either picture from all cells of the other within one cell of its place."""
    if one.shape != other.shape:
        return float("inf")
    return max(_furthest(one, other), _furthest(other, one))


def _furthest(cells: np.ndarray, among: np.ndarray) -> float:
    rows, columns, _ = cells.shape
    around = np.pad(among.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    shifted = [around[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    return float(np.min([np.abs(cells - near).mean(axis=2) for near in shifted], axis=0).max())


def golden_cells(name: str, cells: np.ndarray) -> np.ndarray:
    """What is kept under a name; with HWPROF_UPDATE_GOLDEN=1 ``cells`` is kept first."""
    path = _GOLDEN / f"{name}.png"
    if os.environ.get("HWPROF_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(cells).save(path, optimize=True)
    return np.asarray(Image.open(path).convert("RGB"))
