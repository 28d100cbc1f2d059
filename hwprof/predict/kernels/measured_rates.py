"""Which rates were measured on the device itself, and what do they say of other shapes?

At a measured shape the measured rate holds. Elsewhere the fitted curve holds times what the nearest measured shapes had
over it, weighted by distance in the logarithms of the sizes; beyond the measured sizes, what the edge had.
"""

from __future__ import annotations

import numpy as np

from hwprof.count.job.device_work import Unit
from hwprof.predict.kernels.nearest import nearest_mean
from hwprof.predict.kernels.rates import at, attention_flop_per_s, matmul_flop_per_s
from hwprof.predict.kernels.row_table import Floats, Rates, RowTable
from hwprof.predict.parameters import Parameters

UNITS = {
    "matmul": Unit.MATMUL,
    "narrow matmul": Unit.NARROW_MATMUL,
    "attention": Unit.ATTENTION,
    "attention backward": Unit.ATTENTION_BACKWARD,
}


def corrections(table: RowTable, rates: Rates, p: Parameters) -> Floats:
    """Measured over fitted rate of every row; 1 where nothing like it was measured. Grouped products are never."""
    found = np.ones_like(table.flop)
    for unit in set(UNITS.values()):
        rows = (table.unit == unit) & ((table.groups == 1) | (unit >= Unit.ATTENTION))
        points = [point for point in p.measured if UNITS[point.unit] == unit]
        if points and rows.any():
            sizes = np.array([(point.m, point.n, point.k) for point in points])
            shares = np.array([point.share for point in points])
            ratios = shares / _fitted_shares(unit, sizes, rates, p)
            wanted = np.stack([table.m[rows], table.n[rows], table.k[rows]], axis=1)
            found[rows] = nearest_mean(wanted, sizes, ratios)
    return found


def _fitted_shares(unit: Unit, sizes: Floats, rates: Rates, p: Parameters) -> Floats:
    """What the fitted curve says of the measured shapes, over the peak of the first share's device."""
    same, ones = np.zeros(len(sizes), dtype=np.int64), np.ones(len(sizes))
    m, n, k = sizes[:, 0], sizes[:, 1], sizes[:, 2]
    numbers = dict.fromkeys(("groups", "flop", "moved_bytes", "times"), ones)
    points = RowTable(share=same, shares=1, part=same, when=same, unit=same + unit, m=m, n=n, k=k, **numbers)
    attention = unit in {Unit.ATTENTION, Unit.ATTENTION_BACKWARD}
    fitted = (attention_flop_per_s if attention else matmul_flop_per_s)(points, rates, p)
    peak = rates.narrow_flop_per_s if unit == Unit.NARROW_MATMUL else rates.peak_flop_per_s
    shares: Floats = fitted / at(peak, same)
    return shares
