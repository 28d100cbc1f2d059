"""What is one piece of profiled work, and how do pieces add up to times by operation and by kernel?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from hwprof.specs.labels import layer_kind
from hwprof.specs.run import Direction, KernelTime, OpTime, PhaseName


@dataclass(frozen=True, slots=True)
class Place:
    """Where a piece of work belongs: label of the operation, phase and direction."""

    label: str
    phase: PhaseName
    direction: Direction


@dataclass(frozen=True, slots=True)
class Piece:
    """Time that one kernel (or one CPU operator itself) took, and where it belongs."""

    name: str
    place: Place | None
    start_s: float
    end_s: float
    busy_s: float
    called_s: float | None = None
    """On a GPU, when the host called for it."""
    in_graph: bool = False
    """Whether it was launched as part of a CUDA graph."""


def op_times(pieces: Sequence[Piece], steps: int) -> tuple[OpTime, ...]:
    """Times a step by operation, the longest first."""
    groups: dict[Place, list[Piece]] = defaultdict(list)
    for piece in pieces:
        if piece.place is not None:
            groups[piece.place].append(piece)
    rows = [
        OpTime(
            label=place.label,
            layer_kind=layer_kind(place.label),
            phase=place.phase,
            direction=place.direction,
            calls=len(group) / steps,
            time_s=sum(piece.busy_s for piece in group) / steps,
        )
        for place, group in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.time_s))


def kernel_times(pieces: Sequence[Piece], steps: int) -> tuple[KernelTime, ...]:
    """Times a step by kernel and operation, the longest first."""
    groups: dict[tuple[str, Place], list[Piece]] = defaultdict(list)
    for piece in pieces:
        if piece.place is not None:
            groups[piece.name, piece.place].append(piece)
    rows = [
        KernelTime(
            name=name,
            label=place.label,
            phase=place.phase,
            direction=place.direction,
            calls=len(group) / steps,
            time_s=sum(piece.busy_s for piece in group) / steps,
        )
        for (name, place), group in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.time_s))
