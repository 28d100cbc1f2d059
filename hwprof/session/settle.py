"""What do the defaults make of a request? A run whose every setting is known, and that nothing known early forbids."""

from __future__ import annotations

import importlib
import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
import torch.utils.checkpoint

from hwprof.errors import InputError
from hwprof.measure.host.accelerator import table_of
from hwprof.measure.host.environment import resolve_device
from hwprof.measure.host.identity import identify
from hwprof.session.fitting import fitted, roomy
from hwprof.session.request import RunRequest
from hwprof.specs.catalogue.lookup import load_cluster, load_model
from hwprof.specs.hardware.spec import ClusterSpec, DeviceSpec
from hwprof.specs.job.layout_text import parse_layout
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.model.trainable import check_trainable
from hwprof.specs.record.run import DeviceIdentity, Dtype, RunSettings
from hwprof.train.corpus import DEFAULT_TEXT, check_length, check_source
from hwprof.train.optimizers import FOREACH_ON
from hwprof.train.precision import multiplies_bf16
from hwprof.units import format_bytes

DEFAULT_SEQ_LEN = {"cpu": 256, "cuda": 2048}
"""By ``table_of`` the device."""
DEFAULT_NEW_TOKENS = 32
WORKERS_PER_CPU = 16
_SHARED = Path("/dev/shm")  # noqa: S108 (looked at, nothing is put there)
_PAGE_BYTES = 4096
_AS_ASKED = frozenset(RunSettings.model_fields) & frozenset(RunRequest.model_fields)
"""Settings that a request has, too; of those that follow, the device or the layout decides more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledRun:
    """A run, settled: every default is filled in and everything that can be refused early has been."""

    request: RunRequest
    model: ModelSpec
    settings: RunSettings
    device: torch.device
    identity: DeviceIdentity
    device_spec: DeviceSpec | None
    cluster: ClusterSpec | None
    directory: Path

    @property
    def data_path(self) -> Path | None:
        """The file that is trained on; None = the text that hwprof ships."""
        return Path(self.request.data) if self.request.data else None


def settle(
    request: RunRequest, *, device: torch.device | None = None, ranks: int = 1, sharing_memory: int = 1
) -> SettledRun:
    """Settle a request; of several ranks what all have alike.

    Args:
        request: what is asked for.
        device: the one that this rank has; None = the one that is asked for.
        ranks: how many there are.
        sharing_memory: how many of them live in this machine's memory, where the device is a CPU.

    Raises:
        InputError: unknown model, device, cluster or a combination that can't be.
        OutOfMemoryError: the model does not fit this machine at the asked-for size.
    """
    spec = load_model(request.model)
    check_trainable(spec)
    if request.new_tokens and not request.inference:
        raise InputError("--new-tokens is for --inference", remedy="add --inference, or leave it out")
    data = Path(request.data) if request.data else DEFAULT_TEXT
    if request.inference:
        _check_inference(request, spec, ranks)
    else:
        _check_workers(request.workers)
        check_source(data, request.tokenizer)
    cluster = load_cluster(request.cluster) if request.cluster else None
    device = device or resolve_device(request.device)
    identity, device_spec = identify(device, sharing_memory=sharing_memory)
    settings = _asked_settings(spec, device, _layout(request, ranks), request)
    _check_torch(settings, ranks)
    chosen = request.micro_batch is not None
    if request.inference:
        settings = fitted(spec, settings, identity, chosen=True)
    else:
        check_length(data, request.tokenizer, vocab_size=spec.vocab_size, needed=2 * (settings.seq_len + 1))
        if device.type == "cuda" and request.optimizer_implementation is None and identity.memory_bytes is not None:
            settings = roomy(spec, settings, identity.memory_bytes, chosen=chosen)
        settings = fitted(spec, settings, identity, chosen=chosen)
        _check_shared_memory(settings)
    return SettledRun(
        request=request,
        model=spec,
        settings=settings,
        device=device,
        identity=identity,
        device_spec=device_spec,
        cluster=cluster or _visible_cluster(device_spec),
        directory=Path(request.output or _default_directory(spec.name, device.type)),
    )


def _check_torch(settings: RunSettings, ranks: int) -> None:
    """The lowest torch that hwprof takes has not all of this."""
    if settings.recompute == "selective" and not hasattr(torch.utils.checkpoint, "CheckpointPolicy"):
        raise InputError(
            f"torch {torch.__version__} can't recompute selectively",
            expectation="that needs torch 2.5 or newer",
            remedy="use --recompute full or none",
        )
    if ranks > 1 and not hasattr(importlib.import_module("torch.distributed.fsdp"), "fully_shard"):
        raise InputError(
            f"several ranks need torch 2.6 or newer, and this is torch {torch.__version__}",
            remedy="install a newer torch, or run one process",
        )


def _asked_settings(spec: ModelSpec, device: torch.device, layout: ParallelLayout, request: RunRequest) -> RunSettings:
    """The settings that were asked for, with the device's defaults where nothing was."""
    implementation = "foreach" if device.type in FOREACH_ON else "for-loop"
    new_tokens = (request.new_tokens or DEFAULT_NEW_TOKENS) if request.inference else 0
    usual = max(min(DEFAULT_SEQ_LEN[table_of(device)], spec.max_seq_len - max(new_tokens - 1, 0)), 1)
    seq_len = request.seq_len or usual
    _check_positions(spec, seq_len, new_tokens)
    source = "random tokens" if request.inference else "Pride and Prejudice (shipped)"
    return RunSettings.model_validate(
        {name: getattr(request, name) for name in _AS_ASKED}
        | {
            "model": spec.name,
            "device": device.type,
            "dtype": request.dtype or _default_dtype(device),
            "micro_batch": request.micro_batch or 1,
            "seq_len": seq_len,
            "new_tokens": new_tokens,
            **({"workers": 0, "eval_batches": 0, "tokenizer": "none"} if request.inference else {}),
            "optimizer_implementation": request.optimizer_implementation or implementation,
            "clip_norm": request.clip_norm or None,
            "data": str(request.data) if request.data else source,
            "gradient_accumulation": request.gradient_accumulation or _default_accumulation(layout),
            "layout": layout,
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


def _check_shared_memory(settings: RunSettings) -> None:
    """Workers hand over batches in shared memory, each up to two ahead (torch); containers often have little of it.

    Inputs and targets are int64, each in whole pages.
    """
    if not settings.workers or not _SHARED.is_dir():
        return
    tensor_bytes = -(-8 * settings.micro_batch * settings.seq_len // _PAGE_BYTES) * _PAGE_BYTES
    need_bytes = 2 * 2 * settings.workers * tensor_bytes
    free_bytes = shutil.disk_usage(_SHARED).free
    if free_bytes < need_bytes:
        raise InputError(
            f"{_SHARED} has {format_bytes(free_bytes)} left, and {settings.workers} workers hand over batches in it",
            expectation=f"they need {format_bytes(need_bytes)}",
            remedy="use --workers 0, or give the container more (docker run --shm-size=1g)",
        )


def _check_positions(spec: ModelSpec, length: int, new_tokens: int) -> None:
    """Learned positions must reach the last token that is read."""
    more = max(new_tokens - 1, 0)
    if spec.positions == "learned" and length + more > spec.max_seq_len:
        asked = f"--seq-len {length}" + (f" with --new-tokens {new_tokens}" if more else "")
        raise InputError(
            f"{asked} is more than the {spec.max_seq_len} learned positions of {spec.name}",
            remedy=f"use --seq-len {spec.max_seq_len - more} or less"
            if spec.max_seq_len > more
            else f"use --new-tokens {spec.max_seq_len // 2} or fewer",
        )


_OF_TRAINING = (
    *("gradient_accumulation", "optimizer", "optimizer_implementation", "learning_rate", "clip_norm", "recompute"),
    *("compile", "data", "tokenizer", "workers", "eval_batches", "parallel", "schedule", "cluster"),
)
"""What a request says of training alone."""


def _check_inference(request: RunRequest, spec: ModelSpec, ranks: int) -> None:
    """Refuse what does not go together with generating.

    Raises:
        InputError: a setting of training, several ranks, or a model that generates nothing.
    """
    asked = [name for name in _OF_TRAINING if getattr(request, name) != RunRequest.model_fields[name].default]
    if asked or ranks > 1:
        fact = f"--{asked[0].replace('_', '-')} is of training" if asked else f"{ranks} ranks were started"
        raise InputError(
            f"{fact}, and --inference trains nothing",
            expectation="one process generates, on one device",
            remedy="leave out one of them",
        )
    if spec.kind != "decoder":
        raise InputError(
            f"{spec.name} is of kind {spec.kind!r}, which generates nothing",
            expectation="--inference reads prompts and generates with a decoder",
            remedy="take a decoder; `hwprof count --inference` counts the passes of other models",
        )


def _layout(request: RunRequest, ranks: int) -> ParallelLayout:
    parallel = request.parallel
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
    return ParallelLayout() if parallel is None else parse_layout(parallel, ranks, schedule=request.schedule)


def _default_accumulation(layout: ParallelLayout) -> int:
    """One micro-batch, or two for each stage of a pipeline, which would stand idle for most of its time with fewer."""
    return 2 * layout.pipeline_parallel if layout.pipeline_parallel > 1 else 1


def _default_dtype(device: torch.device) -> Dtype:
    """bf16 where the device computes in it; torch also says that one "supports" what it only emulates."""
    return "bf16" if device.type in {"xpu", "npu"} or (device.type == "cuda" and multiplies_bf16(device)) else "fp32"


def _visible_cluster(device_spec: DeviceSpec | None) -> ClusterSpec | None:
    """The GPUs of this machine, where there are several and the catalogue knows them."""
    if device_spec is None or device_spec.kind == "cpu" or torch.cuda.device_count() < 2:
        return None
    return load_cluster(f"{torch.cuda.device_count()}x{device_spec.id}")


def _default_directory(model: str, device: str) -> str:
    """Where a run goes that was not told: a folder of its own under ``reports``."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return f"reports/{Path(model).stem}-{device}-{stamp}"
