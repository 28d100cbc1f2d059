"""What does each module of the model take? Its operations of all directions together, most time first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hwprof.report.cells import Field, Table, build_table
from hwprof.report.run.absence import absence
from hwprof.specs.record.run import BoundClass, Direction, OpResult, RunRecord


@dataclass(frozen=True, slots=True)
class _Module:
    """All operations of one label."""

    ops: tuple[OpResult, ...]

    @property
    def longest(self) -> OpResult:
        return max(self.ops, key=lambda op: op.time_s)

    @property
    def bound(self) -> BoundClass:
        return self.longest.bound

    def time_s(self, *directions: Direction) -> float | None:
        """Of these directions, or of all; None where there is no such operation."""
        times_s = [op.time_s for op in self.ops if not directions or op.direction in directions]
        return math.fsum(times_s) if times_s else None


_MODULES: tuple[Field[_Module], ...] = (
    Field("module", "Module", lambda one: one.longest.label, style="code", meaning="* stands for every layer"),
    Field("layer_kind", "Layer kind", lambda one: one.longest.layer_kind),
    Field("time", "Time", lambda one: one.time_s(), "s", meaning="profiled, all layers, per step"),
    Field("forward", "Forward", lambda one: one.time_s("forward"), "s"),
    Field("backward", "Backward", lambda one: one.time_s("backward", "recompute"), "s", meaning="recompute included"),
    Field("share", "Share", lambda one: math.fsum(op.share for op in one.ops), "fraction", meaning="of the step time"),
    Field("roof", "Roof", lambda one: math.fsum(op.roof_s for op in one.ops), "s", meaning="least possible time"),
    Field("lost", "Time lost", lambda one: math.fsum(op.lost_s for op in one.ops), "s", meaning="time above the roof"),
    Field("flop", "Work", lambda one: math.fsum(op.matmul_flop + op.vector_flop for op in one.ops), "flop"),
    Field("moved", "Moved", lambda one: math.fsum(op.read_bytes + op.write_bytes for op in one.ops), "byte"),
    Field("bound", "Bound by", lambda one: one.bound, style="bound", meaning="of its longest operation"),
)


_DECODE: Field[_Module] = Field("decode", "Decode", lambda one: one.time_s("decode"), "s", meaning="all new tokens")
_OF_GENERATION = tuple(_DECODE if field.name == "backward" else field for field in _MODULES)


def module_table(record: RunRecord) -> Table:
    """One row a module; ``ops`` has its operations apart."""
    groups: dict[str, list[OpResult]] = {}
    for op in record.ops:
        groups.setdefault(op.label, []).append(op)
    modules: Sequence[_Module] = sorted(
        (_Module(tuple(ops)) for ops in groups.values()), key=lambda one: -(one.time_s() or 0.0)
    )
    fields = _OF_GENERATION if record.generation else _MODULES
    return build_table("modules", "Modules", fields, modules, empty=absence(record, "operation times"))
