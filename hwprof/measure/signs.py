"""What is known of a rank's life, and what is said of one that ended?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch.distributed as dist

from hwprof.units import format_seconds

Kind = Literal["error", "connection", "interrupted"]
_CONNECTION = re.compile(
    r"connection (closed|reset|refused)|broken pipe|read error|write error|timed? ?out|socket|pair closure|"
    r"remote process exited|nccl (communicator|error)|store",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An error that a rank reports itself; ``connection`` where it seems to follow from another rank's end."""

    rank: int
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What is known of a rank's life.

    Attributes:
        silent_s: since its last beat.
        still_s: since it last moved on.
        moves: how far it has come: how many stages it has entered.
        stage: the last one.
        where: what its main thread was running at its last beat.
        waiting: whether that was inside a collective.
        done: it came to its end.
    """

    rank: int
    silent_s: float
    still_s: float
    moves: int
    stage: str
    where: str
    waiting: bool
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """Which ranks ended the run, how, and the exit code; ``alone`` where a rank hears nothing of the others."""

    ranks: tuple[int, ...]
    text: str
    exit_code: int = 1
    alone: bool = False


def kind_of(error: BaseException) -> Kind:
    """Whether an error seems to follow from another rank's end."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    lost = isinstance(error, dist.DistBackendError | dist.DistNetworkError | ConnectionError | TimeoutError)
    return "connection" if lost or (isinstance(error, RuntimeError) and _CONNECTION.search(str(error))) else "error"


def death(sign: Sign) -> str:
    """What is said of a rank that fell silent."""
    since = format_seconds(sign.silent_s)
    return f"rank {sign.rank} died or was stopped: no sign of life for {since} (last seen: {sign.stage})"


def hang(still: Sequence[Sign]) -> Blame:
    """The ranks that came least far; among equals those that do not wait for others."""
    least = min(sign.moves for sign in still)
    last = [sign for sign in still if sign.moves == least]
    guilty = [sign for sign in last if not sign.waiting] or last
    names = ", ".join(str(sign.rank) for sign in guilty)
    sign = guilty[0]
    text = (
        f"rank{'s' if len(guilty) > 1 else ''} {names} made no progress for {format_seconds(sign.still_s)} "
        f"(stage: {sign.stage}; at {sign.where})"
    )
    waiting = [str(sign.rank) for sign in still if sign not in guilty]
    return Blame(
        ranks=tuple(sign.rank for sign in guilty),
        text=f"{text}; waiting for it: rank {', '.join(waiting)}" if waiting else text,
    )
