"""What did a published run do? A job, a machine and a software stack, and what was assumed where it says nothing."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

from pydantic import ValidationError

from hwprof.count.memory.job import job_memory
from hwprof.errors import HwprofError
from hwprof.predict.machine import Machine, machine_of
from hwprof.predict.stacks import Stack, framework_known, stack_named
from hwprof.simulate.published.model import published_model
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.catalogue.published import PublishedRun
from hwprof.specs.hardware.spec import ClusterSpec, DeviceSpec
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.schedules import Schedule
from hwprof.specs.job.step import JobDtype, LoraSpec, Offload, TrainingJob
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import Recompute
from hwprof.units import format_fraction

ASSUMED_LORA_RANK = 16
"""An assumption, as is that the projections of attention alone are adapted; that fits the published times better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A published run as something to predict."""

    id: str
    job: TrainingJob
    machine: Machine
    stack: Stack
    recompute_stated: bool
    assumptions: tuple[str, ...]


class RefusedError(ValueError):
    """A run that can't be modelled; the text is the reason."""


def case_of(run: PublishedRun) -> Case:
    """The run as a case.

    Raises:
        RefusedError: it can't be modelled; the reason.
    """
    notes: list[str] = []
    try:
        model, assumed = published_model(run)
        notes += assumed
        stack = stack_named(run.framework)
        if not framework_known(run.framework):
            notes.append(f"framework {run.framework or '(blank)'} not known: overheads of {stack.name}")
        machine = _machine(run, notes)
        if stack.dropout:
            model = model.model_copy(update={"dropout": stack.dropout})
            notes.append(f"dropout not stated: {format_fraction(stack.dropout)}, the default of {stack.name}")
        job = _job(run, model, stack, notes)
        if not run.recompute:
            job = _fitting(job, machine, stack, notes)
    except (HwprofError, ValueError) as error:
        raise RefusedError(_short(error)) from error
    return Case(
        id=run.id,
        job=job,
        machine=machine,
        stack=stack,
        recompute_stated=bool(run.recompute),
        assumptions=tuple(notes),
    )


def _short(error: Exception) -> str:
    """The first thing that is wrong, in one line."""
    if isinstance(error, ValidationError):
        return str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
    return str(error).splitlines()[0]


def device_of(accelerator: str, memory_gb: float | None) -> tuple[DeviceSpec, int]:
    """The device of an accelerator's trade name, and how many devices frameworks see in one of it.

    Raises:
        InputError: the catalogue has no such device.
    """
    name = re.sub(r"\(.*?\)", "", accelerator).strip().lower().replace(" ", "-").replace("_", "-")
    return _device(name.removeprefix("nvidia-").removeprefix("amd-").removeprefix("google-"), memory_gb)


@functools.lru_cache(maxsize=256)
def _device(name: str, memory_gb: float | None) -> tuple[DeviceSpec, int]:
    tried = [f"{name}-{memory_gb:.0f}gb"] if memory_gb else []
    for candidate in (*tried, name):
        try:
            device = load_device(candidate)
        except HwprofError:
            if candidate == name:
                raise
        else:
            return device, device.devices_per_package
    raise AssertionError


def _machine(run: PublishedRun, notes: list[str]) -> Machine:
    device, _ = device_of(run.accelerator, run.accel_mem_gb)
    node, domain = device.node.devices, device.node.scale_up_domain
    if run.devices_per_node and (device.link is None or device.link.topology == "torus" or node < run.devices_per_node):
        node = domain = run.devices_per_node
    elif run.devices_per_node:
        node = run.devices_per_node
        domain = domain if domain > device.node.devices else node
    if run.inter_node_link_gbps_per_gpu is None and run.n_devices > domain:
        rate = device.node.inter_node_byte_per_s
        shown = f"{rate * 8e-9:.0f} Gb/s" if rate else "that of the scale-up links"
        notes.append(f"network of a device not stated: {shown}, the usual one of {device.id}")
    gbps = run.inter_node_link_gbps_per_gpu
    return _usual_machine(
        run.accelerator,
        run.accel_mem_gb,
        devices=run.n_devices,
        node=min(node, run.n_devices),
        domain=min(domain, run.n_devices),
        between_byte_per_s=gbps * 1e9 / 8 if gbps else device.node.inter_node_byte_per_s,
    )


