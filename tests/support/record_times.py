"""A realistic run, made by hand: the times of the model ``tiny`` on two CPU cores."""

from __future__ import annotations

import math
from dataclasses import dataclass

from made_up_record import made_up_ceiling

from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.run import Attribution, KernelTime, KindResult, OpResult, PhaseTime, StepTime

PEAK_FLOP_PER_S = 152e9
DRAM_BYTE_PER_S = 18.4e9
TOKENS, WIDTH, LAYERS, SEQ_LEN, VOCAB = 1024, 256, 4, 128, 256


@dataclass(frozen=True)
class Work:
    """One op of the forward pass: matrix FLOP, vector FLOP, bytes moved, calls, how near it comes to its roof."""

    label: str
    kind: str
    matmul: float
    vector: float
    moved: float
    calls: int
    reach: float


def linear(label: str, kind: str, inner: int, outer: int, reach: float, layers: int = LAYERS) -> Work:
    moved = 4 * layers * (TOKENS * inner + TOKENS * outer + inner * outer)
    return Work(label, kind, 2.0 * TOKENS * inner * outer * layers, 0.0, moved, layers, reach)


def pointwise(label: str, kind: str, width: int, flop_each: float, reach: float, layers: int = LAYERS) -> Work:
    return Work(label, kind, 0.0, flop_each * TOKENS * width * layers, 8.0 * TOKENS * width * layers, layers, reach)


FORWARD = (
    pointwise("embedding.tokens", "embedding", WIDTH, 0, 0.31, 1),
    pointwise("layers.*.attention_norm", "norm", WIDTH, 5, 0.44),
    linear("layers.*.attention.query", "attention", WIDTH, WIDTH, 0.61),
    linear("layers.*.attention.key", "attention", WIDTH, WIDTH, 0.60),
    linear("layers.*.attention.value", "attention", WIDTH, WIDTH, 0.62),
    Work("layers.*.attention.scores", "attention", 4.0 * TOKENS * SEQ_LEN * WIDTH * LAYERS, 5e6, 3.4e7, 4, 0.23),
    linear("layers.*.attention.output", "attention", WIDTH, WIDTH, 0.59),
    pointwise("layers.*.ffn_norm", "norm", WIDTH, 5, 0.43),
    linear("layers.*.ffn.up", "ffn", WIDTH, 4 * WIDTH, 0.78),
    pointwise("layers.*.ffn.activation", "ffn", 4 * WIDTH, 10, 0.36),
    linear("layers.*.ffn.down", "ffn", 4 * WIDTH, WIDTH, 0.81),
    pointwise("layers.*", "residual", 2 * WIDTH, 1, 0.52),
    pointwise("final_norm", "norm", WIDTH, 5, 0.41, 1),
    linear("head", "head", WIDTH, VOCAB, 0.66, 1),
)
UPDATES = (
    Work("clip", "clip", 0.0, 6.5e6, 2.6e7, 53, 0.35),
    Work("optimizer", "optimizer", 0.0, 4.2e7, 8.9e7, 636, 0.27),
)
LOSS = pointwise("loss", "loss", VOCAB, 5, 0.29, 1)


def result(work: Work, phase: str, direction: str, times: float, step_s: float) -> OpResult:
    matmul, vector, moved = work.matmul * times, work.vector * times, work.moved * times
    compute_s, memory_s = matmul / PEAK_FLOP_PER_S, moved / DRAM_BYTE_PER_S
    roof_s = max(compute_s, memory_s)
    time_s = roof_s / work.reach
    compute_binds = compute_s > memory_s
    bound = "latency" if work.calls > 500 else "compute" if compute_binds else "memory"
    return OpResult(
        label=work.label,
        layer_kind=work.kind,
        phase=phase,
        direction=direction,
        calls=work.calls * times,
        time_s=time_s,
        share=time_s / step_s,
        matmul_flop=matmul,
        vector_flop=vector,
        read_bytes=moved * 2 / 3,
        write_bytes=moved / 3,
        intensity_flop_per_byte=(matmul + vector) / moved or None,
        flop_per_s=(matmul + vector) / time_s,
        byte_per_s=moved / time_s,
        roof_name={"compute": "matmul.fp32", "memory": "memory.dram", "latency": "latency"}[bound],
        roof_s=roof_s,
        roof_fraction=work.reach,
        bound=bound,
        margin=1 - min(compute_s, memory_s) / roof_s,
        confidence="high" if work.reach > 0.6 else "medium" if work.reach > 0.3 else "low",
        lost_s=time_s - roof_s,
        advice={"compute": "raise the micro-batch", "memory": "fuse it with its neighbours (--compile)"}.get(
            bound, "use --optimizer-implementation fused"
        ),
    )


def make_ops(step_s: float) -> tuple[OpResult, ...]:
    ops = [result(work, "forward", "forward", 1, step_s) for work in FORWARD]
    ops += [result(LOSS, "loss", "forward", 1, step_s)]
    ops += [result(work, "backward", "backward", 2, step_s) for work in (*FORWARD, LOSS)]
    ops += [result(work, work.kind, "update", 1, step_s) for work in UPDATES]
    return tuple(sorted(ops, key=lambda op: -op.lost_s))


