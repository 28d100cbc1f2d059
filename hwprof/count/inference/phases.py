"""Which operations does inference run? A forward pass over a prompt, and one over a new token of each sequence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from hwprof.count.blocks.attention import BIAS_FLOP
from hwprof.count.blocks.graph import Graph
from hwprof.count.blocks.parameters import ENCODER
from hwprof.count.blocks.transformer import AttentionConvention, model_ops
from hwprof.count.inference import ops as _registers_ops  # noqa: F401 (enters its kinds into the op table)
from hwprof.count.inference.cache import Keys, kept_features
from hwprof.count.inference.serving import Serving, check_lengths, served
from hwprof.count.inference.weights import Weights
from hwprof.count.ops.cost import Cost
from hwprof.count.ops.operation import Op
from hwprof.count.ops.position import TANH_FLOP
from hwprof.specs.model.parts import MlaSpec
from hwprof.specs.model.spec import ModelSpec

_PRODUCTS = frozenset({"linear", "expert_linear", "absorbed_projection"})
"""Op kinds whose weights are read as they are stored."""

_CORES = {"layers.*.attention.core": "cache", "layers.*.attention.window_core": "window_cache"}
"""Label of a core of self-attention -> the name of what adds to its cache."""

_OF_THE_SOURCE = ("cross_attention.key", "cross_attention.value", "cross_attention.key_norm")
"""Ends of labels of what is done once with the encoder's result, and then read from the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Sequences that one model serves together.

    Attributes:
        spec: the model, as inference runs it (see ``inference_serving.served``).
        size: sequences.
        serving: widths of the numbers.
        source_tokens: what the encoder of an encoder-decoder has read of each sequence; else 0.
    """

    spec: ModelSpec
    size: int
    serving: Serving
    source_tokens: int = 0


def prefill_ops(
    spec: ModelSpec,
    *,
    batch_size: int,
    prompt_tokens: int,
    serving: Serving,
    attention: AttentionConvention = "full",
    source_tokens: int = 0,
    all_logits: bool = False,
) -> tuple[Op, ...]:
    """The forward pass over whole prompts, which fills the cache; of an encoder, its only pass.

    Latent attention computes keys and values of all heads here, whatever is cached. Cost of one instance each, as
    ``model_ops``; there is no backward pass.

    Args:
        spec: the model.
        batch_size: sequences.
        prompt_tokens: of each; in an encoder-decoder those of the decoder (one start token in T5).
        serving: widths of the numbers.
        attention: whether to count all attention products or those of the causal triangle.
        source_tokens: of each sequence, for the encoder of an encoder-decoder.
        all_logits: logits of every token of a decoder (to score a text), not of the last alone.

    Raises:
        InputError: no tokens, more than there are learned positions, a source that is missing or too much.
    """
    check_lengths(spec, batch_size=batch_size, tokens=prompt_tokens, source_tokens=source_tokens)
    batch = Batch(spec=served(spec), size=batch_size, serving=serving, source_tokens=source_tokens)
    ops = _forward(batch, prompt_tokens, attention)
    if spec.causal and not all_logits:
        last = {op.label: op for op in _forward(batch, 1, attention) if op.label.startswith("head")}
        ops = tuple(last.get(op.label, op) for op in ops)
    weights, tokens = Weights.of(batch.spec, serving), batch_size * prompt_tokens
    return tuple(_priced(op, weights, tokens) for op in _with_caches(batch, ops, prompt_tokens))


def step_ops(batch: Batch, keys: Keys) -> tuple[Op, ...]:
    """A decode step whose tokens attend to so many keys; every cost is linear in both numbers of keys."""
    weights = Weights.of(batch.spec, batch.serving)
    ops = _forward(batch, 1, "full")
    parameters = {op.label: op.parameters for op in ops}
    rows = (row for op in ops for row in _decoded(batch, op, keys))
    with_parameters = (replace(row, parameters=parameters.get(row.label, 0)) for row in rows)
    return tuple(_priced(row, weights, batch.size) for row in with_parameters)


def _forward(batch: Batch, tokens: int, attention: AttentionConvention) -> tuple[Op, ...]:
    source = batch.source_tokens
    return model_ops(
        batch.spec,
        batch_size=batch.size,
        seq_len=source or tokens,
        target_len=tokens if source else None,
        precision=batch.serving.execution.precision,
        attention=attention,
    )


def _priced(op: Op, weights: Weights, tokens: int) -> Op:
    """The op as inference pays for it: no backward pass, nothing kept, weights read as they are stored.

    Weights that are stored narrower take one more operation each, the product with their scale.
    """
    forward = op.forward
    if op.kind in _PRODUCTS:
        read = weights.read_by(op, tokens=tokens)
        forward = Cost(
            matmul_flop=forward.matmul_flop,
            vector_flop=forward.vector_flop + read.widened,
            read_bytes=op.input_bytes + read.size_bytes,
            write_bytes=op.output_bytes,
        )
    return replace(op, forward=forward, backward=Cost.ZERO, saved_bytes=0, weight_copy_bytes=0)


def _graph(batch: Batch) -> Graph:
    """One new token of each sequence, for ops without weights."""
    return Graph(spec=batch.spec, batch=batch.size, seq_len=1, how=batch.serving.execution)


def _with_caches(batch: Batch, ops: tuple[Op, ...], prompt_tokens: int) -> Iterator[Op]:
    """The ops of a prefill, each core after what fills its cache: of a window's layers no more than the window."""
    window = batch.spec.attention.window
    for op in ops:
        if op.label in _CORES and batch.spec.causal:
            kept = min(prompt_tokens, window.tokens) if window and "window" in op.label else prompt_tokens
            yield _append(batch, f"layers.*.attention.{_CORES[op.label]}", op.repeats, kept)
        elif op.label == "layers.*.cross_attention.core":
            yield _append(batch, "layers.*.cross_attention.cache", op.repeats, batch.source_tokens)
        yield op


