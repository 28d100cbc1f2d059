"""For how long did a loop really train? What became of its time, over all processes that it took."""

from __future__ import annotations

from pydantic import Field

from hwprof.specs.frozen import Record
from hwprof.units import format_fraction, format_seconds


class BookedTime(Record):
    """The time of a training loop, from its first process to its last mark.

    Attributes:
        wall_s: all of it.
        steps: optimizer steps that last; a step that was lost and taken again counts once.
        training_s: in steps that last.
        lost_s: in steps after the last checkpoint of a process that died.
        lost_steps: their number.
        checkpoint_s, evaluation_s, recompilation_s: as the loop's thread was in them.
        restart_s: from the last mark of a process that died to the first of the next: until somebody noticed, start,
            imports, loading.
        restarts: how often.
        failure_s: mean training time between two deaths; None = none died.
    """

    wall_s: float = Field(ge=0)
    steps: int = Field(ge=0)
    training_s: float = Field(ge=0)
    lost_s: float = Field(ge=0)
    lost_steps: int = Field(ge=0)
    checkpoint_s: float = Field(ge=0)
    evaluation_s: float = Field(ge=0)
    recompilation_s: float = Field(ge=0)
    restart_s: float = Field(ge=0)
    restarts: int = Field(ge=0)
    failure_s: float | None = None

    @property
    def fraction(self) -> float:
        """Goodput: the share of all time in steps that last."""
        return self.training_s / self.wall_s if self.wall_s else 0.0

    @property
    def shares(self) -> tuple[tuple[str, float], ...]:
        """Name and seconds of each part; they add up to the whole."""
        return (
            ("steps that last", self.training_s),
            ("steps that were lost", self.lost_s),
            ("checkpoints", self.checkpoint_s),
            ("evaluation", self.evaluation_s),
            ("recompilation", self.recompilation_s),
            ("restarts", self.restart_s),
        )

    @property
    def sentence(self) -> str:
        """What became of the time, in words."""
        rest = [f"{name} {format_fraction(time_s / self.wall_s)}" for name, time_s in self.shares[1:] if time_s]
        died = f" ({self.restarts} restart{'s' * (self.restarts != 1)})" if self.restarts else ""
        whole = f"{format_fraction(self.fraction)} of {format_seconds(self.wall_s)}"
        return f"Goodput {whole}{died}: {', '.join(rest) or 'nothing else'}."
