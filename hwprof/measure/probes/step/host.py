"""What does a step cost the host? The same model and optimizer, so narrow that their kernels take hardly any time.

Modules are called, operators dispatched, gradients found by autograd's engine and weights updated as in the real step.
On a CPU the operators' own least time is in it, and one layer is timed after as many bytes went through the caches as
between two layers of the step: its code and Python's are gone from them by then. On a GPU it is the time to enqueue.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import nn

from hwprof.measure.host.accelerator import synchronize
from hwprof.measure.probes.bench import Bench, CannotRunError, Conditions
from hwprof.measure.probes.matmul import matmul_precision
from hwprof.measure.probes.operators import operators_of
from hwprof.measure.probes.rotation import cache_bytes
from hwprof.measure.probes.sampling import Work, sample_s
from hwprof.measure.timing import Timer
from hwprof.specs.job.settings import RunSettings
from hwprof.specs.measurement import Ceiling
from hwprof.specs.model.spec import ModelSpec
from hwprof.train.generation import Generator
from hwprof.train.loop import build_model, mean_loss
from hwprof.train.optimizers import build_optimizer
from hwprof.train.precision import select_precision

HostPart = Literal["forward", "forward_backward", "clip", "optimizer", "prefill", "decode"]
OF_GENERATION: tuple[HostPart, ...] = ("prefill", "decode")
OF_TRAINING: tuple[HostPart, ...] = tuple(part for part in get_args(HostPart) if part not in OF_GENERATION)

NARROW = 64
"""Width of the residual stream and of the feed-forward network, and words of the vocabulary."""

TOKENS = 2
"""Of the one sequence."""

_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStep:
    """A step whose cost on the host is asked for.

    Attributes:
        spec: its model.
        settings: the run; micro-batch and sequence don't matter here.
        layer_bytes: what a layer moves in one pass, all micro-batches alike.
    """

    spec: ModelSpec
    settings: RunSettings
    layer_bytes: float

    @property
    def parts(self) -> tuple[HostPart, ...]:
        """Of the step that the settings ask for."""
        if not self.settings.new_tokens:
            return OF_TRAINING
        return OF_GENERATION if self.settings.decode_steps else OF_GENERATION[:1]


def narrowed(spec: ModelSpec, layers: int) -> ModelSpec:
    """So many layers of the model, each as narrow as it can be with the same kernel for its attention.

    Width of a head and whether heads share keys stay, as torch chooses the kernel by them.
    """
    heads = 2 if spec.heads > spec.kv_heads else 1
    width = heads * spec.head_dim if spec.stock_encoder else NARROW
    sizes = {"d_model": width, "d_ff": NARROW, "heads": heads, "kv_heads": 1, "vocab_size": NARROW}
    return spec.changed(**sizes, layers=layers, max_seq_len=TOKENS)


class NarrowGeneration:
    """A narrow model that reads two tokens and then, again and again, one more; as ``hwprof.train.generation`` does."""

    def __init__(self, spec: ModelSpec, settings: RunSettings, device: torch.device) -> None:
        self._tokens = torch.arange(TOKENS, device=device)[None]
        settings = settings.changed(seq_len=TOKENS, micro_batch=1, new_tokens=2)
        self._generator = Generator(spec.changed(max_seq_len=2 * TOKENS), settings, device=device)

    def part(self, name: HostPart) -> Work:
        """What takes one pass."""
        read, before = (self._tokens, 0) if name == "prefill" else (self._tokens[:, :1], TOKENS)
        return lambda: self._generator.after(before, read)


class NarrowStep:
    """A narrow model that takes the parts of a step as ``hwprof.train.loop.Trainer`` does, without data and scaling."""

    def __init__(self, spec: ModelSpec, settings: RunSettings, device: torch.device) -> None:
        self._settings = settings
        self._precision = select_precision(settings.dtype, device)
        self._model = build_model(spec, settings.changed(seq_len=TOKENS), device)
        self._optimizer = build_optimizer(
            self._model, settings.optimizer, settings.optimizer_implementation, learning_rate=settings.learning_rate
        )
        self._tokens = torch.arange(TOKENS, device=device)[None]
        self._gradients()
        self._optimizer.step()  # the first one makes its state

    def part(self, name: HostPart) -> Work:
        """What takes one part of the step."""
        parts: dict[HostPart, Work] = {
            "forward": self._forward,
            "forward_backward": self._forward_backward,
            "clip": lambda: nn.utils.clip_grad_norm_(self._model.parameters(), 1.0),
            "optimizer": self._optimizer.step,
        }
        return parts[name]

    def _forward(self) -> torch.Tensor:
        with self._precision.autocast():
            logits: torch.Tensor = self._model(self._tokens)
        return logits

    def _gradients(self) -> None:
        torch.autograd.backward(mean_loss(self._forward(), self._tokens))

    def _forward_backward(self) -> None:
        """Gradients are there before it, as little as in a step: they are dropped as the optimizer's end does."""
        self._model.zero_grad(set_to_none=True)
        self._gradients()


