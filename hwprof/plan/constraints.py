"""Why can a layout not run? Named constraints; each returns None or the reason, with the numbers."""

from __future__ import annotations

from collections.abc import Callable

from hwprof.plan.layout import Degrees, Problem
from hwprof.units import format_bytes, format_fraction

Constraint = Callable[[Degrees, Problem], str | None]


def heads_divide(degrees: Degrees, problem: Problem) -> str | None:
    """Tensor parallelism gives each rank whole attention heads (Shoeybi et al. 2019, section 3)."""
    heads, ranks = problem.spec.heads, degrees.tensor_parallel
    return f"{heads} heads do not divide by tensor parallel {ranks}" if heads % ranks else None


def kv_heads_divide(degrees: Degrees, problem: Problem) -> str | None:
    """Key and value heads are shared out whole, or each is repeated on whole groups of ranks."""
    heads, ranks = problem.spec.kv_heads, degrees.tensor_parallel
    if heads % ranks == 0 or ranks % heads == 0:
        return None
    return f"{heads} key and value heads neither divide by tensor parallel {ranks} nor into it"


def tensor_inside_domain(degrees: Degrees, problem: Problem) -> str | None:
    """Tensor parallelism communicates in every layer and so stays on the scale-up links."""
    domain, ranks = problem.machine.domain, degrees.tensor_parallel
    return f"tensor parallel {ranks} leaves the scale-up domain of {domain} devices" if ranks > domain else None


def layers_divide(degrees: Degrees, problem: Problem) -> str | None:
    """Pipeline stages hold equally many layers."""
    layers, stages = problem.spec.layers, degrees.pipeline_parallel
    return f"{layers} layers do not divide by pipeline parallel {stages}" if layers % stages else None


def batch_divides(degrees: Degrees, problem: Problem) -> str | None:
    """Every data rank gets equally many whole sequences."""
    sequences, ranks = problem.sequences, degrees.data_parallel
    return f"{sequences} sequences a step do not divide by data parallel {ranks}" if sequences % ranks else None


STRUCTURE: tuple[Constraint, ...] = (
    heads_divide,
    kv_heads_divide,
    tensor_inside_domain,
    layers_divide,
    batch_divides,
)
"""Constraints on the degrees alone; ``memory_fits`` follows once micro-batch, ZeRO stage and recompute are chosen."""


def memory_fits(need_bytes: float, problem: Problem) -> str | None:
    """The peak need of one device stays inside its memory less the margin."""
    if need_bytes <= problem.usable_bytes:
        return None
    need, capacity = format_bytes(need_bytes), format_bytes(problem.machine.capacity_bytes)
    if not problem.margin:
        return f"needs {need}, device has {capacity}"
    usable, kept = format_bytes(problem.usable_bytes), format_fraction(problem.margin)
    return f"needs {need}, device has {usable} ({capacity} less {kept})"


def broken_constraint(degrees: Degrees, problem: Problem) -> tuple[str, str] | None:
    """(name, reason) of the first broken constraint on the degrees; None where all hold."""
    for constraint in STRUCTURE:
        reason = constraint(degrees, problem)
        if reason is not None:
            return constraint.__name__, reason
    return None
