"""What was asked for, and what do the defaults fill in? Options of `hwprof run` to settled, checked settings."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwprof.errors import InputError, OutOfMemoryError
from hwprof.specs.hardware.spec import ClusterSpec, DeviceSpec
from hwprof.specs.job.layout_text import parse_layout
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.job.schedules import Schedule
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import (
    DeviceIdentity,
    Dtype,
    OptimizerImplementation,
    OptimizerName,
    RunSettings,
)
from hwprof.units import format_bytes

if TYPE_CHECKING:
    import torch

Progress = Callable[[str], None]
"""Told in a line where the work is."""

DEFAULT_SEQ_LEN = {"cpu": 256, "cuda": 2048}
LARGEST_DEFAULT_MICRO_BATCH = 8
MEMORY_MARGIN = 0.9
"""Share of the free memory that a default micro-batch may fill: room for fragmentation and libraries' workspaces."""
ROOMY = 0.75
"""Up to this share of the free memory an optimizer's temporaries do no harm; above it the fused one is the default."""
WORKERS_PER_CPU = 16
_HAVE_FUSED: frozenset[OptimizerName] = frozenset({"adamw", "adam", "sgd"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A run, settled: every default is filled in and everything that can be refused early has been."""

    model: ModelSpec
    settings: RunSettings
    device: torch.device
    identity: DeviceIdentity
    device_spec: DeviceSpec | None
    cluster: ClusterSpec | None
    data_path: Path | None
    full_probes: bool
    time_budget_s: float


def request_of(
    *,
    model: str,
    device: str,
    micro_batch: int | None,
    optimizer_implementation: OptimizerImplementation | None,
    data: Path | None,
    cluster: str | None,
    full_probes: bool,
    time_budget: float,
    parallel: str | None = None,
    schedule: Schedule = "1f1b",
    ranks: int = 1,
    sharing_memory: int = 1,
    **same: Any,
) -> RunRequest:
    """Settle the options of `hwprof run`, called as there; of several ranks those that all have alike.

    There are ``ranks`` of them, and ``sharing_memory`` live in this machine's memory where the device is a CPU.
    ``same`` are further options of ``_asked_settings`` and fields of the settings.

    Raises:
        InputError: unknown model, device, cluster or a combination that can't be.
        OutOfMemoryError: the model does not fit this machine at the asked-for size.
    """
    from hwprof.measure.host.environment import resolve_device
    from hwprof.measure.host.identity import identify
    from hwprof.specs.catalogue.lookup import load_cluster, load_model
    from hwprof.specs.model.trainable import check_trainable
    from hwprof.train.corpus import DEFAULT_TEXT, check_source

    spec = load_model(model)
    check_trainable(spec)
    _check_workers(same.get("workers", 0))
    check_source(data or DEFAULT_TEXT, same.get("tokenizer", "bytes"))
    cluster_spec = load_cluster(cluster) if cluster else None
    torch_device = resolve_device(device)
    identity, device_spec = identify(torch_device, sharing_memory=sharing_memory)
    settings = _asked_settings(
        spec,
        torch_device,
        _layout(parallel, ranks, schedule),
        micro_batch=micro_batch or 1,
        optimizer_implementation=optimizer_implementation,
        data=data,
        **same,
    )
    if torch_device.type == "cuda" and optimizer_implementation is None:
        settings = _roomy(spec, settings, identity.memory_bytes or 0.0, chosen=micro_batch is not None)
    return RunRequest(
        model=spec,
        settings=_fitted(spec, settings, identity, chosen=micro_batch is not None),
        device=torch_device,
        identity=identity,
        device_spec=device_spec,
        cluster=cluster_spec or _visible_cluster(device_spec),
        data_path=data,
        full_probes=full_probes,
        time_budget_s=time_budget,
    )


def _asked_settings(
    spec: ModelSpec,
    device: torch.device,
    layout: ParallelLayout,
    *,
    dtype: Dtype | None,
    seq_len: int | None,
    optimizer_implementation: OptimizerImplementation | None,
    clip_norm: float,
    compiled: bool,
    data: Path | None,
    gradient_accumulation: int | None = None,
    **same: object,
) -> RunSettings:
    """The settings that were asked for, with the device's defaults where nothing was."""
    on_gpu = device.type == "cuda"
    return RunSettings.model_validate(
        {
            "model": spec.name,
            "device": device.type,
            "dtype": dtype or _default_dtype(device),
            "seq_len": _sequence(spec, seq_len or min(DEFAULT_SEQ_LEN[device.type], spec.max_seq_len)),
            "optimizer_implementation": optimizer_implementation or ("foreach" if on_gpu else "for-loop"),
            "clip_norm": clip_norm or None,
            "compile": compiled,
            "data": str(data) if data else "Pride and Prejudice (shipped)",
            "gradient_accumulation": gradient_accumulation or _default_accumulation(layout),
            "layout": layout,
            **same,
        }
    )


def _check_workers(workers: int) -> None:
    """Each worker is a process with torch in it: far more of them than CPUs never get started."""
    most = WORKERS_PER_CPU * (os.cpu_count() or 1)
    if workers > most:
        raise InputError(
            f"--workers {workers} is a process each, and this machine has {os.cpu_count()} CPUs",
            expectation=f"at most {WORKERS_PER_CPU} for a CPU are accepted",
            remedy=f"use --workers {most} or fewer",
        )


def _sequence(spec: ModelSpec, length: int) -> int:
    """The length, which learned positions must reach."""
    if spec.positions == "learned" and length > spec.max_seq_len:
        raise InputError(
            f"--seq-len {length} is more than the {spec.max_seq_len} learned positions of {spec.name}",
            remedy=f"use --seq-len {spec.max_seq_len} or less",
        )
    return length


def _layout(parallel: str | None, ranks: int, schedule: Schedule) -> ParallelLayout:
    if ranks > 1 and parallel is None:
        raise InputError(
            f"{ranks} ranks were started, and nothing says what they share",
            expectation="expected --parallel with a layout such as ddp, fsdp, tp2, pp2 or fsdp-tp2",
            remedy="add --parallel fsdp, or start one process without torchrun",
        )
    if ranks == 1 and parallel is not None:
        raise InputError(
            f"--parallel {parallel} is for several ranks, and there is one",
            remedy=f"start them: torchrun --nproc-per-node 2 -m hwprof run --parallel {parallel} ...",
        )
    return ParallelLayout() if parallel is None else parse_layout(parallel, ranks, schedule=schedule)


def _default_accumulation(layout: ParallelLayout) -> int:
    """One micro-batch, or two for each stage of a pipeline, which would stand idle for most of its time with fewer."""
    return 2 * layout.pipeline_parallel if layout.pipeline_parallel > 1 else 1


def _default_dtype(device: torch.device) -> Dtype:
    """bf16 where the device computes in it; torch also says that one "supports" what it only emulates."""
    import torch

    return "bf16" if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"


def _visible_cluster(device_spec: DeviceSpec | None) -> ClusterSpec | None:
    """The GPUs of this machine, where there are several and the catalogue knows them."""
    import torch

    from hwprof.specs.catalogue.lookup import load_cluster

    if device_spec is None or device_spec.kind == "cpu" or torch.cuda.device_count() < 2:
        return None
    return load_cluster(f"{torch.cuda.device_count()}x{device_spec.id}")


def _fitted(spec: ModelSpec, settings: RunSettings, identity: DeviceIdentity, *, chosen: bool) -> RunSettings:
    """The settings with a micro-batch that fits; refuses one that the user chose and that can't."""
    from hwprof.count.memory.step import training_memory

    capacity_bytes = identity.memory_bytes or 0.0
    need_bytes = training_memory(spec, settings).peak_bytes
    if need_bytes > capacity_bytes:
        raise OutOfMemoryError(
            f"{spec.name} at micro-batch {settings.micro_batch} x {settings.seq_len} tokens needs "
            f"{format_bytes(need_bytes)} of memory; {identity.name} has {format_bytes(capacity_bytes)} free",
            remedy=what_would_fit(spec, settings, capacity_bytes),
        )
    return settings if chosen else _batched(spec, settings, capacity_bytes)


def _batched(spec: ModelSpec, settings: RunSettings, capacity_bytes: float) -> RunSettings:
    """The settings with the default micro-batch for a memory."""
    from hwprof.count.memory.step import largest_micro_batch

    fits = largest_micro_batch(spec, settings, capacity_bytes * MEMORY_MARGIN)
    return settings.model_copy(update={"micro_batch": max(1, min(fits, LARGEST_DEFAULT_MICRO_BATCH))})


def _roomy(spec: ModelSpec, settings: RunSettings, capacity_bytes: float, *, chosen: bool) -> RunSettings:
    """The settings, with the fused optimizer where the temporaries of torch's own would crowd the memory."""
    from hwprof.count.memory.step import training_memory

    if settings.optimizer not in _HAVE_FUSED:
        return settings
    fused = settings.model_copy(update={"optimizer_implementation": "fused"})
    batched = fused if chosen else _batched(spec, fused, capacity_bytes)
    own = batched.model_copy(update={"optimizer_implementation": settings.optimizer_implementation})
    own_bytes, fused_bytes = (training_memory(spec, one).peak_bytes for one in (own, batched))
    return fused if own_bytes > max(fused_bytes, ROOMY * capacity_bytes) else settings


def what_would_fit(spec: ModelSpec, settings: RunSettings, capacity_bytes: float) -> str:
    """The largest setting that fits a memory, as the options to type."""
    from hwprof.count.memory.step import largest_micro_batch

    own = settings.optimizer_implementation
    implementations = (own, "fused") if settings.optimizer in _HAVE_FUSED else (own,)
    for recompute, implementation in itertools.product(
        dict.fromkeys((settings.recompute, "selective", "full")), dict.fromkeys(implementations)
    ):
        tried = settings.model_copy(update={"recompute": recompute, "optimizer_implementation": implementation})
        fits = largest_micro_batch(spec, tried, capacity_bytes * MEMORY_MARGIN)
        if fits:
            optimizer = "" if implementation == own else f" --optimizer-implementation {implementation}"
            return f"what fits: --micro-batch {fits} --recompute {recompute}{optimizer}"
    return "no micro-batch fits here, even with --recompute full: take a smaller --model or --seq-len, or more devices"


def default_directory(model: str, device: str) -> Path:
    """Where a run goes that was not told: a folder of its own under ``reports``."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("reports") / f"{Path(model).stem}-{device}-{stamp}"
