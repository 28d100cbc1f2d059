"""What is the cost of an operation? Four counters that add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Work and traffic of one or more operations.

    Attributes:
        matmul_flop: floating-point operations of matrix multiplications; a multiply-add is 2.
        vector_flop: all other floating-point operations (norms, activations, optimizer), an estimate.
        read_bytes: bytes that the operation's kernels load.
        write_bytes: bytes that they store.

    Counts made of integers stay integers, and so exact beyond 2**53; averages and shares make floats of them.
    """

    matmul_flop: float = 0
    vector_flop: float = 0
    read_bytes: float = 0
    write_bytes: float = 0

    ZERO: ClassVar[Cost]

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            matmul_flop=self.matmul_flop + other.matmul_flop,
            vector_flop=self.vector_flop + other.vector_flop,
            read_bytes=self.read_bytes + other.read_bytes,
            write_bytes=self.write_bytes + other.write_bytes,
        )

    def __mul__(self, times: float) -> Cost:
        return Cost(
            matmul_flop=self.matmul_flop * times,
            vector_flop=self.vector_flop * times,
            read_bytes=self.read_bytes * times,
            write_bytes=self.write_bytes * times,
        )

    __rmul__ = __mul__

    @property
    def flop(self) -> float:
        """All floating-point operations."""
        return self.matmul_flop + self.vector_flop

    @property
    def moved_bytes(self) -> float:
        """All bytes loaded and stored."""
        return self.read_bytes + self.write_bytes

    @property
    def intensity(self) -> float:
        """Arithmetic intensity, FLOP per byte; infinite where nothing moves."""
        return self.flop / self.moved_bytes if self.moved_bytes else float("inf")


Cost.ZERO = Cost()
