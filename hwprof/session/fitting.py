"""Does a run fit this memory, and what would? Micro-batch and optimizer by the memory that a step needs."""

from __future__ import annotations

import itertools

import torch

from hwprof.count.inference.generation import largest_batch
from hwprof.count.inference.serving import Serving
from hwprof.count.memory.step import largest_micro_batch, training_memory
from hwprof.errors import OutOfMemoryError
from hwprof.session.need import need_of
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import DeviceIdentity, OptimizerName, RunSettings
from hwprof.units import format_bytes

LARGEST_DEFAULT_MICRO_BATCH = 8
MEMORY_MARGIN = 0.9
"""Share of the free memory that a default micro-batch may fill: room for fragmentation and libraries' workspaces."""
ROOMY = 0.75
"""Up to this share of the free memory an optimizer's temporaries do no harm; above it the fused one is the default."""
_HAVE_FUSED: frozenset[OptimizerName] = frozenset({"adamw", "adam", "sgd"})

_OUT_OF_MEMORY = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
"""torch.OutOfMemoryError from torch 2.5 on."""
_OUT_OF_MEMORY_TEXTS = (
    "can't allocate memory",
    "backend out of memory",
    "NPU out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What torch's allocators of CPU, Metal and Ascend say in a plain RuntimeError, and CUDA and its libraries too."""


def fitted(spec: ModelSpec, settings: RunSettings, identity: DeviceIdentity, *, chosen: bool) -> RunSettings:
    """The settings with a micro-batch that fits; where the memory is not told, with the one that they have.

    Raises:
        OutOfMemoryError: the one that was ``chosen`` can't, or none.
    """
    if identity.memory_bytes is None:
        return settings
    capacity_bytes = identity.memory_bytes
    need_bytes = need_of(spec, settings).peak_bytes
    if need_bytes > capacity_bytes:
        raise OutOfMemoryError(
            f"{spec.name} at micro-batch {settings.micro_batch} x {settings.seq_len} tokens needs "
            f"{format_bytes(need_bytes)} of memory; {identity.name} has {format_bytes(capacity_bytes)} free",
            remedy=what_would_fit(spec, settings, capacity_bytes),
        )
    return settings if chosen else batched(spec, settings, capacity_bytes)


def batched(spec: ModelSpec, settings: RunSettings, capacity_bytes: float) -> RunSettings:
    """The settings with the default micro-batch for a memory."""
    fits = largest_micro_batch(spec, settings, capacity_bytes * MEMORY_MARGIN)
    return settings.changed(micro_batch=max(1, min(fits, LARGEST_DEFAULT_MICRO_BATCH)))


def roomy(spec: ModelSpec, settings: RunSettings, capacity_bytes: float, *, chosen: bool) -> RunSettings:
    """The settings, with the fused optimizer where the temporaries of torch's own would crowd the memory."""
    if settings.optimizer not in _HAVE_FUSED:
        return settings
    fused = settings.changed(optimizer_implementation="fused")
    tried = fused if chosen else batched(spec, fused, capacity_bytes)
    own = tried.changed(optimizer_implementation=settings.optimizer_implementation)
    own_bytes, fused_bytes = (training_memory(spec, one).peak_bytes for one in (own, tried))
    return fused if own_bytes > max(fused_bytes, ROOMY * capacity_bytes) else settings


def what_would_fit(spec: ModelSpec, settings: RunSettings, capacity_bytes: float) -> str:
    """The largest setting that fits a memory, as the options to type."""
    if settings.new_tokens:
        return _what_would_generate(spec, settings, capacity_bytes)
    own = settings.optimizer_implementation
    implementations = (own, "fused") if settings.optimizer in _HAVE_FUSED else (own,)
    for recompute, implementation in itertools.product(
        dict.fromkeys((settings.recompute, "selective", "full")), dict.fromkeys(implementations)
    ):
        tried = settings.changed(recompute=recompute, optimizer_implementation=implementation)
        fits = largest_micro_batch(spec, tried, capacity_bytes * MEMORY_MARGIN)
        if fits:
            optimizer = "" if implementation == own else f" --optimizer-implementation {implementation}"
            return f"what fits: --micro-batch {fits} --recompute {recompute}{optimizer}"
    return "no micro-batch fits here, even with --recompute full: take a smaller --model or --seq-len, or more devices"


def _what_would_generate(spec: ModelSpec, settings: RunSettings, capacity_bytes: float) -> str:
    fits = largest_batch(
        spec,
        capacity_bytes=capacity_bytes * MEMORY_MARGIN,
        prompt_tokens=settings.seq_len,
        new_tokens=settings.new_tokens,
        serving=Serving(dtype=settings.dtype),
    )
    if fits:
        return f"what fits: --batch-size {fits}"
    return "not one prompt of that length fits here: take a shorter --seq-len, --dtype bf16 or a smaller --model"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, whichever library says so."""
    return isinstance(error, (_OUT_OF_MEMORY, MemoryError)) or any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS)


def shortage(spec: ModelSpec, settings: RunSettings, identity: DeviceIdentity, error: BaseException) -> str:
    """What a step needed, what there was, what would fit, and what the library said when memory ran out."""
    first_line = str(error).splitlines()[0] if str(error) else "out of memory"
    return (
        f"out of memory: the step needs about {format_bytes(need_of(spec, settings).peak_bytes)}, "
        f"{_what_there_was(spec, settings, identity)} ({first_line})"
    )


def _what_there_was(spec: ModelSpec, settings: RunSettings, identity: DeviceIdentity) -> str:
    if identity.memory_bytes is None:
        again = "" if settings.new_tokens else " or --recompute full"
        return f"how much {identity.name} had free is {identity.memory_source}; try --micro-batch 1{again}"
    had = f"{identity.name} had {format_bytes(identity.memory_bytes)} free"
    if need_of(spec, settings).peak_bytes <= MEMORY_MARGIN * identity.memory_bytes:
        return f"{had}: something else took it; end other programs, raise its limit, or take a smaller --micro-batch"
    return f"{had}; {what_would_fit(spec, settings, identity.memory_bytes)}"
