"""What do the kernels cost the step? Precision, compilation, the optimizer's implementation, the worst layer kind."""

from __future__ import annotations

from hwprof.plan.advice.facts import Facts
from hwprof.plan.advice.gain import SURE, WORTH_SAYING, gain_within
from hwprof.plan.advice.operations import advice_for
from hwprof.specs.record.run import BoundClass, LayerKind, OpResult, OptimizerImplementation, Recommendation
from hwprof.units import format_byte_per_s, format_bytes, format_flop_per_s, format_fraction

_FUSED_OPTIMIZERS = frozenset({"adamw", "adam", "sgd"})


def precision(facts: Facts) -> Recommendation | None:
    """A dtype whose matrix products were found faster on this device, up or down."""
    ceilings, now, dtype = facts.matmul_ceilings, facts.dtype, facts.faster_dtype
    if now is None or dtype is None:
        return None
    ceiling = ceilings[dtype]
    ratio = ceilings[now].value / ceiling.value
    ops = facts.ops(lambda op: op.matmul_flop > 0 and op.roof_name.startswith("matmul."))
    stake = facts.share(ops)
    sure_s = sum(_sure_saving_s(op, ceilings[now].value, ratio, facts.dram_byte_per_s) for op in ops)
    low = sure_s / facts.step_s if facts.step_s else 0.0
    gain = gain_within(stake, low=low, high=stake * (1 - ratio))
    if gain[1] < WORTH_SAYING:
        return None
    return Recommendation(
        title=f"Multiply in {dtype}",
        change=f"--dtype {dtype}",
        reason=(
            f"{format_fraction(stake)} of the step is bound by {now} matrix products, and this device multiplies "
            f"{1 / ratio:.2g} times as fast in {dtype}"
        ),
        gain_fraction=gain,
        evidence=", ".join(
            f"{item.name} {format_flop_per_s(item.value)} ({item.origin})" for item in ceilings.values()
        ),
        basis="roofline" if ceiling.origin == "datasheet" else "measured",
    )


def _sure_saving_s(op: OpResult, flop_per_s: float, ratio: float, dram_byte_per_s: float | None) -> float:
    """What an op saves if only its time at the roof shrinks, down to the time of its unchanged traffic."""
    roof_s = min(op.matmul_flop / flop_per_s, op.time_s)
    traffic_s = (op.read_bytes + op.write_bytes) / dram_byte_per_s if dram_byte_per_s else roof_s
    return max(roof_s - max(roof_s * ratio, traffic_s), 0.0)


def compiled(facts: Facts) -> Recommendation | None:
    """Compiled kernels move fewer bytes, and fewer of them are launched."""
    if facts.settings.compile or not facts.step_s:
        return None
    memory_ops = facts.ops(lambda op: op.roof_name.startswith("memory.") and op.bound != "latency")
    memory = facts.share(memory_ops)
    moved_bytes = sum(op.read_bytes + op.write_bytes for op in memory_ops)
    fused = min(facts.fusion_saves_bytes / moved_bytes, 1.0) if moved_bytes else 0.0
    small = facts.share(facts.ops(lambda op: op.bound == "latency"))
    idle = facts.host_idle_share * (1 - facts.update_share)
    stake = min(memory + small + idle, 1.0)
    rate = facts.dram_byte_per_s
    sure = SURE * facts.fusion_saves_bytes / rate / facts.step_s if rate else 0.0
    gain = gain_within(stake, low=min(sure, memory * fused), high=memory * fused + small + idle)
    if gain[1] < WORTH_SAYING:
        return None
    return Recommendation(
        title="Compile the model",
        change="--compile",
        reason=(
            f"{_fusion_words(facts)}, and a compiled model launches fewer kernels; the first steps take minutes longer"
        ),
        gain_fraction=gain,
        evidence=(
            f"operations under a memory roof {format_fraction(memory)}, operations too small for any roof "
            f"{format_fraction(small)}, {facts.idle_evidence()}; "
            + (f"memory.dram {format_byte_per_s(rate)}" if rate else "no memory ceiling")
        ),
        basis="roofline" if rate else "measured",
    )


def _fusion_words(facts: Facts) -> str:
    if not facts.fusion_saves_bytes:
        return facts.idle_evidence()
    saved = format_bytes(facts.fusion_saves_bytes)
    return f"fusing elementwise operations and norms spares {saved} of traffic a step"


def optimizer_implementation(facts: Facts) -> Recommendation | None:
    """One pass over weights, gradients and state, in few kernels."""
    best: OptimizerImplementation = "fused" if facts.settings.optimizer.lower() in _FUSED_OPTIMIZERS else "foreach"
    now, stake = facts.settings.optimizer_implementation, facts.phase_share("optimizer")
    now_bytes, fused_bytes = facts.optimizer_bytes
    if now in {best, "fused", ""} or not stake or not now_bytes:
        return None
    known = _optimizer_roof_share(facts)
    roof = known or 0.0
    sure = now == "for-loop" and known is not None
    gain = gain_within(stake, low=SURE * (stake - roof) if sure else 0.0, high=stake - roof)
    if gain[1] < WORTH_SAYING:
        return None
    return Recommendation(
        title=f"Use the {best} optimizer",
        change=f"--optimizer-implementation {best}",
        reason=f"the optimizer takes {format_fraction(stake)} of the step; its traffic in one pass would take "
        + ("less, how much no ceiling says" if known is None else format_fraction(roof)),
        gain_fraction=gain,
        evidence=f"measured optimizer phase; {format_bytes(now_bytes)} moved by {now}, {format_bytes(fused_bytes)} "
        + ("in one pass, no memory ceiling" if known is None else "at the memory ceiling"),
        basis="measured" if known is None else "roofline",
    )


def _optimizer_roof_share(facts: Facts) -> float | None:
    """The optimizer's least time, as a share of the step: its roof in the run, scaled to the fewer bytes.

    None where no memory ceiling is known.
    """
    now_bytes, fused_bytes = facts.optimizer_bytes
    phase = next((phase for phase in facts.record.phases if phase.name == "optimizer"), None)
    if phase is not None and phase.roof_s and phase.median_s:
        return phase.share * phase.roof_s / phase.median_s * fused_bytes / now_bytes
    rate = facts.dram_byte_per_s
    return fused_bytes / rate / facts.step_s if rate and facts.step_s else None


def slowest_kind(facts: Facts) -> Recommendation | None:
    """The layer kind that loses most against its roofs for another reason than arithmetic."""
    lost_s: dict[tuple[LayerKind, BoundClass], float] = {}
    for op in facts.ops(lambda op: op.bound in {"memory", "latency", "unknown"} and op.layer_kind != "other"):
        key = op.layer_kind, op.bound
        lost_s[key] = lost_s.get(key, 0.0) + min(op.lost_s, op.time_s)
    if not lost_s or not facts.step_s:
        return None
    kind, bound = max(lost_s, key=lambda key: lost_s[key])
    stake = lost_s[kind, bound] / facts.step_s
    if stake < 5 * WORTH_SAYING:
        return None
    return Recommendation(
        title=f"Look into {kind}: {bound}-bound" if bound != "unknown" else f"Look into {kind}: far below its roofs",
        change=advice_for(kind, bound, faster=facts.faster_dtype, compiled=facts.settings.compile),
        reason=f"{kind} operations lose {format_fraction(stake)} of the step against their least possible time",
        gain_fraction=gain_within(stake, low=0.0, high=stake),
        evidence="profiled time of the operations less their roof time",
        basis="measured",
    )
