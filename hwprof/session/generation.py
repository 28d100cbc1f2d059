"""How soon does the first token come, and how fast the others? From the phases of a step that generates."""

from __future__ import annotations

from collections.abc import Sequence

from hwprof.specs.job.settings import PhaseName, RunSettings
from hwprof.specs.record.generation import GenerationResult, TokenTime
from hwprof.specs.record.run import PhaseTime

_FIRST: tuple[PhaseName, ...] = ("host_to_device", "prefill")


def generation_times(settings: RunSettings, phases: Sequence[PhaseTime]) -> GenerationResult:
    """Time to the first token and of each further one, as measured, as predicted and at the roofs."""
    found = {phase.name: phase for phase in phases}
    return GenerationResult(
        sequences=settings.micro_batch,
        prompt_tokens=settings.seq_len,
        new_tokens=settings.new_tokens,
        ttft=_summed([found[name] for name in _FIRST], 1),
        tpot=_summed([found["decode"]], settings.decode_steps) if settings.decode_steps else None,
    )


def _summed(phases: Sequence[PhaseTime], over: int) -> TokenTime:
    """Of phases that follow each other; their ends are those of all of them together."""
    predicted = [phase.predicted_s for phase in phases if phase.predicted_s is not None]
    roofs = [phase.roof_s for phase in phases if phase.roof_s is not None]
    low_s, high_s = (sum(phase.interval_s[end] for phase in phases) / over for end in (0, 1))
    return TokenTime(
        median_s=sum(phase.median_s for phase in phases) / over,
        interval_s=(low_s, high_s),
        predicted_s=sum(predicted) / over if predicted else None,
        roof_s=sum(roofs) / over if roofs else None,
    )