def host_ceiling(bench: Bench, step: HostStep, part: HostPart, wall: Timer) -> Ceiling:
    """``latency.host.<part>``: seconds of the host for one part of the step, of one micro-batch or of all weights.

    On a CPU timed with one layer and multiplied by the operators of all layers over its own.

    Args:
        bench: where to measure.
        step: whose host.
        part: ``forward_backward`` has the loss and the forward pass in it.
        wall: the host's clock, whatever the device's timeline is.

    Raises:
        CannotRunError: the model is compiled, or nothing is clipped.
    """
    if step.settings.compile:
        raise CannotRunError("a compiled model calls graphs, whose cost on the host is not that of modules")
    if part == "clip" and step.settings.clip_norm is None:
        raise CannotRunError("the run clips no gradients")
    on_cpu = bench.device.type == "cpu"
    layers = 1 if on_cpu and part in _BY_LAYER else step.spec.layers
    streamed_bytes = int(min(step.layer_bytes, MOST_CACHES * (cache_bytes() or _UNKNOWN_CACHE_BYTES))) if on_cpu else 0
    narrow = NarrowGeneration if part in OF_GENERATION else NarrowStep
    with torch.inference_mode(mode=False), torch.enable_grad(), matmul_precision(step.settings.dtype):
        some, whole = (
            narrow(narrowed(step.spec, count), step.settings, bench.device).part(part)
            for count in (layers, step.spec.layers)
        )
        operators, of_whole = operators_of(some), operators_of(whole)
        timed = sample_s(
            wall,
            some,
            warmups=bench.warmups,
            samples=bench.samples,
            deadline_s=bench.probe_s / 4,
            prepare=_before(bench.device, streamed_bytes),
            waited_s=bench.waited_s,
        )
    seconds = tuple(one * of_whole / operators for one in timed.seconds)
    conditions: Conditions = {
        "layers": step.spec.layers,
        "operators": of_whole,
        "timed_layers": layers,
        "timed_operators": operators,
        "streamed_bytes": streamed_bytes,
    }
    return bench.ceiling(f"latency.host.{part}", "latency", replace(timed, seconds=seconds), conditions=conditions)


_BY_LAYER = frozenset({"forward", "forward_backward", *OF_GENERATION})
"""What calls the same code for each layer, but not in a row."""

MOST_CACHES = 2
"""No more is streamed than so many times what the last cache holds."""

_UNKNOWN_CACHE_BYTES = 64 * 2**20


def _before(device: torch.device, streamed_bytes: int) -> Work:
    """Reads so many bytes on a CPU; waits until a GPU has nothing to do."""
    if device.type != "cpu":
        return lambda: synchronize(device)
    buffer = torch.ones(max(streamed_bytes // _FLOAT_BYTES, 1))
    return buffer.sum
