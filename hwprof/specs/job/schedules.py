"""Which pipeline schedules are there, and what sets each apart? One row for each; all code asks for these traits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

Schedule = Literal["gpipe", "1f1b", "interleaved", "zb-h1", "zb-v", "dualpipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTraits:
    """What decides layers, memory and time under a schedule.

    Attributes:
        virtual: a device holds as many model chunks as there are virtual stages, one after another.
        turns_back: a device holds two chunks, as the model runs down the stages and back up (a V).
        two_way: a device holds two chunks, as micro-batches enter at both ends; each chunk is on two devices.
        in_groups: micro-batches come in groups of as many as there are stages.
        fewest: micro-batches that fill the pipeline, for each stage; 0 = any number runs.
        forward_first: no device turns back before it has run every forward pass.
    """

    virtual: bool = False
    turns_back: bool = False
    two_way: bool = False
    in_groups: bool = False
    fewest: int = 0
    forward_first: bool = False

    @property
    def two_chunks(self) -> bool:
        """Whether every device holds two model chunks, one from each end of the model."""
        return self.turns_back or self.two_way

    @property
    def one_chunk(self) -> bool:
        """Whether every device holds one model chunk, a stage."""
        return not (self.virtual or self.two_chunks)


TRAITS: dict[Schedule, ScheduleTraits] = {
    "gpipe": ScheduleTraits(forward_first=True),
    "1f1b": ScheduleTraits(),
    "interleaved": ScheduleTraits(virtual=True, in_groups=True),
    "zb-h1": ScheduleTraits(fewest=1),
    "zb-v": ScheduleTraits(turns_back=True, fewest=1),
    "dualpipe": ScheduleTraits(two_way=True, fewest=2),
}
"""Huang et al. 2019; Narayanan et al. 2021, sections 2.2.1 and 2.2.2; Qi et al. 2023, section 2; Qi et al. 2024,
section 3; DeepSeek-V3 2024, section 3.2.1."""

SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
"""In the order of their codes: arrays of many layouts hold an index into this."""

PLAIN = SCHEDULES.index("1f1b")
"""The code of a layout without a pipeline."""


def with_trait(codes: Any, trait: Callable[[ScheduleTraits], bool]) -> Any:
    """Whether the schedules of these codes, a number or an array, have a trait."""
    found = codes < 0
    for code, name in enumerate(SCHEDULES):
        if trait(TRAITS[name]):
            found = found | (codes == code)
    return found
