"""How much FLOP does a step of a run have?"""

from __future__ import annotations

from hwprof.count.blocks.transformer import training_step_ops
from hwprof.count.job.totals import StepFlop, flop_of
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import RunSettings


def step_flop(spec: ModelSpec, settings: RunSettings) -> StepFlop:
    """In both attention conventions."""
    full, causal = (training_step_ops(spec, settings, attention=kind) for kind in ("full", "causal"))
    return flop_of(full, causal)