def _append(batch: Batch, label: str, repeats: int, tokens: int) -> Op:
    features = kept_features(batch.spec, batch.serving.mla)
    shapes = {"tokens": batch.size * tokens, "features": features, "cache_bytes": batch.serving.cache_bytes}
    return _graph(batch).op(label, "cache_append", repeats=repeats, **shapes)


def _decoded(batch: Batch, op: Op, keys: Keys) -> Iterator[Op]:
    """What stands in a decode step for an op of a forward pass over one token."""
    spec = batch.spec
    if op.label.startswith(ENCODER) or op.label.endswith(_OF_THE_SOURCE):
        return
    if op.label in _CORES:
        yield _append(batch, f"layers.*.attention.{_CORES[op.label]}", op.repeats, 1)
        yield _core(batch, op, keys.window if "window" in op.label else keys.full)
    elif op.label == "layers.*.cross_attention.core":
        yield _core(batch, op, batch.source_tokens)
    elif op.label == "layers.*.attention.kv" and spec.mla:
        yield _latent_product(batch, spec.mla, op, keys.full)
    elif op.kind == "relative_bias":
        shapes = {"queries": 1, "keys": keys.full, "heads": spec.heads, "buckets": spec.attention.relative_buckets}
        yield _graph(batch).op(op.label, op.kind, repeats=op.repeats, **shapes)
    else:
        yield op


def _core(batch: Batch, op: Op, keys: int) -> Op:
    own = BIAS_FLOP.get(batch.spec.positions, 0) if "cross" not in op.label else 0
    extra = own + TANH_FLOP * batch.spec.attention.softcap
    shapes = {"batch": batch.size, "keys": keys, "heads": batch.spec.heads, "extra_score_flop": extra}
    return _graph(batch).op(op.label, "cached_attention_core", repeats=op.repeats, **shapes, **_widths(batch))


def _widths(batch: Batch) -> dict[str, Any]:
    """Widths of a head's query and result, and bytes of a key with its value."""
    spec, mla, cache_bytes = batch.spec, batch.spec.mla, batch.serving.cache_bytes
    key_bytes = kept_features(spec, batch.serving.mla) * cache_bytes
    if mla and batch.serving.mla == "absorbed":
        rank = mla.kv_lora_rank
        return {"key_dim": rank + mla.rope_dim, "value_dim": rank, "key_bytes": key_bytes}
    if mla and batch.serving.mla == "reexpanded":
        expanded = spec.heads * (mla.nope_dim + mla.value_dim) * batch.serving.compute_bytes
        key_bytes = expanded + mla.rope_dim * cache_bytes
    return {"key_dim": spec.head_dim, "value_dim": spec.value_dim, "key_bytes": key_bytes}


def _latent_product(batch: Batch, mla: MlaSpec, op: Op, keys: int) -> Op:
    """The product with the weight that spans keys and values: with queries, or with latents of one or of all tokens."""
    form, spec = batch.serving.mla, batch.spec
    if form == "naive":
        return op
    shapes: dict[str, Any] = {"repeats": op.repeats}
    if form == "absorbed":
        widths = {"latent_dim": mla.kv_lora_rank, "key_dim": mla.nope_dim, "value_dim": mla.value_dim}
        shapes |= widths | {"tokens": batch.size, "heads": spec.heads}
        return _graph(batch).op(op.label, "absorbed_projection", **shapes)
    spanned = spec.heads * (mla.nope_dim + mla.value_dim)
    shapes |= {"tokens": batch.size * keys, "input_bytes": batch.serving.cache_bytes}
    return _graph(batch).linear(op.label, mla.kv_lora_rank, spanned, bias=False, **shapes)
