"""Who keeps the other ranks waiting, and why? Of traces, and of a loop that was watched while it ran."""

from __future__ import annotations

from typing import Literal

from hwprof.specs.frozen import Record

LateCause = Literal["input", "compute", "copies", "host", "garbage collection", "recompilation", "checkpoint"]
"""What a rank that comes late to a collective did more of than the others."""


class RankWait(Record):
    """One rank in the collectives that all ranks of a group share.

    ``waited_s``: time in them until the last rank came. ``caused_s``: time that all others waited for this one,
    together. ``last``: in how many of them it was the last to come. ``cause``: what it did more of than the others
    before it came; empty where it does not stand out among the ranks, None where nothing of what it did stands out.
    """

    rank: int
    waited_s: float
    caused_s: float
    last: int
    cause: LateCause | Literal[""] | None = ""


class Stragglers(Record):
    """Who keeps the others waiting. A collective ends for all ranks at once, so the one it takes least came last.

    No clocks are compared: the least time that any rank was in a collective is taken for the transfer itself.

    Attributes:
        collectives: in which the ranks met, all steps together.
        unmatched: those that not all ranks of the group recorded, and messages between two ranks.
        transfer_s: of the collectives, all together.
        ranks: each rank, by number.
        steps: of a watched loop: how many count.
        step_s: of a watched loop: the median step.
        step_without_s: what it would be if no rank stood out; None where none does.
        lost_fraction: of the time of all steps, how much that rank costs; None where none stands out.
        late_steps: in how many steps the rank that stands out was late.
        where: the phase of the step in which it was.
        sentence: the above in words.
        note: what to know about it.
    """

    collectives: int
    unmatched: int
    transfer_s: float
    ranks: tuple[RankWait, ...]
    steps: int | None = None
    step_s: float | None = None
    step_without_s: float | None = None
    lost_fraction: float | None = None
    late_steps: int | None = None
    where: str = ""
    sentence: str = ""
    note: str = ""

    @property
    def named(self) -> RankWait | None:
        """The rank that stands out; None where none does."""
        return max((rank for rank in self.ranks if rank.cause != ""), key=lambda rank: rank.caused_s, default=None)
