"""Where does the name of a roof stand, so that it covers no point and no other name?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Place = tuple[float, float]

_WIDTH, _HEIGHT = 0.17, 0.045
"""What a name takes of the picture's width and height; it ends at its place and stands above it."""


class Spaces:
    """What of a picture on logarithmic axes is taken, in shares of its width and height."""

    def __init__(self, x_range: Place, y_range: Place, points: Sequence[Place]) -> None:
        self._ranges = tuple((math.log10(low), math.log10(high)) for low, high in (x_range, y_range))
        self._points = [self._share(point) for point in points]
        self._names: list[Place] = []

    def _share(self, place: Place) -> Place:
        x, y = (
            (math.log10(value) - low) / (high - low) for value, (low, high) in zip(place, self._ranges, strict=True)
        )
        return x, y

    def take(self, place: Place) -> None:
        """A name stands there already."""
        self._names.append(self._share(place))

    def claim(self, start: float, end: float, height_at: Callable[[float], float], fractions: Sequence[float]) -> float:
        """The x of the place that hides least, on the line from ``start`` to ``end``; the first of equals.

        ``fractions`` are the places to try, as shares of the line's length in the picture.
        """
        xs = [start * math.pow(end / start, fraction) for fraction in fractions]
        shares = [self._share((x, height_at(x))) for x in xs]
        best = min(range(len(xs)), key=lambda place: self._hidden(shares[place]))
        self._names.append(shares[best])
        return xs[best]

    def _hidden(self, place: Place) -> int:
        x, y = place
        points = sum(-_WIDTH - 0.03 <= px - x <= 0.04 and -0.03 <= py - y <= _HEIGHT + 0.02 for px, py in self._points)
        names = sum(abs(nx - x) <= _WIDTH and abs(ny - y) <= _HEIGHT for nx, ny in self._names)
        off = (x < _WIDTH) + (x > 1) + (y < 0)
        return points + 10 * (names + off)
