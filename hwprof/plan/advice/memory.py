"""What do batch and memory settings cost the step? Micro-batch, accumulation, recompute, and what to do when short."""

from __future__ import annotations

import math

from hwprof.plan.advice.facts import Facts
from hwprof.plan.advice.gain import SURE, WORTH_SAYING, gain_within
from hwprof.specs.job.settings import RECOMPUTE
from hwprof.specs.record.run import Recommendation
from hwprof.units import format_bytes, format_fraction

LARGEST_GROWTH = 8
"""A micro-batch grows at most so many times: 7/8 of the fixed costs are gone by then."""

ACCUMULATION = 4
"""Accumulation that is proposed where the micro-batch can't grow."""


def micro_batch(facts: Facts) -> Recommendation | None:
    """More tokens per step or per kernel: fixed costs are shared by more of them.

    On a CPU nothing of it is sure: a larger micro-batch leaves the caches, which may cost as much.
    """
    settings, largest = facts.run_settings, facts.largest_micro_batch
    if largest is None or not facts.step_s:
        return None
    limit = (
        LARGEST_GROWTH if settings.gradient_accumulation == 1 else min(LARGEST_GROWTH, settings.gradient_accumulation)
    )
    growth = _growth(largest // settings.micro_batch, limit, settings.gradient_accumulation)
    saved = 1 - 1 / growth
    update = facts.update_share if settings.gradient_accumulation == 1 else 0.0
    small = facts.share(facts.ops(lambda op: op.bound == "latency"))
    stake = min(update + small + facts.host_idle_share * (1 - facts.update_share), 1.0)
    sure = 0.0 if settings.device == "cpu" else SURE * update * saved
    gain = gain_within(stake * saved, low=sure, high=stake * saved)
    if gain[1] < WORTH_SAYING:
        return None
    accumulation = settings.gradient_accumulation // growth
    keeps = settings.gradient_accumulation > 1
    flags = f"--micro-batch {settings.micro_batch * growth}" + (
        f" --gradient-accumulation {accumulation}" if keeps else ""
    )
    tokens = "the tokens of a step stay the same" if keeps else "gain in time per token; a step then has more tokens"
    return Recommendation(
        title=f"Raise the micro-batch from {settings.micro_batch} to {settings.micro_batch * growth}",
        change=flags,
        reason=f"{format_fraction(stake)} of the step does not grow with the batch; {tokens}",
        gain_fraction=gain,
        evidence=(
            f"optimizer and clip {format_fraction(update)}, operations too small for any roof "
            f"{format_fraction(small)}, {facts.idle_evidence()}; micro-batch {largest} would fit"
        ),
        basis="measured",
    )


def _growth(fitting: int, limit: int, accumulation: int) -> int:
    """The largest power of two that fits, stays within the limit, and divides an accumulation of more than one."""
    growth = 1
    while growth * 2 <= min(fitting, limit) and (accumulation == 1 or accumulation % (growth * 2) == 0):
        growth *= 2
    return growth


def accumulation(facts: Facts) -> Recommendation | None:
    """Where a larger micro-batch does not fit, several of them share one update."""
    settings, largest = facts.run_settings, facts.largest_micro_batch
    if largest is None or largest >= 2 * settings.micro_batch or facts.short_of_memory:
        return None
    saved = 1 - 1 / ACCUMULATION
    gain = gain_within(facts.update_share, low=SURE * facts.update_share * saved, high=facts.update_share * saved)
    if gain[1] < WORTH_SAYING:
        return None
    return Recommendation(
        title=f"Update once for {ACCUMULATION} micro-batches",
        change=f"--gradient-accumulation {settings.gradient_accumulation * ACCUMULATION}",
        reason=(
            f"clip and optimizer take {format_fraction(facts.update_share)} of the step, and a micro-batch of "
            f"{2 * settings.micro_batch} does not fit; gain in time per token"
        ),
        gain_fraction=gain,
        evidence=f"measured phases optimizer and clip; the largest micro-batch that fits is {largest}",
        basis="measured",
    )


def recompute_less(facts: Facts) -> Recommendation | None:
    """Keep activations instead of computing them again, where memory allows."""
    now, usable_bytes = facts.run_settings.recompute, facts.usable_bytes
    if now == "none" or usable_bytes is None or facts.short_of_memory:
        return None
    less = RECOMPUTE[: RECOMPUTE.index(now)]
    fitting = [mode for mode in less if facts.need_bytes[mode] <= usable_bytes]
    ops = facts.ops(lambda op: op.direction == "recompute")
    if not fitting or not ops:
        return None
    mode = fitting[0]
    stake = facts.share(ops if mode == "none" else [op for op in ops if op.matmul_flop > 0])
    gain = gain_within(stake, low=SURE * stake, high=stake)
    if gain[1] < WORTH_SAYING:
        return None
    need = facts.need_bytes[mode]
    return Recommendation(
        title="Keep the activations" if mode == "none" else "Recompute only what is cheap",
        change=f"--recompute {mode}",
        reason=(
            f"the step spends {format_fraction(stake)} computing activations again, and keeping them needs "
            f"{format_bytes(need)} of the {format_bytes(usable_bytes)} that may be used"
        ),
        gain_fraction=gain,
        evidence=f"profiled time of {len(ops)} recomputed operations; counted memory need",
        basis="measured",
    )


def fit_micro_batch(facts: Facts) -> Recommendation | None:
    """Short of memory: a smaller micro-batch, and as many more of them that the step keeps its tokens."""
    settings, largest = facts.run_settings, facts.largest_micro_batch
    if not facts.short_of_memory or not largest or largest >= settings.micro_batch:
        return None
    sequences = settings.micro_batch * settings.gradient_accumulation
    smaller = next(size for size in range(largest, 0, -1) if sequences % size == 0)
    return _fitting(
        facts,
        title=f"Lower the micro-batch from {settings.micro_batch} to {smaller}",
        change=f"--micro-batch {smaller} --gradient-accumulation {sequences // smaller}",
        then="the tokens of a step stay the same",
    )


def fit_recompute(facts: Facts) -> Recommendation | None:
    """Short of memory: keep less and compute it again; the least recompute that fits."""
    usable_bytes = facts.usable_bytes
    if not facts.short_of_memory or usable_bytes is None:
        return None
    more = RECOMPUTE[RECOMPUTE.index(facts.run_settings.recompute) + 1 :]
    mode = next((mode for mode in more if facts.need_bytes[mode] <= usable_bytes), None)
    if mode is None:
        return None
    return _fitting(
        facts,
        title="Recompute activations",
        change=f"--recompute {mode}",
        then=f"it then needs {format_bytes(facts.need_bytes[mode])}, and runs up to a third longer",
    )


def fit_elsewhere(facts: Facts) -> Recommendation | None:
    """Short of memory whatever the batch and the recompute: another optimizer, device, or more devices."""
    usable_bytes = facts.usable_bytes
    if not facts.short_of_memory or usable_bytes is None or facts.smallest_need_bytes <= usable_bytes:
        return None
    devices = math.ceil(facts.smallest_need_bytes / usable_bytes)
    return _fitting(
        facts,
        title="Split the model over more devices",
        change=f"--cluster with at least {devices} such devices, or a smaller --model, or --optimizer sgd or adafactor",
        then=f"even micro-batch 1 with full recompute needs {format_bytes(facts.smallest_need_bytes)}",
    )


def fit_both(facts: Facts) -> Recommendation | None:
    """Short of memory, and neither a smaller micro-batch nor recompute alone is enough: both together."""
    usable_bytes = facts.usable_bytes
    alone = fit_micro_batch(facts) or fit_recompute(facts)
    if not facts.short_of_memory or usable_bytes is None or alone or facts.smallest_need_bytes > usable_bytes:
        return None
    sequences = facts.run_settings.micro_batch * facts.run_settings.gradient_accumulation
    return _fitting(
        facts,
        title="Micro-batch 1 and recompute",
        change=f"--micro-batch 1 --gradient-accumulation {sequences} --recompute full",
        then=f"it then needs {format_bytes(facts.smallest_need_bytes)}",
    )


def _fitting(facts: Facts, *, title: str, change: str, then: str) -> Recommendation:
    """A change that makes the step possible; it gains no time."""
    need, usable_bytes = facts.need_bytes[facts.run_settings.recompute], facts.usable_bytes
    has = "" if usable_bytes is None else f", and {format_bytes(usable_bytes)} of the device may be used"
    return Recommendation(
        title=f"{title}, so that the step fits",
        change=change,
        reason=f"the step needs {format_bytes(need)}{has}; {then}",
        gain_fraction=(0.0, 0.0),
        evidence="counted memory need"
        + (", out of memory in the run" if facts.record.status == "out_of_memory" else ""),
        basis="roofline",
    )
