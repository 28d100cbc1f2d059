"""What did one step of the loop compute? The recorded operators priced, and what to know about the count."""

from __future__ import annotations

from dataclasses import dataclass, field

from hwprof.measure.their_loop.inputs import SeenInputs
from hwprof.predict.captured_work import captured_work, matmul_dtype, recomputes, unpriced_operators
from hwprof.predict.work import Work, phase_of
from hwprof.specs.record.captured import CapturedStep
from hwprof.specs.record.loop import SeenDtype
from hwprof.specs.record.run import PhaseName
from hwprof.units import format_flop

_GAPS: frozenset[PhaseName] = frozenset({"loss", "clip"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedStep:
    """One step as it was counted. Without work where no step was recorded, or not to its end.

    Attributes:
        full: its work, all of attention counted.
        causal: the same with half of attention that was called as causal.
        dtype: format of most matrix-multiply FLOP.
        inputs: what its forward passes took in.
        backward_passes: how often gradients were computed.
        recompute: whether a part of the forward pass ran again in the backward pass.
        empty_gaps: the loss, or clipping, where no operator ran that would be one.
        notes: what the counts leave out.
    """

    full: tuple[Work, ...] = ()
    causal: tuple[Work, ...] = ()
    dtype: SeenDtype = "unknown"
    inputs: SeenInputs = field(default_factory=SeenInputs)
    backward_passes: int | None = None
    recompute: bool = False
    empty_gaps: frozenset[PhaseName] = frozenset()
    notes: tuple[str, ...] = ()


def counted(step: CapturedStep, inputs: SeenInputs) -> CountedStep:
    """Price a recorded step."""
    if step.failure or not step.calls:
        return CountedStep(inputs=inputs, notes=(_failure(step),))
    full = captured_work(step.calls)
    ran = {phase_of(placed.place.path, placed.direction) for placed in step.calls}
    return CountedStep(
        full=full,
        causal=captured_work(step.calls, causal_half=True),
        dtype=matmul_dtype(step.calls),
        inputs=inputs,
        backward_passes=step.backward_passes or None,
        recompute=recomputes(step.calls),
        empty_gaps=_GAPS - ran,
        notes=tuple(_notes(step)),
    )


def _failure(step: CapturedStep) -> str:
    why = f"recording its operators failed at {step.failure}" if step.failure else "no operator was seen in it"
    return f"the step is timed but not counted: {why}; FLOP, MFU and bound classes are left out"


def _notes(step: CapturedStep) -> list[str]:
    notes = [
        f"the FLOP of {operator} are not known, only its bytes are counted"
        for operator in unpriced_operators(step.calls)
    ]
    if not step.backward_passes:
        notes.append("no backward pass was seen in the counted step")
    beside_flop = sum(work.total.matmul_flop for work in captured_work(step.beside))
    if beside_flop:
        notes.append(
            f"matrix products of {format_flop(beside_flop)} ran between the update and the next forward pass; they are "
            'not counted and their time is that of data: name them with prof.phase("forward") if they train the model'
        )
    return notes
