"""What does recompute keep of a layer, and what runs again in the backward pass? One table, for memory and for time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from hwprof.count.ops.operation import Op
from hwprof.specs.job.settings import Recompute
from hwprof.specs.job.switches import KEEPING, Selective

PRODUCTS = frozenset({"linear", "expert_linear"})
_NORMS = frozenset({"rmsnorm", "layernorm"})
_BLOCK_NORMS = ("attention_norm", "ffn_norm")
_FIRST = ("attention.query", "attention.query_down", "attention.kv_down", "ffn.gate", "ffn.up", "moe.router")
"""Products that keep the result of a block's norm, where no other does."""

LAYER = "layer"
"""The module that full recompute and policies of kept results run again: all of a layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A part of a layer that runs again.

    Attributes:
        again: which operations run again.
        kept_bytes: what an operation, one of them or a reader of their result, still keeps.
    """

    again: Callable[[Op], bool]
    kept_bytes: Callable[[Op], float]


def _within(part: str) -> Callable[[Op], bool]:
    return lambda op: f".{part}." in op.label


def _its_input(op: Op) -> float:
    """A checkpointed block keeps what it reads: the result of the norm before it."""
    return op.saved_bytes if op.label.endswith(_FIRST) else 0.0


def _without_scores(op: Op) -> float:
    return op.input_bytes if op.kind == "attention_core_scores" else op.saved_bytes


_MODULES: Mapping[Selective, Module] = {
    "core_attn": Module(again=lambda op: op.kind.startswith("attention_core"), kept_bytes=_without_scores),
    "attention": Module(again=_within("attention"), kept_bytes=_its_input),
    "layernorm": Module(
        again=lambda op: op.kind in _NORMS and op.label.endswith(_BLOCK_NORMS),
        kept_bytes=lambda op: 0.0 if op.label.endswith(_FIRST) else op.saved_bytes,
    ),
    "mlp": Module(again=_within("ffn"), kept_bytes=_its_input),
    "moe": Module(again=_within("moe"), kept_bytes=_its_input),
    "moe_act": Module(
        again=lambda op: op.label.endswith("moe.experts.activation"),
        kept_bytes=lambda op: 0.0 if op.label.endswith("moe.experts.down") else op.saved_bytes,
    ),
    "shared_experts": Module(again=_within("moe.shared"), kept_bytes=lambda _: 0.0),
    "mla_up_proj": Module(
        again=lambda op: op.label.endswith((".attention.query", ".attention.kv", ".attention.rope")),
        kept_bytes=lambda op: op.output_bytes if op.kind == "attention_core" else op.saved_bytes,
    ),
}
"""Megatron-Core's ``--recompute-modules`` (megatron/core/transformer/transformer_config.py: a checkpointed module keeps
its input, ``layernorm``, ``moe_act`` and ``mla_up_proj`` discard their output). With flash attention ``core_attn``
keeps what it would keep anyway, since the projection after it reads the result."""

_READERS: Mapping[Selective, tuple[str, ...]] = {
    "layernorm": _FIRST,
    "moe_act": ("moe.experts.down",),
    "mla_up_proj": ("attention.core", "attention.window_core"),
}
"""Of modules that discard a result: the operations that would have kept it."""


def kept_results(ops: Sequence[Op], selective: Collection[Selective]) -> frozenset[str]:
    """Labels of a layer's operations whose results a policy keeps; none where no policy is among the words.

    ``op-list`` is torchtitan's: attention, and every second matrix product, the first among them
    (torchtitan/distributed/activation_checkpoint.py: ``_apply_op_sac``; products of experts are not in its list).
    """
    cores = {op.label for op in ops if op.in_layer and op.kind.startswith("attention_core")}
    products = [op.label for op in ops if op.in_layer and op.kind == "linear"]
    experts = {op.label for op in ops if op.in_layer and op.kind == "expert_linear"}
    if "op-list" in selective:
        return frozenset({*products[::2], *cores})
    if "products" in selective:
        return frozenset({*products, *experts, *cores})
    return frozenset({*products, *experts}) if "products-without-attention" in selective else frozenset()


def runs_again(ops: Sequence[Op], recompute: Recompute, selective: Collection[Selective]) -> frozenset[str]:
    """Labels of the operations that run again where recompute is on."""
    if recompute == "none":
        return frozenset()
    inside = [op for op in ops if op.in_layer]
    if recompute == "full" or not KEEPING.isdisjoint(selective):
        kept = kept_results(ops, selective) if recompute == "selective" else frozenset()
        return frozenset(op.label for op in inside if op.label not in kept)
    chosen = [_MODULES[word].again for word in selective]
    return frozenset(op.label for op in inside if any(again(op) for again in chosen))


def module_of(op: Op, selective: Sequence[Selective]) -> tuple[str, float]:
    """The module that brings back what an operation does not keep, and what it keeps; "" = it keeps all."""
    for word in selective:
        module = _MODULES[word]
        if op.label.endswith(_READERS[word]) if word in _READERS else module.again(op):
            kept_bytes = module.kept_bytes(op)
            if kept_bytes < op.saved_bytes:
                return word, kept_bytes
    return "", op.saved_bytes


def kept_of_layer(
    ops: Sequence[Op], recompute: Recompute, selective: Sequence[Selective], *, stream_bytes: float, compiled: bool
) -> float | None:
    """What is kept of a layer that runs again as a whole; None where it does not.

    Its input, and under a policy the results that it keeps; a compiler drops the last product's, which backward does
    not read, since it only goes into the next layer's input.
    """
    if recompute == "none" or (recompute == "selective" and KEEPING.isdisjoint(selective)):
        return None
    if recompute == "full":
        return stream_bytes
    kept = kept_results(ops, selective)
    found = [op for op in ops if op.label in kept]
    last = next((op for op in reversed(ops) if op.kind in PRODUCTS), None)
    return stream_bytes + sum(op.output_bytes for op in found if not (compiled and op is last))