@functools.lru_cache(maxsize=1024)
def _usual_machine(
    accelerator: str,
    memory_gb: float | None,
    *,
    devices: int,
    node: int,
    domain: int,
    between_byte_per_s: float | None,
) -> Machine:
    device, scale = device_of(accelerator, memory_gb)
    cluster = ClusterSpec.model_construct(
        id=f"{devices}x{device.id}",
        device=device,
        devices=devices,
        devices_per_node=node,
        scale_up_domain=domain,
        inter_node_byte_per_s=between_byte_per_s,
        network=device.node.network,
        notes="",
        source={},
    )
    return machine_of(cluster, scale=scale)


def _job(run: PublishedRun, model: ModelSpec, stack: Stack, notes: list[str]) -> TrainingJob:
    layout = _layout(run, stack, notes)
    if layout.devices != run.n_devices:
        raise RefusedError(f"degrees multiply to {layout.devices}, but there are {run.n_devices} devices")
    recompute: Recompute = _recompute(run.recompute)
    if not run.attention_impl:
        notes.append("attention not stated: flash")
    flash = not run.attention_impl.lower().startswith(("unfused", "eager", "math", "naive"))
    lora = LoraSpec(rank=ASSUMED_LORA_RANK, targets="attention") if "lora" in run.model_name.lower() else None
    if lora:
        notes.append(f"LoRA of rank {ASSUMED_LORA_RANK} on the projections of attention")
    return TrainingJob(
        model=model,
        seq_len=run.seq_len,
        global_batch=run.global_batch_seqs,
        micro_batch=_micro_batch(run, layout, notes),
        dtype=_dtype(run.precision, notes),
        storage="pure" if "pure" in run.precision.lower() else stack.storage,
        gradient_bytes=4 if "fp32 grad" in run.zero_stage_or_fsdp else stack.gradient_bytes,
        fused=stack.fused,
        recompute=recompute,
        attention="flash" if flash else "materialised",
        offload=_offload(run.offload, notes),
        lora=lora,
        layout=layout,
    )


FULL = 0.96
"""Share of a device's memory that tensors may fill; the rest is the context's, libraries' and the allocator's."""


def _fitting(job: TrainingJob, machine: Machine, stack: Stack, notes: list[str]) -> TrainingJob:
    """The job with full recompute in the fewest layers with which it fits; as stated where it fits or never does."""
    room = FULL * machine.capacity_bytes
    whole_bytes = job_memory(job, stack.memory).peak_bytes
    if whole_bytes <= room:
        notes.append("recompute not stated: none, since it fits without")
        return job
    least_bytes = job_memory(job.model_copy(update={"recompute": "full"}), stack.memory).peak_bytes
    share = min((whole_bytes - room) / max(whole_bytes - least_bytes, 1.0), 1.0)
    layers = math.ceil(share * job.model.layers)
    notes.append(f"recompute not stated: full in {layers} of {job.model.layers} layers, the fewest with which it fits")
    return job.model_copy(update={"recompute": "full", "recompute_layers": layers})


def _layout(run: PublishedRun, stack: Stack, notes: list[str]) -> ParallelLayout:
    tp, pp, cp = run.tp or 1, run.pp or 1, run.cp or 1
    dp = run.dp or run.n_devices // (tp * pp * cp)
    stage, shards = _sharding(run.zero_stage_or_fsdp, dp * cp)
    if not run.zero_stage_or_fsdp and dp * cp > 1:
        stage = stack.assumed_zero_stage
        notes.append(f"sharding over data ranks not stated: ZeRO stage {stage}")
    vp = run.vp or 1
    if run.vp is None and pp > 1:
        vp = _assumed_virtual_stages(run, pp, dp)
        notes.append(f"virtual stages not stated: {vp}")
    schedule: Schedule = "interleaved" if vp > 1 and pp > 1 else "1f1b"
    return ParallelLayout(
        data_parallel=dp,
        tensor_parallel=tp,
        pipeline_parallel=pp,
        virtual_stages=vp if pp > 1 else 1,
        context_parallel=cp,
        expert_parallel=run.ep or 1,
        zero_stage=stage,
        shard_ranks=shards,
        sequence_parallel=bool(run.sp) and tp > 1,
        schedule=schedule,
        overlap="no overlap" not in run.zero_stage_or_fsdp,
    )


