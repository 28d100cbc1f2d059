"""What does ``hwprof count --inference`` say? FLOP, bytes, cache, memory and least times, as JSON or for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hwprof.count.blocks.parameters import parameters
from hwprof.count.inference.cache import KvCache, kv_cache
from hwprof.count.inference.generation import Generation, Phase, TimeBound, largest_batch, time_bound
from hwprof.count.inference.serving import Serving
from hwprof.errors import UnknownDeviceError
from hwprof.session.capturing.generation import CapturedGeneration
from hwprof.specs.hardware.spec import DeviceSpec
from hwprof.specs.model.spec import ModelSpec
from hwprof.units import format_byte_per_s, format_bytes, format_count, format_flop, format_flop_per_s, format_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedInference:
    """A generation with what was asked for and, where hardware was named, what it allows."""

    spec: ModelSpec
    serving: Serving
    batch_size: int
    shape: dict[str, int]
    work: Generation
    device: DeviceSpec | None
    captured: CapturedGeneration | None = None

    @property
    def rates(self) -> tuple[float, float] | None:
        """Compute and memory roof of the device, FLOP/s and byte/s."""
        if self.device is None:
            return None
        flop_per_s = self.device.matmul_flop_per_s(self.serving.dtype)
        if flop_per_s is None:
            raise UnknownDeviceError(
                f"{self.device.id} has no known matrix-multiply rate for {self.serving.dtype}",
                remedy="choose another --dtype",
            )
        return flop_per_s, self.device.memory.bandwidth_byte_per_s

    def bound(self, phase: Phase) -> TimeBound | None:
        """The least time of a phase on the device."""
        if self.rates is None:
            return None
        flop_per_s, byte_per_s = self.rates
        return time_bound(phase, flop_per_s=flop_per_s, byte_per_s=byte_per_s)

    @property
    def largest_batch_size(self) -> int | None:
        """How many such sequences the device has memory for."""
        if self.device is None or self.device.memory.capacity_bytes is None:
            return None
        capacity_bytes = self.device.memory.capacity_bytes
        if self.captured:
            return self.captured.largest_batch(capacity_bytes)
        return largest_batch(self.spec, capacity_bytes=capacity_bytes, serving=self.serving, **self.shape)


def inference_json(counted: CountedInference) -> dict[str, Any]:
    """The JSON contract of ``hwprof count --inference``; counts are integers, of one batch."""
    work, serving = counted.work, counted.serving
    decode = _phase(work.decode) | {"first_step": _phase(work.first_step), "last_step": _phase(work.last_step)}
    return {
        "model": counted.spec.name,
        "batch_size": counted.batch_size,
        **counted.shape,
        "dtype": serving.dtype,
        "weights": serving.weights or serving.dtype,
        "cache_dtype": serving.cache_dtype,
        "parameters": parameters(counted.spec).total,
        "notes": counted.spec.notes,
        "inference": {
            "prefill": _phase(work.prefill),
            "decode": decode if counted.spec.causal else None,
            "kv_cache_bytes": work.cache.total_bytes,
            "kv_cache": {
                "full_bytes": work.cache.full_bytes,
                "window_bytes": work.cache.window_bytes,
                "cross_bytes": work.cache.cross_bytes,
                "state_bytes": work.cache.state_bytes,
                "first_token_bytes": _first_token_bytes(counted),
            },
            "memory": _memory(counted),
            "bound": _bounds(counted),
        },
    }


def _phase(phase: Phase) -> dict[str, Any]:
    """``flop`` counts every product of attention, ``causal_flop`` what a causal kernel has to do."""
    cost = phase.cost
    return {
        "passes": phase.passes,
        "flop": int(cost.matmul_flop),
        "causal_flop": phase.causal_flop,
        "vector_flop": int(cost.vector_flop),
        "bytes": int(cost.moved_bytes),
        "least_bytes": phase.least_bytes,
        "flop_per_byte": phase.causal_flop / phase.least_bytes if phase.least_bytes else None,
    }


def _first_token_bytes(counted: CountedInference) -> int:
    """What one token of one sequence takes in the cache while no window is full."""
    serving = counted.serving
    if counted.captured:
        return counted.captured.token_bytes
    one = kv_cache(counted.spec, batch_size=1, context_tokens=1, dtype=serving.cache_dtype, mla=serving.mla)
    return one.total_bytes


def _memory(counted: CountedInference) -> dict[str, Any]:
    need, device = counted.work.memory, counted.device
    capacity = device.memory.capacity_bytes if device else None
    return {
        "peak_bytes": need.peak_bytes,
        "moment": need.moment,
        "weights_bytes": need.weights_bytes,
        "kv_cache_bytes": need.kv_cache_bytes,
        "activation_bytes": need.activation_bytes,
        "capacity_bytes": None if capacity is None else int(capacity),
        "largest_batch_size": counted.largest_batch_size,
    }


def _bounds(counted: CountedInference) -> dict[str, Any] | None:
    if counted.device is None or counted.rates is None:
        return None
    work = counted.work
    phases = {"prefill": work.prefill, "first_step": work.first_step, "last_step": work.last_step}
    chosen = phases if counted.spec.causal else {"prefill": work.prefill}
    return {
        "hardware": counted.device.id,
        "basis": "datasheet",
        "flop_per_s": counted.rates[0],
        "byte_per_s": counted.rates[1],
        **{name: _seconds(counted.bound(phase)) for name, phase in chosen.items()},
    }


def _seconds(bound: TimeBound | None) -> dict[str, Any]:
    assert bound is not None
    return {"lower_s": bound.lower_s, "roof": bound.roof, "compute_s": bound.compute_s, "memory_s": bound.memory_s}


def inference_text(counted: CountedInference) -> str:
    """A summary for people."""
    return "\n".join(_lines(counted))


def _lines(counted: CountedInference) -> list[str]:
    spec, shape, serving, work = counted.spec, counted.shape, counted.serving, counted.work
    widths = f"{serving.dtype}, weights {serving.weights or serving.dtype}, cache {serving.cache_dtype}"
    lengths = f"{shape['prompt_tokens']} prompt + {shape['new_tokens']} new"
    lengths = f"{shape['source_tokens']} source, {lengths}" if shape["source_tokens"] else lengths
    names = {"prefill": work.prefill}
    if spec.causal:
        names |= {"first step": work.first_step, "last step": work.last_step, "all steps": work.decode}
    return [
        f"{spec.name}: {format_count(parameters(spec).total)} parameters",
        f"inference of {counted.batch_size} x ({lengths}) tokens; {widths}",
        "",
        "             passes  matrix FLOP  causal FLOP  bytes moved  least bytes FLOP/byte",
        *[_phase_line(name, phase) for name, phase in names.items()],
        "bytes moved: eager kernels; least bytes: weights once a pass, the cache, nothing else",
        "",
        *_memory_lines(counted),
        *_bound_lines(counted),
    ]


def _phase_line(name: str, phase: Phase) -> str:
    intensity = phase.causal_flop / phase.least_bytes if phase.least_bytes else 0
    return (
        f"  {name:<10} {phase.passes:>6} {format_flop(phase.cost.matmul_flop):>12} "
        f"{format_flop(phase.causal_flop):>12} {format_bytes(phase.cost.moved_bytes):>12} "
        f"{format_bytes(phase.least_bytes):>12} {intensity:>9.3g}"
    )


def _memory_lines(counted: CountedInference) -> list[str]:
    need, cache = counted.work.memory, counted.work.cache
    at_the_end = f"{format_bytes(cache.total_bytes)} at the end"
    token = f"{format_bytes(_first_token_bytes(counted))} for a sequence's first token"
    lines = [
        f"memory at its peak ({need.moment}): {format_bytes(need.peak_bytes)}",
        f"  weights          {format_bytes(need.weights_bytes):>10}",
        f"  key-value cache  {format_bytes(need.kv_cache_bytes):>10}  {at_the_end}, {token}",
        *_state_lines(cache),
        f"  activations      {format_bytes(need.activation_bytes):>10}  without workspaces of kernels",
    ]
    capacity = counted.device.memory.capacity_bytes if counted.device else None
    if counted.device and capacity is not None:
        fits = counted.largest_batch_size
        room = f"room for a batch of {fits}" if fits else "too little for one such sequence"
        lines.append(f"  {counted.device.id} has {format_bytes(capacity)}: {room}")
    return lines


def _state_lines(cache: KvCache) -> list[str]:
    if not cache.state_bytes:
        return []
    held = f"{format_bytes(cache.state_bytes):>10}"
    return [f"  of it states     {held}  of convolutions and recurrences, whatever the length"]


def _bound_lines(counted: CountedInference) -> list[str]:
    if counted.device is None or counted.rates is None:
        return []
    flop_per_s, byte_per_s = format_flop_per_s(counted.rates[0]), format_byte_per_s(counted.rates[1])
    work = counted.work
    names = {"prefill": work.prefill}
    if counted.spec.causal:
        names |= {"first token after it": work.first_step, "last token": work.last_step}
    rows = []
    for name, phase in names.items():
        bound = counted.bound(phase)
        assert bound is not None
        rows.append(f"  {name:<21} {format_seconds(bound.lower_s):>10}  {bound.roof}-bound")
    return ["", f"least time on {counted.device.id}, by its datasheet ({flop_per_s}, {byte_per_s})", *rows]
