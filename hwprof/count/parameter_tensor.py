"""What is a weight of a model? Its shape, the operation that it belongs to, and how many there are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterTensor:
    """``repeats`` weights of one shape that belong to the operation ``label``.

    Attributes:
        label: of the operation.
        shape: as torch stores it; experts of a layer are one tensor [experts, out, in].
        repeats: how many there are.
        active_share: share of it that one token meets: top_k of experts, else all.
    """

    label: str
    shape: tuple[int, ...]
    repeats: int = 1
    active_share: Fraction = Fraction(1)

    @property
    def elements(self) -> int:
        """Elements of one of them."""
        return math.prod(self.shape)

    @property
    def total(self) -> int:
        """Elements of all of them."""
        return self.elements * self.repeats