def _assumed_virtual_stages(run: PublishedRun, stages: int, replicas: int) -> int:
    """One layer a chunk, as Megatron's fast recipes have it, where layers and micro-batches divide; otherwise 1."""
    micro_batches = run.global_batch_seqs / replicas / (run.micro_batch_seqs or 1)
    divides = run.n_layers is not None and run.n_layers % stages == 0 and micro_batches % stages == 0
    return run.n_layers // stages if run.n_layers and divides else 1


_SHARD_RANKS = re.compile(r"(?:FSDP|shard)\s*(\d+)")


def _sharding(text: str, replicas: int) -> tuple[int, int | None]:
    """ZeRO stage, and over how many ranks where it is fewer than all."""
    lowered = text.lower()
    found = _SHARD_RANKS.search(text)
    ranks = int(found.group(1)) if found else None
    if ranks is not None and (ranks >= replicas or replicas % ranks):
        ranks = None
    if "shard_grad_op" in lowered or "zero2" in lowered or "zero-2" in lowered:
        return 2, ranks
    if "fsdp" in lowered or "zero3" in lowered or "zero-3" in lowered or "full_shard" in lowered:
        return 3, ranks
    return (1 if "zero" in lowered or "distributed optimizer" in lowered else 0), ranks


def _recompute(text: str) -> Recompute:
    lowered = text.lower()
    if lowered.startswith("full"):
        return "full"
    return "selective" if lowered and not lowered.startswith(("none", "no")) else "none"


_DTYPES: tuple[tuple[str, JobDtype], ...] = (
    ("fp4", "fp4"),
    ("fp8", "fp8"),
    ("int8", "fp8"),
    ("bf16", "bf16"),
    ("bfloat16", "bf16"),
    ("fp16", "fp16"),
    ("float16", "fp16"),
    ("half", "fp16"),
    ("tf32", "tf32"),
    ("fp32", "fp32"),
    ("float32", "fp32"),
)


def _dtype(text: str, notes: list[str]) -> JobDtype:
    found = next((dtype for word, dtype in _DTYPES if word in text.lower()), None)
    if found is None:
        notes.append("precision not stated: bf16")
    return found or "bf16"


def _offload(text: str, notes: list[str]) -> Offload:
    """Of the optimizer or the weights; what is said of activations concerns some of them only."""
    lowered = text.lower()
    if not lowered or lowered.startswith("none"):
        return "none"
    if "optim" not in lowered and "weight" not in lowered:
        notes.append(f"offload ({text}): hidden behind compute")
    return "optimizer" if "optim" in lowered else "weights" if "weight" in lowered else "none"


LARGEST_ASSUMED_TOKENS = 16384


def _micro_batch(run: PublishedRun, layout: ParallelLayout, notes: list[str]) -> int:
    """Of one replica; a fraction of a sequence (JAX shards tokens) is rounded up to a whole one."""
    share = max(run.global_batch_seqs // layout.data_parallel, 1)
    if run.micro_batch_seqs:
        wanted = max(round(run.micro_batch_seqs), 1)
        return max(size for size in range(1, wanted + 1) if share % size == 0)
    fitting = max(LARGEST_ASSUMED_TOKENS // run.seq_len, 1) if layout.pipeline_parallel == 1 else 1
    chosen = max(size for size in range(1, share + 1) if share % size == 0 and size <= fitting)
    notes.append(f"micro-batch not stated: {chosen}")
    return chosen
