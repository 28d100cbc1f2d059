"""Whole tiles in full waves: counted by hand, never less than the work, never falling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.predict.kernels.tiles import TILINGS, padded_results

LARGE = ((128, 256, 1.0),)


def padded(rows, columns, tiles=LARGE, units=10.0):
    rows, columns = np.broadcast_arrays(np.asarray(rows, float), np.asarray(columns, float))
    return padded_results(rows, columns, np.ones(rows.shape), units=units, tiles=tiles)


@pytest.mark.parametrize(
    ("rows", "columns", "tiles_done"),
    [
        (128, 256, 1),  # a tile, no wave to fill
        (129, 256, 2),
        (1280, 256, 10),  # one wave
        (1281, 256, 20),  # an eleventh tile takes a second one
        (1280, 257, 20),
        (12800, 2560, 1000),
    ],
)
def test_tiles_fill_waves_from_the_second_on(rows, columns, tiles_done):
    assert padded([rows], [columns]) == pytest.approx([tiles_done * 128 * 256])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30000), st.integers(1, 30000), st.sampled_from(sorted(TILINGS)), st.sampled_from([20.0, 132.0]))
def test_padded_work_never_falls_and_is_never_less_than_the_work(rows, columns, tiling, units):
    more = np.array([0, 1, 7, 64, 500])
    down = padded(rows + more, columns, TILINGS[tiling], units)
    across = padded(rows, columns + more, TILINGS[tiling], units)
    assert (np.diff(down) >= 0).all()
    assert (np.diff(across) >= 0).all()
    assert down[0] >= rows * columns
