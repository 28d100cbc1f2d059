"""The rest of a run made by hand: memory, recommendations, layouts, telemetry, the model."""

from __future__ import annotations

import math

from record_times import LAYERS, VOCAB, WIDTH

from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import LayoutRow, MemoryPart, MemoryResult, Recommendation, Series


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
        reason="needs 97.2 GB, device has 80 GB",
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
