"""A realistic run, made by hand: the model ``tiny`` on two CPU cores, with every part of the record filled."""

from __future__ import annotations

import math

from record_parts import make_layouts, make_memory, make_model, make_recommendations, make_telemetry
from record_times import (
    CEILINGS,
    FORWARD,
    OPS,
    SEQ_LEN,
    TOKENS,
    make_attribution,
    make_kernels,
    make_kinds,
    make_phases,
    make_step,
)

from hwprof.predict.ranks.waits import ranks_result
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.measurement import Skipped
from hwprof.specs.record.rank import RankRecord
from hwprof.specs.record.ranks import CollectiveCall, RankPlace
from hwprof.specs.record.run import (
    DeviceIdentity,
    PhaseTime,
    Prediction,
    Recording,
    RunRecord,
    RunSettings,
    Verdict,
    WorkSummary,
)


def _work() -> WorkSummary:
    flop = 3 * sum(work.matmul for work in FORWARD)
    return WorkSummary(
        parameters=3_277_056,
        active_parameters=3_277_056,
        train_flop_full=flop,
        train_flop_causal=0.97 * flop,
        recompute_flop_full=0.0,
        vector_flop=3.1e8,
        moved_bytes=1.9e9,
        tokens=TOKENS,
    )


def make_record() -> RunRecord:
    """A complete run."""
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
        work=_work(),
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
            "largest loss is layers.*.attention.scores backward, 23.65 ms above its roof.",
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


def make_bare(record: RunRecord) -> RunRecord:
    """A run that was interrupted before anything was measured."""
    kept = {"hwprof_version", "created", "command", "settings", "model", "environment", "device"}
    return RunRecord(status="interrupted", status_note="Ctrl-C in warm-up.", **{k: getattr(record, k) for k in kept})


HOSTILE = "<script>alert(1)</script>\u2028</script>\"'&$x^$ 模型"


def make_hostile(record: RunRecord, name: str = HOSTILE) -> RunRecord:
    """The same run with markup, quotes, line separators, dollar signs and Chinese in every text from outside."""
    changed = {
        "model": record.model.model_copy(update={"name": name, "source": {name: name}}),
        "device": record.device.model_copy(update={"name": name, "note": name}),
        "environment": {name: name},
        "notes": (name,),
        "status": "partial",
        "status_note": name,
        "command": name,
        "ops": tuple(op.model_copy(update={"label": name, "advice": name}) for op in record.ops),
        "kernels": tuple(kernel.model_copy(update={"name": name}) for kernel in record.kernels),
        "skipped": (Skipped(name=name, reason=name, remedy=name),),
        "ceilings": tuple(c.model_copy(update={"source": name, "conditions": {name: name}}) for c in CEILINGS),
        "telemetry": tuple(series.model_copy(update={"name": name}) for series in record.telemetry),
    }
    return record.model_copy(update=changed)


def make_ranks(record: RunRecord) -> RunRecord:
    """The same run on four ranks, of which one comes late to each collective."""
    layout = ParallelLayout(data_parallel=4, zero_stage=3)
    ranks = [
        RankRecord(
            place=RankPlace(rank=rank, node=0, host="here", device="cpu", stage=0, data=rank, tensor=0),
            recording=Recording(
                step_samples_s=(0.30 + 0.01 * rank, 0.31),
                phase_samples_s={"forward": (0.10, 0.11), "backward": (0.19, 0.2)},
                attribution=record.attribution,
                memory_peak_bytes=1e8 + 1e6 * rank,
            ),
            calls=tuple(
                CollectiveCall(
                    collective="all_reduce",
                    axis="data",
                    size_bytes=4e6,
                    start_s=start_s + (0.02 if rank == 2 else 0.0),
                    end_s=start_s + 0.05,
                    exposed_s=0.01,
                    phase="backward",
                )
                for start_s in (0.1, 0.2)
            ),
        )
        for rank in range(4)
    ]
    found = ranks_result(ranks, layout=layout, backend="gloo", world_size=4, steps=1)
    return record.model_copy(update={"ranks": found, "world_size": 4})


def make_slower(record: RunRecord) -> RunRecord:
    """The same run with a longer backward phase and slower attention."""
    step = record.step
    assert step is not None
    slower = step.model_copy(
        update={"median_s": 1.2 * step.median_s, "samples_s": tuple(1.2 * one for one in step.samples_s)}
    )
    phases = tuple(_longer(phase, 1.3) if phase.name == "backward" else phase for phase in record.phases)
    ops = tuple(
        op.model_copy(update={"time_s": op.time_s * (1.4 if op.layer_kind == "attention" else 0.98)})
        for op in record.ops
    )
    return record.model_copy(update={"step": slower, "phases": phases, "ops": ops})


def _longer(phase: PhaseTime, factor: float) -> PhaseTime:
    samples_s = tuple(factor * one for one in phase.samples_s)
    return phase.model_copy(update={"median_s": factor * phase.median_s, "samples_s": samples_s})
