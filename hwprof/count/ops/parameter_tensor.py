"""What is a weight of a model? Its shape, the operation that it belongs to, and how many there are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hwprof.specs.model.captured import TensorWay, rank_share


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterTensor:
    """``repeats`` weights of one shape that belong to the operation ``label``.

    Attributes:
        label: of the operation.
        shape: as torch stores it; experts of a layer are one tensor [experts, out, in].
        repeats: how many there are.
        experts: how many experts' weights it joins; 1 = it is of none.
        top_k: how many of them a token meets.
        linear: whether it is the matrix of a linear layer; None = its label says so.
        trained: whether it gets a gradient.
        split: how tensor ranks share it; empty = each has all of it, None = its label says so.
        grouped_rows, groups: as in ``CapturedTensor``.
    """

    label: str
    shape: tuple[int, ...]
    repeats: int = 1
    experts: int = 1
    top_k: int = 1
    linear: bool | None = None
    trained: bool = True
    split: TensorWay | None = None
    grouped_rows: int = 0
    groups: int = 1

    @property
    def elements(self) -> int:
        """Elements of one of them."""
        return math.prod(self.shape)

    @property
    def total(self) -> int:
        """Elements of all of them."""
        return self.elements * self.repeats

    def share_of(self, ranks: int) -> float:
        """Which share of one of them a rank of so many has where its class or its sizes say how it is split."""
        return rank_share(ranks, grouped=self.grouped_rows / self.shape[0], groups=self.groups) if self.split else 1.0

    @property
    def idle(self) -> int:
        """Elements of all of them that a token does not meet."""
        return self.total // self.experts * (self.experts - self.top_k)
