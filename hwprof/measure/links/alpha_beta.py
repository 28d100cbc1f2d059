"""Which line fits measured times over sizes, and how well? ``time = alpha + size * beta`` (Hockney 1994)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hwprof.specs.record.collective import AlphaBeta


def fit_alpha_beta(sizes_bytes: Sequence[int], times_s: Sequence[float]) -> AlphaBeta | None:
    """The line that least squares of relative residuals give, so that a small vector counts as much as a large one.

    Both coefficients are kept from going below zero, which no time can do. None where there are fewer than two sizes,
    or where the time does not grow with the size, so that no bandwidth can be told.

    Args:
        sizes_bytes: sizes, each once.
        times_s: the time at each.
    """
    if len(set(sizes_bytes)) < 2:
        return None
    # each row (1 / t, n / t) . (alpha, beta) = 1; the normal equations of two unknowns by hand
    rows = [(1 / time_s, size / time_s) for size, time_s in zip(sizes_bytes, times_s, strict=True)]
    a, b, d = (sum(row[i] * row[j] for row in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    right_a, right_b = (sum(row[i] for row in rows) for i in (0, 1))
    determinant = a * d - b * b
    alpha_s, beta = (right_a * d - right_b * b) / determinant, (right_b * a - right_a * b) / determinant
    if alpha_s < 0:
        alpha_s, beta = 0.0, right_b / d
    if beta <= 0:
        return None
    residuals = [alpha_s * one + beta * size - 1 for one, size in rows]
    variance = sum(r * r for r in residuals) / max(len(rows) - 2, 1)
    worst = max(range(len(rows)), key=lambda index: abs(residuals[index]))
    return AlphaBeta(
        latency_s=alpha_s,
        byte_per_s=1 / beta,
        latency_error_s=math.sqrt(variance * d / determinant),
        byte_per_s_error=math.sqrt(variance * a / determinant) / beta**2,
        typical_error=math.sqrt(sum(r * r for r in residuals) / len(rows)),
        worst_error=abs(residuals[worst]),
        worst_size_bytes=sizes_bytes[worst],
        smallest_bytes=min(sizes_bytes),
        largest_bytes=max(sizes_bytes),
    )
