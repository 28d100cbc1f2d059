"""A realistic run, made by hand: the model ``tiny`` on two CPU cores, with every part of the record filled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from hwprof.specs.measurement import Ceiling, Skipped
from hwprof.specs.model import ModelSpec
from hwprof.specs.run import (
    Attribution,
    DeviceIdentity,
    KernelTime,
    KindResult,
    LayoutRow,
    MemoryPart,
    MemoryResult,
    OpResult,
    PhaseTime,
    Prediction,
    Recommendation,
    RunRecord,
    RunSettings,
    Series,
    StepTime,
    Verdict,
    WorkSummary,
)

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


def ceiling(name: str, kind: str, value: float, unit: str, **more: object) -> Ceiling:
    measured = {
        "origin": "measured",
        "source": "probe on this machine",
        "samples": wobble(value, 15, 0.01),
        "spread": 0.012,
        "stable": True,
    }
    return Ceiling(name=name, kind=kind, value=value, unit=unit, **(measured | more))


CEILINGS = (
    ceiling(
        "matmul.fp32", "compute", PEAK_FLOP_PER_S, "flop_per_s", dtype="fp32", conditions={"m": 2048, "threads": 2}
    ),
    ceiling("matmul.bf16", "compute", 61e9, "flop_per_s", dtype="bf16", conditions={"m": 2048, "threads": 2}),
    ceiling("matmul.fp32.1024x1024x256", "compute", 131e9, "flop_per_s", dtype="fp32"),
    ceiling("memory.l1", "memory", 310e9, "byte_per_s", level="l1", level_bytes=64e3),
    ceiling("memory.l2", "memory", 142e9, "byte_per_s", level="l2", level_bytes=2e6),
    ceiling("memory.l3", "memory", 55e9, "byte_per_s", level="l3", level_bytes=33e6, spread=0.09, stable=False),
    ceiling(
        "memory.dram",
        "memory",
        DRAM_BYTE_PER_S,
        "byte_per_s",
        level="dram",
        conditions={"kernel": "triad", "working_set_bytes": 268435456},
    ),
    Ceiling(
        name="transfer.host_to_device.pageable",
        kind="transfer",
        value=12e9,
        unit="byte_per_s",
        origin="assumed",
        source="host and device share memory",
    ),
    ceiling("latency.dispatch", "latency", 4.1e-6, "s"),
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


def make_memory() -> MemoryResult:
    parts = (
        MemoryPart(name="weights", predicted_bytes=13.1e6, note="3.28 M parameters in fp32"),
        MemoryPart(name="gradients", predicted_bytes=13.1e6),
        MemoryPart(name="optimizer state", predicted_bytes=26.2e6, note="AdamW: two moments in fp32"),
        MemoryPart(name="saved activations", predicted_bytes=118.4e6, note="held from forward to backward"),
        MemoryPart(name="logits and loss", predicted_bytes=3.1e6),
        MemoryPart(name="batch", predicted_bytes=0.02e6),
    )
    timeline = tuple((0.001 * place, 53e6 + 118e6 * math.sin(math.pi * (place % 100) / 100)) for place in range(300))
    return MemoryResult(
        parts=parts,
        predicted_peak_bytes=173.92e6,
        measured_peak_bytes=181.3e6,
        measured_source="torch profiler, allocated bytes",
        capacity_bytes=8.2e9,
        capacity_source="psutil, total memory",
        timeline=timeline,
    )


def make_recommendations() -> tuple[Recommendation, ...]:
    return (
        Recommendation(
            title="Compile the model",
            change="--compile",
            reason="Norms, activations and residuals are bound by memory; fused kernels move their bytes once.",
            gain_fraction=(0.06, 0.14),
            evidence="memory-bound pointwise operations take 31 % of the step",
            basis="roofline",
        ),
        Recommendation(
            title="Use the fused optimizer",
            change="--optimizer-implementation fused",
            reason="636 small operations per step cost more in dispatch than in arithmetic.",
            gain_fraction=(0.03, 0.05),
            evidence="636 calls × 4.1 µs dispatch",
            basis="measured",
        ),
        Recommendation(
            title="Raise the micro-batch to 16",
            change="--micro-batch 16",
            reason="Weights are read once for twice the tokens.",
            gain_fraction=(0.0, 0.04),
            evidence="memory need at 16: 292 MB of 8.2 GB",
            basis="roofline",
        ),
        Recommendation(
            title="Two devices: data parallel",
            change="--parallel data=2",
            reason="Gradients are small against the work of a step.",
            gain_fraction=(0.4, 0.48),
            evidence="all-reduce of 13.1 MB",
            basis="assumed",
            kind="layout",
        ),
        Recommendation(
            title="Stay in fp32",
            change="--dtype fp32",
            reason="bf16 matrix multiplication is slower than fp32 on this processor.",
            gain_fraction=(0.0, 0.0),
            evidence="61 against 152 GFLOP/s",
            basis="measured",
        ),
    )


def make_layouts() -> tuple[LayoutRow, ...]:
    common = {"cluster": "8xh100-sxm", "devices": 8, "zero_stage": 0, "micro_batch": 8, "capacity_bytes": 80e9}
    fitting = LayoutRow(
        **common,
        rank=1,
        data_parallel=8,
        tensor_parallel=1,
        pipeline_parallel=1,
        gradient_accumulation=1,
        recompute="none",
        fits=True,
        reason="least communication",
        memory_bytes=1.2e9,
        step_s=0.0031,
        step_lo_s=0.0022,
        step_hi_s=0.0049,
        tokens_per_s_per_device=330_000.0,
        mfu=0.08,
        compute_s=0.0024,
        communication_s=0.0007,
        bubble_s=0.0,
        bound="compute",
    )
    refused = LayoutRow(
        **common | {"micro_batch": 4096},
        rank=2,
        data_parallel=4,
        tensor_parallel=2,
        pipeline_parallel=1,
        gradient_accumulation=1,
        recompute="full",
        fits=False,
        reason="needs 97.2 GB, device has 80.0 GB",
        memory_bytes=97.2e9,
    )
    return fitting, refused


def make_telemetry() -> tuple[Series, ...]:
    times_s = tuple(0.5 * place for place in range(60))
    waves = {
        ("cpu.core0.utilisation", "percent"): lambda t: 88 + 10 * math.sin(t),
        ("cpu.core1.utilisation", "percent"): lambda t: 84 + 12 * math.cos(1.3 * t),
        ("cpu.clock", "hertz"): lambda t: 2.9e9 + 1e8 * math.sin(t / 3),
        ("process.rss", "byte"): lambda t: 4e8 + 2.5e8 * (1 - math.exp(-t / 4)),
        ("disk.read", "byte_per_s"): lambda t: 4e6 if t < 2 else 0.0,
    }
    return tuple(
        Series(name=name, unit=unit, times_s=times_s, values=tuple(map(wave, times_s)))
        for (name, unit), wave in waves.items()
    )


def make_model() -> ModelSpec:
    return ModelSpec(
        name="tiny",
        family="hwprof",
        kind="decoder",
        layers=LAYERS,
        d_model=WIDTH,
        d_ff=4 * WIDTH,
        heads=4,
        kv_heads=4,
        head_dim=64,
        vocab_size=VOCAB,
        max_seq_len=512,
        activation="gelu",
        gated=False,
        norm="layernorm",
        norm_placement="pre",
        final_norm=True,
        positions="rope",
        tied_embeddings=False,
        attention_bias="none",
        mlp_bias=False,
        source={"all": "made for a quick first run"},
    )


@pytest.fixture(scope="session")
def record() -> RunRecord:
    flop = 3 * sum(work.matmul for work in FORWARD)
    step = make_step()
    return RunRecord(
        hwprof_version="0.1.0",
        status="complete",
        created="2026-01-15T10:30:00+00:00",
        command="hwprof run --model tiny --cluster 8xh100-sxm",
        settings=RunSettings(model="tiny", device="cpu", micro_batch=8, seq_len=SEQ_LEN),
        model=make_model(),
        environment={"python": "3.11.9", "torch": "2.13.0", "os": "Linux 6.8", "threads": "2"},
        device=DeviceIdentity(
            name="Intel Xeon @ 2.80GHz (2 cores)",
            catalogue_id=None,
            note="not in the catalogue: measured ceilings only",
            memory_bytes=8.2e9,
            memory_source="psutil",
        ),
        ceilings=CEILINGS,
        skipped=(
            Skipped(name="telemetry.nvml", reason="no NVIDIA driver is loaded", remedy="none needed on a CPU"),
            Skipped(name="probe.transfer.pinned", reason="host and device share memory"),
        ),
        work=WorkSummary(
            parameters=3_277_056,
            active_parameters=3_277_056,
            train_flop_full=flop,
            train_flop_causal=0.97 * flop,
            recompute_flop_full=0.0,
            vector_flop=3.1e8,
            moved_bytes=1.9e9,
            tokens=TOKENS,
        ),
        step=step,
        phases=make_phases(),
        ops=OPS,
        layer_kinds=make_kinds(),
        kernels=make_kernels(),
        attribution=make_attribution(),
        recorder_overhead_fraction=0.003,
        profiler_overhead_fraction=0.14,
        losses=tuple(5.5 * math.exp(-0.05 * place) + 0.05 * math.sin(place) for place in range(26)),
        eval_loss=2.31,
        memory=make_memory(),
        prediction=Prediction(
            step_s=0.94 * step.median_s,
            interval_s=(0.8 * step.median_s, 1.12 * step.median_s),
            basis="measured ceilings, roofline with dispatch cost",
            phase_s={"forward": 0.3 * step.median_s, "backward": 0.6 * step.median_s},
            residual_fraction=0.06,
            residual_note="6 % of the measured step is not predicted.",
        ),
        bound="memory",
        verdict=Verdict(
            sentence="The step is memory-bound: 47.4 % of it is spent moving bytes at the memory roof; the "
            "largest loss is layers.*.attention.scores backward, 23.6 ms above its roof.",
            bound="memory",
            confidence="medium",
            shares={"compute": 0.37, "memory": 0.474, "latency": 0.09, "host": 0.06, "unknown": 0.006},
            lost_s=sum(op.lost_s for op in OPS),
        ),
        recommendations=make_recommendations(),
        layouts=make_layouts(),
        telemetry=make_telemetry(),
        notes=("CPU frequency scaling is on.",),
    )


@pytest.fixture(scope="session")
def bare_record(record: RunRecord) -> RunRecord:
    """A run that was interrupted before anything was measured."""
    kept = {"hwprof_version", "created", "command", "settings", "model", "environment", "device"}
    return RunRecord(status="interrupted", status_note="Ctrl-C in warm-up.", **{k: getattr(record, k) for k in kept})


HOSTILE = "<script>alert(1)</script>\u2028</script>\"'&$x^$ 模型"


@pytest.fixture(scope="session")
def hostile_record(record: RunRecord) -> RunRecord:
    """The same run with markup, quotes, line separators, dollar signs and Chinese in every text from outside."""
    changed = {
        "model": record.model.model_copy(update={"name": HOSTILE, "source": {HOSTILE: HOSTILE}}),
        "device": record.device.model_copy(update={"name": HOSTILE, "note": HOSTILE}),
        "environment": {HOSTILE: HOSTILE},
        "notes": (HOSTILE,),
        "status": "partial",
        "status_note": HOSTILE,
        "command": HOSTILE,
        "ops": tuple(op.model_copy(update={"label": HOSTILE, "advice": HOSTILE}) for op in record.ops),
        "kernels": tuple(kernel.model_copy(update={"name": HOSTILE}) for kernel in record.kernels),
        "skipped": (Skipped(name=HOSTILE, reason=HOSTILE, remedy=HOSTILE),),
        "ceilings": tuple(c.model_copy(update={"source": HOSTILE, "conditions": {HOSTILE: HOSTILE}}) for c in CEILINGS),
        "telemetry": tuple(series.model_copy(update={"name": HOSTILE}) for series in record.telemetry),
    }
    return record.model_copy(update=changed)
