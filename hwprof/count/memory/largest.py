"""What is the largest number that still fits?"""

from __future__ import annotations

from collections.abc import Callable


def largest(fits: Callable[[int], bool]) -> int:
    """The largest number that fits, where all smaller ones fit too; 0 if not even 1 does.

    >>> largest(lambda number: number <= 37)
    37
    """
    too_many = 1
    while fits(too_many):
        too_many *= 2
    fitting = too_many // 2
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        fitting, too_many = (middle, too_many) if fits(middle) else (fitting, middle)
    return fitting
