"""How much memory does a step need, whether it trains or generates?"""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.count.inference.generation import generation
from hwprof.count.inference.serving import Serving
from hwprof.count.memory.step import training_memory
from hwprof.specs.job.settings import RunSettings
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.memory import MemoryPart


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Memory at the peak.

    Attributes:
        parts: what it is for.
        peak_bytes: their sum.
    """

    parts: tuple[MemoryPart, ...]
    peak_bytes: float


def need_of(spec: ModelSpec, settings: RunSettings) -> Need:
    """The need of a step; of one that generates at the prompts' pass or at the last one, whichever needs more."""
    if not settings.new_tokens:
        need = training_memory(spec, settings)
        return Need(parts=need.parts, peak_bytes=need.peak_bytes)
    found = generation(
        spec,
        batch_size=settings.micro_batch,
        prompt_tokens=settings.seq_len,
        new_tokens=settings.new_tokens,
        serving=Serving(dtype=settings.dtype),
    ).memory
    sizes = {"weights": found.weights_bytes, "cache": found.kv_cache_bytes, "activations": found.activation_bytes}
    parts = tuple(MemoryPart(name=name, predicted_bytes=float(size)) for name, size in sizes.items())
    return Need(parts=parts, peak_bytes=float(found.peak_bytes))
