"""How much memory does inference need? Weights, cache and activations, followed over time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hwprof.count.ops.operation import Op

_WAITS_FOR = {
    "attention_norm": ("attention.output",),
    "cross_attention_norm": ("cross_attention.output",),
    "ffn_norm": ("ffn.down", "moe.combine"),
    "query": ("core",),
    "key": ("core",),
    "value": ("core",),
    "kv": ("core",),
    "kv_down": ("kv",),
    "gate": ("activation",),
    "up": ("activation",),
    "routing": ("combine",),
    "combine": ("shared.sum",),
}
"""Name of what makes a tensor -> ends of labels of what is the last to hold it: a block holds its input until it is
through. Whatever isn't named is held until the next op is through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceMemory:
    """What one device holds at the moment when it holds most.

    Attributes:
        moment: ``prefill`` or ``last decode step``.
        weights_bytes: of all weights, as stored.
        kv_cache_bytes: of the cache at that moment.
        activation_bytes: the peak of what ops pass on to each other.
    """

    moment: str
    weights_bytes: int
    kv_cache_bytes: int
    activation_bytes: int

    @property
    def peak_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_cache_bytes + self.activation_bytes


def activation_peak_bytes(ops: Iterable[Op], *, stream_bytes: int) -> int:
    """The most that is alive while an op runs: the residual stream, its input and result, what later ops wait for.

    While a layer runs, the stream is there twice: as the layer got it, which its caller holds, and as attention left
    it. No op's workspace is counted, nor memory that an allocator keeps back.

    Args:
        ops: of one pass, in the order in which they run; layers' ops stand there once.
        stream_bytes: size of the residual stream.
    """
    peak = 0
    waiting: dict[str, tuple[int, tuple[str, ...]]] = {}
    for op in ops:
        taken = {label for label, (_, until) in waiting.items() if op.label.endswith(until)}
        held = sum(size for label, (size, _) in waiting.items() if label not in taken)
        inputs = max(op.input_bytes, sum(waiting[label][0] for label in taken))
        streams = 2 if op.in_layer else 1
        peak = max(peak, streams * stream_bytes + held + inputs + op.output_bytes)
        waiting = {label: tensor for label, tensor in waiting.items() if label not in taken}
        until = _WAITS_FOR.get(op.label.rsplit(".", 1)[-1])
        if until:
            waiting[op.label] = (op.output_bytes, until)
    return peak
