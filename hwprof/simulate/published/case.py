"""What did a published run do? A job, a machine and a software stack, and what was assumed where it says nothing."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError

from hwprof.errors import HwprofError
from hwprof.predict.machine import Machine, machine_of
from hwprof.predict.stacks import Stack, framework_known, stack_named
from hwprof.simulate.published.assumed import assumed_micro_batch, assumed_virtual_stages, fitted_in
from hwprof.simulate.published.model import published_model
from hwprof.simulate.published.words import (
    ATTENTION,
    COMPILE,
    LOSS,
    MODULES,
    OFFLOAD,
    OPTIMIZER,
    PRECISION,
    RECOMPUTE,
    SHARDING,
    Vocabulary,
)
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.catalogue.published import PublishedRun
from hwprof.specs.hardware.spec import ClusterSpec, DeviceSpec
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.schedules import Schedule
from hwprof.specs.job.step import LoraSpec, TrainingJob
from hwprof.specs.job.switches import OffloadPart
from hwprof.specs.model.spec import ModelSpec
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
    network_stated: bool
    memory_unsure: tuple[str, ...]
    assumptions: tuple[str, ...]


def _memory_unsure(run: PublishedRun, job: TrainingJob, *, stated: bool) -> tuple[str, ...]:
    """What a run leaves open that its memory hangs on, by the names of the error model.

    Programs that store everything in 16 bits are those of fine-tuning on few devices, where optimizers differ most.
    """
    unsure = {
        "recompute not stated": not stated,
        "framework not known": not framework_known(run.framework),
        "optimizer not stated": not run.optimizer and job.storage == "pure",
    }
    return tuple(name for name, holds in unsure.items() if holds)


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
            model = model.changed(dropout=stack.dropout)
            notes.append(f"dropout not stated: {format_fraction(stack.dropout)}, the default of {stack.name}")
        job = _job(run, model, stack, notes)
        stated = recompute_stated(run, stack)
        job = fitted_in(job, machine, stack, run, stated=stated, notes=notes)
    except (HwprofError, ValueError) as error:
        raise RefusedError(_short(error)) from error
    return Case(
        id=run.id,
        job=job,
        machine=machine,
        stack=stack,
        recompute_stated=stated,
        network_stated=run.inter_node_link_gbps_per_gpu is not None,
        memory_unsure=_memory_unsure(run, job, stated=stated),
        assumptions=tuple(notes),
    )


def recompute_stated(run: PublishedRun, stack: Stack) -> bool:
    """Whether a run says what is computed again."""
    return _recompute(run, stack) is not None


def _recompute(run: PublishedRun, stack: Stack) -> dict[str, Any] | None:
    """What is computed again; ``None`` where it is not told. ``selective`` alone means one thing in Megatron only."""
    text = run.recompute.lower()
    found, modules = RECOMPUTE.read(text).meaning, tuple(dict.fromkeys(MODULES.findall(text)))
    if modules and found.get("recompute") != "full" and "selective" not in found:
        return {"recompute": "selective", "selective": modules}
    if found and (found != {"recompute": "selective"} or stack.family == "megatron"):
        return found
    return {"recompute": "full"} if _INPUTS.search(run.offload) else None


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
    domain = _stated_domain(run, device, domain, notes)
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


def _stated_domain(run: PublishedRun, device: DeviceSpec, domain: int, notes: list[str]) -> int:
    """Devices that links join: one where bridges could but the run says PCIe. Links of another sort are told."""
    said = re.match(r"[a-z]+", run.intra_node_link.lower())
    links = [each.link for each in (device.link, device.host_link) if each and each.link]
    if said is None or not links:
        return domain
    if device.link and device.link.topology == "bridge" and said.group() == "pcie":
        return 1
    if not links[0].startswith(said.group()) and not (device.link is None and said.group() == "pcie"):
        notes.append(f"intra_node_link: {run.intra_node_link!r} left out, {device.id} has {links[0]}")
    return domain


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
    stated = _stated(run, stack, notes)
    layout = _layout(run, stack, stated, notes)
    if layout.devices != run.n_devices:
        raise RefusedError(f"degrees multiply to {layout.devices}, but there are {run.n_devices} devices")
    chunks = layout.pipeline_parallel * layout.chunks
    if chunks > model.pipeline_places:
        raise RefusedError(f"{model.layers} layers are fewer than {chunks} pipeline chunks")
    share = stated.pop("recomputed_share", None)
    lora = _lora(run, notes)
    fields = dict(stack.compiling(stated.pop("compiled", None)))
    fields |= {name: value for name, value in stated.items() if name not in _OF_LAYOUT}
    return TrainingJob(
        model=stack.trained(model),
        seq_len=run.seq_len,
        global_batch=run.global_batch_seqs,
        micro_batch=assumed_micro_batch(run, layout, stack, notes),
        recompute_layers=math.ceil(share * model.layers) if share else None,
        lora=lora,
        layout=layout,
        **fields,
    )


_OF_LAYOUT = frozenset({"zero_stage", "context_kind", "overlap"})


def _stated(run: PublishedRun, stack: Stack, notes: list[str]) -> dict[str, Any]:
    """What the words of a run's columns mean; of two columns that say one thing the later."""
    found = _words(PRECISION, run.precision, notes)
    if "dtype" not in found:
        if run.precision:
            raise RefusedError(f"precision {run.precision!r} is not known")
        notes.append("precision not stated: bf16")
    if not run.attention_impl and not run.attention_kernel:
        notes.append("attention not stated: flash")
    for vocabulary, text in (
        (ATTENTION, run.attention_impl),
        (ATTENTION, run.attention_kernel),
        (SHARDING, run.zero_stage_or_fsdp),
        (OPTIMIZER, run.optimizer),
        (LOSS, run.fused_loss),
    ):
        found |= _words(vocabulary, text, notes)
    _words(RECOMPUTE, run.recompute, notes)
    again = _recompute(run, stack) or {"recompute": "none"}
    compiled = _words(COMPILE, run.compile, notes)
    if not compiled and stack.family == "torch":
        usual = "yes" if stack.switches.get("compiled", False) else "no"
        notes.append(f"compile not stated: {usual}, the default of {stack.name}")
    offload = run.offload or ("weights, optimizer" if _ON_HOST.search(run.model_name) else "")
    return found | _offload(offload, notes) | again | compiled


