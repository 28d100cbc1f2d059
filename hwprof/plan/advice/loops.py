"""What should change in a loop that somebody else wrote? The rules that need no model spec, in torch's words."""

from __future__ import annotations

from hwprof.count.ops.update import ONE_PASS, SEPARATE_PASSES
from hwprof.plan.advice import inputs as input_rules
from hwprof.plan.advice import kernels as kernel_rules
from hwprof.plan.advice.facts import Facts
from hwprof.plan.advice.gain import WORTH_SAYING, Rule, gain_within
from hwprof.plan.advice.operations import advice_for
from hwprof.specs.record.run import BoundClass, Dtype, LayerKind, OptimizerName, Recommendation, RunRecord
from hwprof.specs.record.stragglers import LateCause
from hwprof.units import format_fraction

_IN_TORCH: tuple[tuple[str, str], ...] = (
    ("--dtype bf16", "torch.autocast with dtype=torch.bfloat16"),
    ("--dtype fp16", "torch.autocast with dtype=torch.float16, and torch.amp.GradScaler"),
    ("--dtype tf32", 'torch.set_float32_matmul_precision("high")'),
    ("--dtype fp32", "no torch.autocast"),
    ("--optimizer-implementation fused", "fused=True in the optimizer"),
    ("--optimizer-implementation foreach", "foreach=True in the optimizer"),
    ("more --workers", "more num_workers in the DataLoader"),
    ("--workers more", "more num_workers in the DataLoader"),
    ("a larger --micro-batch", "a larger batch"),
    ("--micro-batch", "a larger batch"),
    ("--gradient-accumulation", "accumulate gradients over more batches"),
    ("--compile", "torch.compile"),
)
"""Option of ``hwprof run`` -> what it is in a program of one's own; longer ones first."""


def in_torch(text: str) -> str:
    """Advice that names options of ``hwprof run``, for somebody who has a loop of their own."""
    for option, words in _IN_TORCH:
        text = text.replace(option, words)
    return text


def loop_advice(layer_kind: LayerKind, bound: BoundClass, *, faster: Dtype | None) -> str:
    """One line on what to do about an operation; ``faster`` is the dtype in which the device multiplies faster."""
    return in_torch(advice_for(layer_kind, bound, faster=faster))


def late_fraction(record: RunRecord) -> float:
    """What of all steps' time the ranks wait for one that is late."""
    late = record.stragglers
    return (late.lost_fraction or 0.0) if late else 0.0


_AGAINST: dict[LateCause | None, str] = {
    "input": "more DataLoader workers on that rank, prefetching, batches of like size on all ranks",
    "compute": "like work on all ranks (tokens, expert rows, padding); look at that device's clock and its neighbours",
    "copies": "pinned memory and non_blocking=True; look at that rank's NUMA node",
    "host": "look at what that rank alone does: logging, locks, other programs on its host",
    "garbage collection": "gc.freeze() after the set-up, gc.disable(), and gc.collect() on all ranks in the same step",
    "recompilation": "torch.compile(dynamic=True) or padded shapes, so that no rank compiles alone",
    "checkpoint": "write in the background (torch.distributed.checkpoint.async_save), or by all ranks together",
    None: "profile that rank (hwprof trace has a line for each)",
}


def late_rank(facts: Facts) -> Recommendation | None:
    """One rank for which all others wait."""
    late = facts.record.stragglers
    named = late.named if late else None
    stake = late_fraction(facts.record)
    if late is None or named is None or stake < WORTH_SAYING:
        return None
    return Recommendation(
        title=f"Make rank {named.rank} keep up: {named.cause or 'it is late'}",
        change=_AGAINST[named.cause or None],
        reason=late.sentence,
        gain_fraction=gain_within(stake, low=stake, high=stake),
        evidence=f"arrival of every rank at each of {late.collectives} collectives, profiler off",
        basis="measured",
    )


def exposed_communication(facts: Facts) -> Recommendation | None:
    """Collectives that no compute hides."""
    attribution = facts.record.attribution
    stake = attribution.exposed_communication_s / attribution.step_s if attribution else 0.0
    stake -= min(late_fraction(facts.record), stake)
    if stake < WORTH_SAYING:
        return None
    return Recommendation(
        title="Hide the collectives behind compute",
        change="larger buckets or prefetching (DDP bucket_cap_mb, FSDP2 set_modules_to_forward_prefetch), or fewer "
        "collectives (no_sync while gradients accumulate)",
        reason=f"{format_fraction(stake)} of the step waits for collectives with nothing beside them",
        gain_fraction=gain_within(stake, low=0.0, high=stake),
        evidence="exposed communication of the profiled step on this rank; waiting for a slower rank is in it",
        basis="measured",
    )


LOOP_RULES: tuple[Rule, ...] = (
    kernel_rules.precision,
    kernel_rules.compiled,
    kernel_rules.optimizer_implementation,
    input_rules.data_workers,
    input_rules.overlapped_copies,
    late_rank,
    exposed_communication,
    kernel_rules.slowest_kind,
)


def recommend_loop(record: RunRecord) -> tuple[Recommendation, ...]:
    """What to change, largest gain first; empty where nothing is worth doing or no step was recorded."""
    facts = _facts(record)
    if not facts.step_s:
        return ()
    answers = [answer for answer in (rule(facts) for rule in LOOP_RULES) if answer is not None]
    return tuple(_worded(answer) for answer in sorted(answers, key=lambda answer: -sum(answer.gain_fraction)))


def _facts(record: RunRecord) -> Facts:
    """What is known without a model spec: nothing of the memory that other settings would need."""
    updates = (op for op in record.ops if op.label == "optimizer" and op.direction == "update")
    moved_bytes = sum(op.read_bytes + op.write_bytes for op in updates)
    return Facts(
        record=record,
        usable_bytes=None,
        largest_micro_batch=None,
        need_bytes={},
        smallest_need_bytes=0.0,
        fusion_saves_bytes=0.0,
        optimizer_bytes=(moved_bytes, moved_bytes * _fused_share(record.settings.optimizer)),
    )


def _fused_share(optimizer: str) -> float:
    """Traffic of an optimizer in one pass, over its traffic in separate ones; 1 where torch has no such kernel."""
    names: tuple[OptimizerName, ...] = ("adamw", "adam", "sgd")
    name = next((name for name in names if name == optimizer.lower()), None)
    if name is None:
        return 1.0
    fused, separate = ONE_PASS[name], SEPARATE_PASSES[name]
    return (fused.reads + fused.writes) / (separate.reads + separate.writes)


def _worded(answer: Recommendation) -> Recommendation:
    return answer.changed(change=in_torch(answer.change), reason=in_torch(answer.reason))