STEP_S = 0.25
OPS = make_ops(STEP_S)


def wobble(median: float, count: int, width: float = 0.02) -> tuple[float, ...]:
    """Samples around a median, the same at each call."""
    return tuple(median * (1 + width * math.sin(2.4 * place)) for place in range(count))


def ceiling(name: str, value: float, **changes: object) -> Ceiling:
    """A ceiling with samples, stable where nothing else is said."""
    probed = {"source": "probe on this machine", "samples": wobble(value, 15, 0.01), "spread": 0.012, "stable": True}
    return made_up_ceiling(name, value, **probed | changes)


CEILINGS = (
    ceiling("matmul.fp32", PEAK_FLOP_PER_S, dtype="fp32", conditions={"m": 2048, "threads": 2}),
    ceiling("matmul.bf16", 61e9, dtype="bf16", conditions={"m": 2048, "threads": 2}),
    ceiling("matmul.fp32.1024x1024x256", 131e9, dtype="fp32"),
    ceiling("memory.l1", 310e9, level="l1", level_bytes=64e3),
    ceiling("memory.l2", 142e9, level="l2", level_bytes=2e6),
    ceiling("memory.l3", 55e9, level="l3", level_bytes=33e6, spread=0.09, stable=False),
    ceiling(
        "memory.dram", DRAM_BYTE_PER_S, level="dram", conditions={"kernel": "triad", "working_set_bytes": 268435456}
    ),
    made_up_ceiling("transfer.host_to_device.pageable", 12e9, origin="assumed", source="host and device share memory"),
    ceiling("latency.dispatch", 4.1e-6),
)


def spent(phase: str) -> float:
    return sum(op.time_s for op in OPS if op.phase == phase)


def make_phases() -> tuple[PhaseTime, ...]:
    medians = {
        "data": 0.0031,
        "host_to_device": 0.0002,
        **{name: 1.02 * spent(name) for name in ("forward", "loss", "backward", "clip", "optimizer")},
        "evaluation": 0.12,
    }
    bounds = {"data": "host", "host_to_device": "transfer", "clip": "memory", "optimizer": "latency", "loss": "memory"}
    return tuple(
        PhaseTime(
            name=name,
            median_s=median_s,
            interval_s=(0.99 * median_s, 1.012 * median_s),
            share=0.0 if name == "evaluation" else median_s / step_s(),
            in_step=name != "evaluation",
            samples_s=wobble(median_s, 20),
            bound=bounds.get(name, "compute"),
            predicted_s=0.93 * median_s,
            roof_s=0.5 * median_s,
        )
        for name, median_s in medians.items()
    )


def step_s() -> float:
    return 1.03 * sum(op.time_s for op in OPS) + 0.0033


def make_step() -> StepTime:
    flop = 3 * sum(work.matmul for work in FORWARD)
    median_s = step_s()
    mfu = flop / median_s / PEAK_FLOP_PER_S
    return StepTime(
        median_s=median_s,
        interval_s=(0.985 * median_s, 1.017 * median_s),
        samples_s=wobble(median_s, 20),
        spread=0.021,
        stable=True,
        warmups=3,
        tokens_per_s=TOKENS / median_s,
        mfu=mfu,
        hfu=mfu,
        mfu_causal=0.97 * mfu,
        mfu_peak_flop_per_s=PEAK_FLOP_PER_S,
        mfu_basis="measured matmul.fp32: probe on this machine",
    )


def make_attribution() -> Attribution:
    compute_s = sum(op.time_s for op in OPS)
    whole_s = 1.05 * step_s()
    return Attribution(
        step_s=whole_s,
        compute_s=compute_s,
        exposed_communication_s=0.0,
        exposed_copy_s=0.0002,
        idle_host_s=whole_s - compute_s - 0.0002 - 0.0031 - 0.0004,
        idle_input_s=0.0031,
        residue_s=0.0004,
        explained_fraction=0.993,
        attributed_op_fraction=0.988,
    )


def make_kinds() -> tuple[KindResult, ...]:
    kinds = dict.fromkeys(op.layer_kind for op in OPS)
    groups = {kind: [op for op in OPS if op.layer_kind == kind] for kind in kinds}
    return tuple(
        KindResult(
            layer_kind=kind,
            time_s=sum(op.time_s for op in group),
            share=sum(op.share for op in group),
            roof_s=sum(op.roof_s for op in group),
            lost_s=sum(op.lost_s for op in group),
            bound=group[0].bound,
        )
        for kind, group in groups.items()
    )


def make_kernels() -> tuple[KernelTime, ...]:
    names = {"attention": "aten::mm", "ffn": "aten::addmm", "norm": "aten::native_layer_norm", "head": "aten::mm"}
    return tuple(
        KernelTime(
            name=names.get(op.layer_kind, "aten::add_"),
            label=op.label,
            phase=op.phase,
            direction=op.direction,
            calls=op.calls,
            time_s=0.9 * op.time_s,
        )
        for op in OPS
    )
