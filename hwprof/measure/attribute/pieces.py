"""What is one piece of profiled work, and how do pieces add up to times by operation and by kernel?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hwprof.measure.attribute.places import Place
from hwprof.specs.job.labels import layer_kind
from hwprof.specs.record.run import KernelTime, OpTime


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a kernel's work that belongs to one label."""

    label: str
    fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Time that one kernel (or one CPU operator itself) took, and where it belongs."""

    name: str
    place: Place | None
    busy_s: float
    in_graph: bool
    """Whether it was launched as part of a CUDA graph."""
    communicates: bool
    """Whether it is a collective."""
    calls: float = 1.0
    """Less than one for a part of a kernel."""
    fused: str = ""
    """Of a part of a kernel that spans several modules, all their labels."""
    compiled: Literal["", "mapped", "unmapped"] = ""
    """Whether it ran inside a compiled graph, and its modules are known."""


def split_by_module(piece: Piece, shares: tuple[Share, ...] | None) -> list[Piece]:
    """A piece of a compiled graph by module; as it is where it has none (``()``), or is of no such graph (None)."""
    if not shares or piece.place is None:
        return [piece if shares is None else replace(piece, compiled="unmapped")]
    fused = " + ".join(share.label for share in shares) + " (fused)" if len(shares) > 1 else ""
    return [
        replace(
            piece,
            place=replace(piece.place, label=share.label),
            busy_s=piece.busy_s * share.fraction,
            calls=share.fraction,
            fused=fused,
            compiled="mapped",
        )
        for share in shares
    ]


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
            calls=sum(piece.calls for piece in group) / steps,
            time_s=sum(piece.busy_s for piece in group) / steps,
        )
        for place, group in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.time_s))


def kernel_times(pieces: Sequence[Piece], steps: int) -> tuple[KernelTime, ...]:
    """Times a step by kernel and operation, the longest first; a kernel that spans several modules is one row."""
    groups: dict[tuple[str, Place], list[Piece]] = defaultdict(list)
    for piece in pieces:
        if piece.place is not None:
            place = replace(piece.place, label=piece.fused) if piece.fused else piece.place
            groups[piece.name, place].append(piece)
    rows = [
        KernelTime(
            name=name,
            label=place.label,
            phase=place.phase,
            direction=place.direction,
            calls=sum(piece.calls for piece in group) / steps,
            time_s=sum(piece.busy_s for piece in group) / steps,
        )
        for (name, place), group in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.time_s))
