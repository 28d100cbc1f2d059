"""How far may predicted memory be off? The span of a software's versions, and what published figures missed by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from hwprof.count.memory.job import job_memory
from hwprof.count.memory.step import MemoryNeed
from hwprof.predict.stacks import Reading, Stack
from hwprof.simulate.error_model import interval
from hwprof.specs.catalogue.simulator import ErrorModel
from hwprof.specs.job.step import TrainingJob

READINGS: dict[Reading, Callable[[MemoryNeed], float]] = {
    "allocator": lambda need: need.peak_bytes,
    "reserved": lambda need: need.reserved_bytes,
    "device": lambda need: need.device_bytes,
}
"""What a memory figure may be of."""


def memory_interval_bytes(
    job: TrainingJob, stack: Stack, model: ErrorModel, *, reading: Reading = "device", names: Collection[str] = ()
) -> tuple[float, float]:
    """Low and high end of what a step of the job may need.

    Args:
        job: the job.
        stack: its software; where its versions differ, each is counted.
        model: how far counts are off.
        reading: which figure is meant.
        names: circumstances that make the count less sure, by the names of the model.
    """
    sizes = [READINGS[reading](job_memory(each)) for each in _versions(job, stack)]
    return interval(min(sizes), model, names)[0], interval(max(sizes), model, names)[1]


def _versions(job: TrainingJob, stack: Stack) -> Iterator[TrainingJob]:
    """The job as it is, and with what other versions of its software do where it is as the stack has it."""
    yield job
    for version in stack.versions:
        usual = {name: value for name, value in version.items() if getattr(job, name) == stack.switches.get(name)}
        if usual:
            yield job.changed(**usual)
