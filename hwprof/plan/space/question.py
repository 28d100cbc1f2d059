"""What is asked of the planner? A job, a machine, what may be chosen, and what the answer must keep to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hwprof.count.memory.job import job_memory
from hwprof.plan.space.columns import divisors
from hwprof.predict.machine import Machine
from hwprof.predict.stacks import Stack
from hwprof.specs.catalogue.simulator import SimulatorParameters
from hwprof.specs.job.parallel import ContextKind
from hwprof.specs.job.schedules import Schedule
from hwprof.specs.job.settings import RECOMPUTE, Recompute
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.job.switches import JobDtype, Offload

MEMORY_MARGIN = 0.05
"""Share of a device's memory that a plan leaves free, beside what allocator and libraries are known to take."""

SHORTEST_CONTEXT = 1024
"""Tokens of a sequence that a context rank keeps at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What may be chosen for each setting; empty = everything that divides.

    Attributes:
        tensor, context, pipeline, data, expert: degrees.
        expert_tensor: devices that share the matrices of one expert; empty = one
            where experts are spread, but for layouts and software that can't.
        virtual: chunks of a device under the interleaved schedule.
        zero, micro_batch, recompute, schedule: settings of the same names.
        sequence_parallel, overlap: with, without, or both.
        dtype: formats of the linear layers; empty = that of the job.
        offload: what may live in host memory.
        context_kind: how attention sees the tokens of other context ranks.
        hybrid: whether ZeRO may shard over fewer ranks than all.
    """

    tensor: tuple[int, ...] = ()
    context: tuple[int, ...] = ()
    pipeline: tuple[int, ...] = ()
    data: tuple[int, ...] = ()
    expert: tuple[int, ...] = ()
    expert_tensor: tuple[int, ...] = ()
    virtual: tuple[int, ...] = ()
    zero: tuple[int, ...] = (0, 1, 2, 3)
    micro_batch: tuple[int, ...] = ()
    recompute: tuple[Recompute, ...] = RECOMPUTE
    schedule: tuple[Schedule, ...] = ()
    sequence_parallel: tuple[bool, ...] = (True,)
    overlap: tuple[bool, ...] = (True,)
    dtype: tuple[JobDtype, ...] = ()
    offload: tuple[Offload, ...] = ("none",)
    context_kind: tuple[ContextKind, ...] = ("ring",)
    hybrid: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One job on one machine.

    Attributes:
        base: the job; its layout, micro-batch and recompute are chosen anew.
        machine: the devices.
        stack: the software.
        table: how well devices and software do.
        choices: what may be chosen.
        margin: share of each device's memory to leave free.
        longest_step_s: a step that takes longer answers nothing (from a deadline or a budget); None = no limit.
        limit: which of these leaves no more, in words.
        limit_rate: what a second of a step is of the whole training in that limit's unit, and the unit.
        memory_scale: counted memory times this is what is needed (from a measured run).
        host_memory_bytes: of a node, for offload; None = not looked at.
        notes: what was taken from a measured run, in words.
    """

    base: TrainingJob
    machine: Machine
    stack: Stack
    table: SimulatorParameters
    choices: Choices = field(default_factory=Choices)
    margin: float = MEMORY_MARGIN
    longest_step_s: float | None = None
    limit: str = "the limit"
    limit_rate: tuple[float, str] | None = None
    memory_scale: float = 1.0
    host_memory_bytes: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def usable_bytes(self) -> float:
        """Memory that a layout may need of a device, allocator and libraries included."""
        return self.machine.capacity_bytes * (1 - self.margin)

    def has_room_for(self, job: TrainingJob) -> bool:
        """Whether a device, and its share of the host, hold what one job needs."""
        need, room = job_memory(job), self.host_share_bytes
        if room is not None and need.host_bytes > room:
            return False
        return need.reserved_bytes * self.memory_scale + need.libraries_bytes <= self.usable_bytes

    @property
    def host_share_bytes(self) -> float | None:
        """Host memory of one device's share of its node."""
        if self.host_memory_bytes is None:
            return None
        return self.host_memory_bytes / min(self.machine.device.node.devices, self.machine.devices)

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """Schedules to look at."""
        return self.choices.schedule or self.stack.schedules

    @property
    def variants(self) -> tuple[Question, ...]:
        """The question once for each format, offload and kind of context parallelism; all layouts of one share these.

        Kinds differ on several context ranks only: those after the first are asked without one rank.
        """
        several = tuple(degree for degree in self.choices.context or divisors(self.machine.devices) if degree > 1)
        first, *others = self.choices.context_kind
        kinds = [(first, self.choices.context), *((kind, several) for kind in others if several)]
        return tuple(
            self._variant(dtype, offload, kind, context)
            for dtype in self.choices.dtype or (self.base.dtype,)
            for offload in self.choices.offload
            for kind, context in kinds
        )

    def _variant(self, dtype: JobDtype, offload: Offload, kind: ContextKind, context: tuple[int, ...]) -> Question:
        layout = self.base.layout.changed(context_kind=kind)
        base = self.base.changed(dtype=dtype, offload=offload, layout=layout)
        return replace(self, base=base, choices=replace(self.choices, context=context))
