"""What should be done about one operation? A table: layer kind and bound class to one line of advice."""

from __future__ import annotations

from hwprof.specs.record.run import BoundClass, Dtype, LayerKind

_BY_KIND: dict[tuple[LayerKind, BoundClass], str] = {
    ("attention", "memory"): "use a fused attention kernel and fuse the rotary embedding: --compile",
    ("attention", "latency"): "more heads and rows per kernel: a larger --micro-batch",
    (
        "attention",
        "unknown",
    ): "far below its roofs: --compile; for the core another kernel (torch.nn.attention.sdpa_kernel)",
    ("ffn", "memory"): "fuse the activation: --compile; more rows per weight read: a larger --micro-batch",
    ("ffn", "latency"): "larger matrices: a larger --micro-batch",
    ("norm", "memory"): "fuse: --compile or a fused norm kernel",
    ("norm", "latency"): "fuse: --compile or a fused norm kernel",
    ("norm", "unknown"): "the kernel is far below the memory roof: a fused norm kernel or --compile",
    ("residual", "memory"): "fuse the addition into its neighbours: --compile",
    ("residual", "latency"): "fuse the addition into its neighbours: --compile",
    (
        "embedding",
        "memory",
    ): "a gather is bound by the memory system: a larger --micro-batch spreads the gradient's cost",
    (
        "embedding",
        "unknown",
    ): "scattered reads and writes miss the memory roof: a smaller vocabulary or sparse gradients",
    ("head", "compute"): "at the arithmetic roof: a vocabulary padded to a multiple of 64, or a faster device",
    ("head", "memory"): "compute head and loss together in chunks, so that the logits are never stored",
    ("loss", "memory"): "compute head and loss together in chunks, or fuse the loss: --compile",
    ("loss", "latency"): "fuse the loss: --compile",
    ("loss", "unknown"): "softmax over the vocabulary in one pass: --compile or a fused cross-entropy",
    ("optimizer", "memory"): "one pass over the state (fused, where the optimizer has it); fewer steps per token",
    ("optimizer", "latency"): "one kernel for all tensors: --optimizer-implementation fused or foreach",
    ("optimizer", "unknown"): "one kernel for all tensors: --optimizer-implementation fused or foreach",
    ("clip", "memory"): "clip once per larger step: --gradient-accumulation",
    ("clip", "latency"): "one kernel for all tensors: a foreach gradient norm; clip once per larger step",
    ("clip", "unknown"): "one kernel for all tensors: a foreach gradient norm; clip once per larger step",
    ("data", "host"): "prepare batches earlier: more --workers",
    ("data", "transfer"): "copy from pinned memory while the device computes",
}
"""What helps a layer kind in particular; the rest follows from the bound class alone."""

_BY_BOUND: dict[BoundClass, str] = {
    "compute": "at the arithmetic roof, and no number format is known to be faster here: a faster device",
    "memory": "at the memory roof: fuse with neighbours (--compile) or store less",
    "communication": "overlap the collective with compute, or change the parallel layout",
    "transfer": "copy from pinned memory while the device computes",
    "host": "the device waits for the host: --compile, or larger work per launch (--micro-batch)",
    "latency": "too small to reach a roof: a larger --micro-batch, or fuse: --compile",
    "unknown": "below every roof: look for a better kernel (--compile), other shapes, or threads that compete",
}


_COMPILED: dict[BoundClass, str] = {
    "memory": "at the memory roof, compiled already: store less, or a device with faster memory",
    "host": "the device waits for the host: larger work per launch (--micro-batch), or CUDA graphs",
    "latency": "too small to reach a roof, compiled already: a larger --micro-batch",
    "unknown": "below every roof, compiled already: other shapes, or threads that compete",
}
"""What to say of a compiled model in place of advice to compile it."""


_GENERATING: dict[BoundClass, str] = {
    "compute": "at the arithmetic roof: a faster device, or shorter prompts",
    "memory": "each token reads weights and cache anew: more sequences at once (--batch-size), fewer bits (--dtype)",
    "transfer": "copy from pinned memory while the device computes",
    "host": "the device waits for the host: more sequences at once (--batch-size), or CUDA graphs",
    "latency": "too small to reach a roof: more sequences at once (--batch-size), or CUDA graphs",
    "unknown": "below every roof: more sequences at once (--batch-size), a better kernel, or threads that compete",
}


def advice_to_generate(_layer_kind: LayerKind, bound: BoundClass) -> str:
    """One line on what to do about an operation of a model that generates."""
    return _GENERATING.get(bound, "")


def advice_for(layer_kind: LayerKind, bound: BoundClass, *, faster: Dtype | None, compiled: bool = False) -> str:
    """One line on what to do about an operation of a layer kind that a class binds.

    Args:
        layer_kind: whose operation it is.
        bound: what holds it back.
        faster: the dtype in which the device multiplies faster, if there is one.
        compiled: whether the model is compiled already.
    """
    if bound == "compute" and faster is not None:
        return f"lower precision: --dtype {faster}, in which this device multiplies faster"
    line = _BY_KIND.get((layer_kind, bound), _BY_BOUND[bound])
    return _COMPILED.get(bound, line) if compiled and "--compile" in line else line
