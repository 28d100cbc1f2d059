"""What should change, and what would it gain? Every rule asked, the answers ranked."""

from __future__ import annotations

from hwprof.plan.advice import inputs as input_rules
from hwprof.plan.advice import kernels as kernel_rules
from hwprof.plan.advice import memory as memory_rules
from hwprof.plan.advice.facts import Facts, gather
from hwprof.plan.advice.gain import Rule, gain_within
from hwprof.plan.advice.layouts import LayoutSurvey
from hwprof.specs.record.run import LayoutRow, Recommendation, RunRecord
from hwprof.units import format_bytes, format_flop_per_s, format_seconds

FIT_RULES: tuple[Rule, ...] = (
    memory_rules.fit_micro_batch,
    memory_rules.fit_recompute,
    memory_rules.fit_both,
    memory_rules.fit_elsewhere,
)
"""What makes a step possible that does not fit; these stand first."""

GAIN_RULES: tuple[Rule, ...] = (
    memory_rules.micro_batch,
    memory_rules.accumulation,
    kernel_rules.precision,
    memory_rules.recompute_less,
    kernel_rules.compiled,
    kernel_rules.optimizer_implementation,
    input_rules.data_workers,
    input_rules.overlapped_copies,
    kernel_rules.slowest_kind,
)
"""What makes a step faster; ranked by the middle of their gain."""


def recommend(record: RunRecord, *, survey: LayoutSurvey | None = None) -> tuple[Recommendation, ...]:
    """What to change in the run's settings, largest gain first, then the best layout of ``survey`` if there is one.

    Where the step is short of memory, what makes it fit stands first. Empty where nothing is worth doing.
    """
    facts = gather(record)
    fits = _asked(FIT_RULES, facts)
    gains = sorted(_asked(GAIN_RULES, facts), key=lambda item: -sum(item.gain_fraction)) if facts.step_s else []
    layout = best_layout(survey) if survey is not None else None
    return (*fits, *gains, *([layout] if layout is not None else []))


def cautions(record: RunRecord) -> tuple[str, ...]:
    """Dtypes that are narrower than the run's but were measured slower on this device: no way to save time here."""
    ceilings, now = gather(record).matmul_ceilings, record.run_settings.dtype
    return tuple(
        f"{dtype} matrix products were measured slower than {now} on this device "
        f"({format_flop_per_s(ceiling.value)} against {format_flop_per_s(ceilings[now].value)}): no time is saved"
        for dtype, ceiling in ceilings.items()
        if dtype not in {"fp32", now} and ceiling.origin == "measured" and ceiling.value < ceilings[now].value
    )


def best_layout(survey: LayoutSurvey) -> Recommendation | None:
    """The fastest layout that fits, its gain over the plainest one and the runner-up; why none fits, if none does."""
    fitting = [row for row in survey.rows if row.fits]
    if not fitting:
        return _no_layout(survey)
    best = fitting[0]
    if best.devices == 1:
        return None
    baseline = _plainest(fitting)
    runner_up = next(iter(fitting[1:]), None)
    second = f"; runner-up: {_named(runner_up)}, {format_seconds(runner_up.step_s or 0.0)}" if runner_up else ""
    return Recommendation(
        title=f"On {best.cluster}: {_named(best)}",
        change=(
            f"data parallel {best.data_parallel}, tensor parallel {best.tensor_parallel}, pipeline parallel "
            f"{best.pipeline_parallel}, ZeRO stage {best.zero_stage}, --micro-batch {best.micro_batch} "
            f"--gradient-accumulation {best.gradient_accumulation} --recompute {best.recompute}"
        ),
        reason=(
            f"step of {format_seconds(best.step_s or 0.0)} ({best.reason}); needs {format_bytes(best.memory_bytes)} of "
            f"{format_bytes(best.capacity_bytes)}{second}; gain against {_named(baseline)}"
        ),
        gain_fraction=_gain_over(best, baseline),
        evidence="; ".join((f"{survey.evaluated} layouts evaluated", *survey.assumptions)),
        basis="roofline",
        kind="layout",
    )


def _named(row: LayoutRow) -> str:
    degrees = (("data", row.data_parallel), ("tensor", row.tensor_parallel), ("pipeline", row.pipeline_parallel))
    split = " x ".join(f"{name} {degree}" for name, degree in degrees if degree > 1)
    return f"{split or 'one device'}, ZeRO {row.zero_stage}, micro-batch {row.micro_batch}, recompute {row.recompute}"


def _plainest(fitting: list[LayoutRow]) -> LayoutRow:
    """The layout that is least to manage: no pipeline, then no tensor parallelism, then the lowest ZeRO stage."""
    return min(fitting, key=lambda row: (row.pipeline_parallel, row.tensor_parallel, row.zero_stage, row.rank))


def _gain_over(best: LayoutRow, baseline: LayoutRow) -> tuple[float, float]:
    """Time saved at the low end of both intervals, in the middle and at the high end: mostly the same errors."""
    pairs = (
        (best.step_lo_s, baseline.step_lo_s),
        (best.step_s, baseline.step_s),
        (best.step_hi_s, baseline.step_hi_s),
    )
    gains = [1 - ours / theirs for ours, theirs in pairs if ours is not None and theirs]
    return gain_within(1.0, low=min(gains), high=max(gains))


def _no_layout(survey: LayoutSurvey) -> Recommendation | None:
    too_big = [row for row in survey.rows if row.memory_bytes > 0]
    nearest = min(too_big, key=lambda row: row.memory_bytes, default=None)
    if nearest is None:
        return None
    return Recommendation(
        title=f"{nearest.cluster} is too small for this step",
        change="--cluster with more devices or with more memory on each",
        reason=f"the nearest to fitting is {_named(nearest)}: {nearest.reason}",
        gain_fraction=(0.0, 0.0),
        evidence=f"{survey.evaluated} layouts evaluated, none fits",
        basis="roofline",
        kind="layout",
    )


def _asked(rules: tuple[Rule, ...], facts: Facts) -> list[Recommendation]:
    return [answer for answer in (rule(facts) for rule in rules) if answer is not None]
