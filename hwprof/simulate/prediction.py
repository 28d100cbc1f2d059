"""What will one training step take on hardware that is not here? Time with its interval, memory, bound, timeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hwprof.count.blocks.recurrences import recurrent
from hwprof.count.job.model_flop import job_flop
from hwprof.count.memory.job import job_memory, job_pieces
from hwprof.count.memory.step import MemoryNeed
from hwprof.errors import InputError
from hwprof.predict.kernels.op_time import MicroBatchTimes, micro_batch_times
from hwprof.predict.machine import Machine
from hwprof.predict.parameters import parameters_for
from hwprof.predict.stacks import Stack
from hwprof.simulate.error_model import UNKNOWN, circumstances, interval, known_of
from hwprof.simulate.jobs import NVME_BYTE_PER_S, jobs_of, splits_tokens, work_of
from hwprof.simulate.memory_interval import memory_interval_bytes
from hwprof.simulate.numbers import Jobs
from hwprof.simulate.parts import BOUND_OF_PART, StepPart
from hwprof.simulate.pipeline.engine import simulate_pipeline
from hwprof.simulate.pipeline.timeline import Timeline
from hwprof.simulate.pipeline.work import pipeline_work
from hwprof.simulate.runners import wide_dtype
from hwprof.simulate.step import step_terms
from hwprof.simulate.update import HOST_MEMORY_BYTE_PER_S
from hwprof.simulate.whole_step import StepTimes, whole_step
from hwprof.specs.catalogue.simulator import SimulatorParameters
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.record.run import BoundClass, Interval
from hwprof.units import format_byte_per_s, format_fraction

MOST_PASSES = 1_000_000
"""Forward and backward passes of a simulated step, some ten seconds of simulating."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One step of a job on a machine.

    Attributes:
        step_s: time of the step, through the event engine.
        interval_s: 90 % of comparable runs lie inside.
        tokens_per_s_per_device: throughput.
        mfu, hfu: model FLOP, and all FLOP that run, over the dense peak of the job's format.
        mfu_causal: the same with half of the attention.
        memory: of the device that needs most.
        memory_interval_bytes: of what the device has to have; 90 % of the figures of left-out sources lie inside.
        fits: whether it fits the device.
        tight: whether it does so only where the allocator has given back all that it keeps in vain.
        breakdown_s: where the time goes; adds up to ``step_s``.
        bound: what takes most of it.
        basis: in words, what each term rests on.
        timeline: every item of the pipeline.
    """

    step_s: float
    interval_s: Interval
    tokens_per_s_per_device: float
    mfu: float
    hfu: float
    mfu_causal: float
    memory: MemoryNeed
    memory_interval_bytes: Interval
    fits: bool
    tight: bool
    breakdown_s: Mapping[StepPart, float]
    bound: BoundClass
    basis: tuple[str, ...]
    timeline: Timeline


def predict_job(
    job: TrainingJob,
    machine: Machine,
    stack: Stack,
    table: SimulatorParameters,
    *,
    recompute_stated: bool = True,
    notes: tuple[str, ...] = (),
) -> Prediction:
    """One step of ``job``; ``notes`` say in words what ``table`` holds beside the fitted parameters.

    Raises:
        InputError: the pipeline can't run with these numbers, or a sequence is beyond learned positions.
        SpecError: the device lacks a number that is needed.
    """
    _check_length(job)
    parameters, basis = parameters_for(table, machine, stack)
    placed = [(job, machine, stack)]
    jobs = jobs_of(placed)
    shares, kernels = work_of(placed, [parameters.measured])
    work = micro_batch_times(shares, parameters)
    terms = step_terms(jobs, work, parameters)
    memory = job_memory(job)
    kept_bytes = float(job_pieces(job).body.kept_bytes)
    timeline = simulate_pipeline(pipeline_work(job, terms, work, memory, kept_bytes=kept_bytes))
    whole = whole_step(jobs, work, terms, timeline.span_s / (1 + terms.slowdown))
    step_s = timeline.step_s
    names = circumstances(job, machine, known_of(machine, stack, table, recompute=recompute_stated))
    peak_flop_per_s = machine.peak_flop_per_s(job.dtype) * job.layout.devices
    flop = job_flop(job)
    return Prediction(
        step_s=step_s,
        interval_s=interval(step_s, table.step_time, names),
        tokens_per_s_per_device=job.tokens / step_s / job.layout.devices,
        mfu=flop.model / step_s / peak_flop_per_s,
        hfu=flop.hardware / step_s / peak_flop_per_s,
        mfu_causal=job_flop(job, "causal").model / step_s / peak_flop_per_s,
        memory=memory,
        memory_interval_bytes=memory_interval_bytes(job, stack, table.memory),
        fits=memory.least_bytes <= machine.capacity_bytes,
        tight=memory.least_bytes <= machine.capacity_bytes < memory.device_bytes,
        breakdown_s=_breakdown(whole, step_s, piped=job.layout.pipeline_parallel > 1),
        bound=_bound(whole, work, jobs),
        basis=(
            *(f"parameters {each}" for each in basis),
            *(f"kernels: {each}" for each in kernels),
            *notes,
            f"{job.dtype} peak ({wide_dtype(job.dtype)} outside linear layers) and memory: datasheet",
            *machine.assumptions(job.dtype),
            *_offload_basis(job),
            *_capture_basis(job),
            "interval: published runs, each predicted by a fit without its source"
            + "".join(f"; {name}: wider" for name in names if name in UNKNOWN),
            "memory interval: published figures, each source left out in turn",
        ),
        timeline=timeline,
    )


def passes_of(job: TrainingJob) -> int:
    """Forward and backward passes of all stages in one step."""
    return 2 * job.layout.pipeline_parallel * job.layout.chunks * job.micro_batches


def _check_length(job: TrainingJob) -> None:
    """Refuse a step whose timeline would take minutes and gigabytes; published steps have some ten thousand passes."""
    passes = passes_of(job)
    if passes > MOST_PASSES:
        raise InputError(
            f"{job.micro_batches:,} micro-batches make {passes:,} passes through pipeline stages in one step",
            expectation=f"at most {MOST_PASSES:,} are simulated",
            remedy="take a smaller --global-batch, a larger --micro-batch or more devices",
        )


_KERNELS = "recurrences run as the kernels of flash-linear-attention and mamba-ssm, not as loops of torch's operators"
_CONTEXT = "context ranks: layers without attention change between tokens and channels, all to all"


def _capture_basis(job: TrainingJob) -> tuple[str, ...]:
    captured, ranks = job.model.captured, job.layout.tensor_parallel
    if captured is None:
        return ()
    spread = "experts are spread evenly, and chosen equally often"
    return (
        f"model: {job.model.notes}",
        *(_split_basis(job) if ranks > 1 else []),
        *([spread] if job.layout.expert_parallel > 1 else []),
        *([_KERNELS] if recurrent(job.model) else []),
        *([_CONTEXT] if job.layout.context_parallel > 1 and job.model.mixing.changed_width else []),
    )


def _split_basis(job: TrainingJob) -> Iterator[str]:
    """Whose rule says how tensor ranks share a captured model."""
    captured, ranks = job.model.captured, job.layout.tensor_parallel
    assert captured
    planned, ruled = captured.shared_share - captured.ruled_share, captured.ruled_share
    apart = splits_tokens(job)
    between = "; between them tokens are split" if apart else "; between them tokens are whole on each"
    if planned:
        yield f"tensor ranks share {format_fraction(planned)} of the layers' weights, as its class plans{between}"
    if ruled:
        yield f"tensor ranks share {format_fraction(ruled)} of the layers' weights, as Megatron-Core would{between}"
    repeated = next((tensor.groups for tensor in captured.tensors if tensor.grouped_rows and tensor.groups < ranks), 0)
    if repeated:
        yield f"tensor ranks beyond {repeated} repeat the groups of its state spaces, which Megatron-Core refuses"


def _offload_basis(job: TrainingJob) -> tuple[str, ...]:
    if job.offload == "none":
        return ()
    drive = f", drives {format_byte_per_s(NVME_BYTE_PER_S)} a device (assumed)" if job.offload_to == "nvme" else ""
    memory = f"host memory {format_byte_per_s(HOST_MEMORY_BYTE_PER_S)} a device (assumed)"
    return (f"offload: {memory}{drive}{UPDATED_ON_HOST if job.offloads('optimizer') else ''}",)


UPDATED_ON_HOST = "; five published steps with an optimizer on the host took 0.7 to 1.8 times as long as predicted"


def _breakdown(closed: StepTimes, step_s: float, *, piped: bool) -> dict[StepPart, float]:
    """The closed form's parts; what the engine sees beyond them is pipeline bubble, or rounding where there is none."""
    parts = {name: float(values[0]) for name, values in closed.parts.items()}
    parts[StepPart.BUBBLE] += step_s - float(closed.step_s[0])
    if not piped:
        parts[StepPart.COMPUTE] += parts.pop(StepPart.BUBBLE)
    return {name: value for name, value in parts.items() if abs(value) > 1e-12 * step_s}


def _bound(closed: StepTimes, work: MicroBatchTimes, jobs: Jobs) -> BoundClass:
    """The class whose parts take most of the step; kernels count as memory-bound as far as traffic is their roof."""
    totals: dict[BoundClass, float] = {}
    memory_share = float(work.traffic_share[0])
    for name, values in closed.parts.items():
        value, bound = float(values[0]), BOUND_OF_PART[name]
        shares: dict[BoundClass, float] = (
            {bound: 1.0} if bound else {"compute": 1 - memory_share, "memory": memory_share}
        )
        for each, share in shares.items():
            totals[each] = totals.get(each, 0.0) + value * share
    assert len(jobs.layers) == 1
    return max(totals, key=lambda bound: totals[bound])