_ON_HOST = re.compile(r"\bcpu offload\b", re.IGNORECASE)
"""As FSDP has it: weights, gradients and state live in host memory."""


def _words(vocabulary: Vocabulary, text: str, notes: list[str]) -> dict[str, Any]:
    """What a cell means; words that are in no vocabulary are told."""
    read = vocabulary.read(text)
    unknown = [word for word in read.unknown if vocabulary is not RECOMPUTE or not MODULES.fullmatch(word)]
    if unknown:
        notes.append(f"{vocabulary.column}: {', '.join(unknown)} in {text!r} not known, left out")
    return read.meaning


def _lora(run: PublishedRun, notes: list[str]) -> LoraSpec | None:
    name = run.model_name.lower()
    if not (run.lora_rank or run.qlora or "lora" in name):
        return None
    rank = run.lora_rank or ASSUMED_LORA_RANK
    notes.append(f"LoRA of rank {rank} on the projections of attention")
    return LoraSpec(rank=rank, targets="attention", quantized=bool(run.qlora) or "qlora" in name)


def _offload(text: str, notes: list[str]) -> dict[str, Any]:
    """Of activations where it says in how many layers, or names the inputs of all: the rest is then computed again."""
    found = _words(OFFLOAD, text, notes)
    layers = _LAYERS.search(text)
    if found.get("activations") and not layers and not _INPUTS.search(text):
        notes.append(f"offload ({text}): some activations only, left out")
        del found["activations"]
    parts = [part for part in get_args(OffloadPart) if found.pop(part, False)]
    return found | {"offload": "+".join(parts) or "none", "offload_layers": int(layers.group(1)) if layers else None}


_LAYERS = re.compile(r"(\d+) layers")
_INPUTS = re.compile(r"\bdecoder_layer_input\b")
"""MaxText offloads what it names and computes the rest of a layer again; its input is all that full recompute keeps."""


def _layout(run: PublishedRun, stack: Stack, stated: Mapping[str, Any], notes: list[str]) -> ParallelLayout:
    tp, pp, cp = run.tp or 1, run.pp or 1, run.cp or 1
    dp = run.dp or run.n_devices // (tp * pp * cp)
    stage, shards = stated.get("zero_stage", 0), _shard_ranks(run, dp * cp)
    if "zero_stage" not in stated and dp * cp > 1:
        stage = stack.assumed_zero_stage
        notes.append(f"sharding over data ranks not stated: ZeRO stage {stage}")
    if pp > 1 and stack.family == "torch" and stage not in stack.zero_stages_in_pipeline:
        stage = max(each for each in stack.zero_stages_in_pipeline if each < stage)
        notes.append(f"{stack.name} in a pipeline: ZeRO stage {stage}")
    vp = run.vp or 1
    if run.vp is None and pp > 1:
        vp = assumed_virtual_stages(run, pp, dp)
        notes.append(f"virtual stages not stated: {vp}")
    schedule: Schedule = "interleaved" if vp > 1 and pp > 1 else "1f1b"
    return ParallelLayout(
        data_parallel=dp,
        tensor_parallel=tp,
        pipeline_parallel=pp,
        virtual_stages=vp if pp > 1 else 1,
        context_parallel=cp,
        context_kind=stated.get("context_kind", "ring"),
        expert_parallel=run.ep or 1,
        expert_tensor=_expert_tensor(run),
        zero_stage=stage,
        shard_ranks=shards,
        sequence_parallel=(bool(run.sp) or stack.splits_stream) and tp > 1,
        schedule=schedule,
        overlap=stated.get("overlap", True),
    )


_EXPERT_TENSOR = re.compile(r"\bETP ?= ?(\d+)\b")


def _expert_tensor(run: PublishedRun) -> int | None:
    """Devices that share one expert, where the run says so."""
    found = _EXPERT_TENSOR.search(run.notes)
    return run.etp or (int(found.group(1)) if found else None)


_SHARD_RANKS = re.compile(r"(?:FSDP|shard|shard over) (\d+)")
_IN_NODE = re.compile(r"hsdp|hybrid_shard|in node", re.IGNORECASE)


def _shard_ranks(run: PublishedRun, replicas: int) -> int | None:
    """Over how many ranks ZeRO shards, where it is fewer than all."""
    found = _SHARD_RANKS.search(run.zero_stage_or_fsdp)
    ranks = int(found.group(1)) if found else None
    if ranks is None and _IN_NODE.search(run.zero_stage_or_fsdp):
        ranks = run.devices_per_node
    return None if ranks is None or ranks >= replicas or replicas % ranks else ranks
