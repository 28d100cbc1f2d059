"""Which parameters does a model have? Every weight tensor with its shape; the counts are sums over this table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hwprof.count.blocks.captured import captured_tensors
from hwprof.count.blocks.layer_parameters import layer_tensors, linear, norm
from hwprof.count.ops.parameter_tensor import ParameterTensor
from hwprof.specs.job.labels import layer_kind
from hwprof.specs.model.spec import ModelSpec

__all__ = ["ENCODER", "MTP", "ParameterCount", "ParameterTensor", "mtp_stack", "parameter_tensors", "parameters"]

ENCODER = "encoder."
"""What the labels of an encoder-decoder's encoder begin with."""

MTP = "mtp."
"""What the labels of the layers for multi-token prediction begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCount:
    """Parameters by layer kind; a head that is tied to the embedding is counted there, once.

    ``active`` are those that one token meets: all but the experts that it is not sent to. The embedding table counts
    whole, as most model cards count it, though a token meets one row of it; ``active_non_embedding`` leaves out
    embedding and head.
    """

    total: int
    embedding: int
    attention: int
    ffn: int
    norm: int
    head: int
    other: int
    active: int

    @property
    def active_non_embedding(self) -> int:
        """Active parameters without token and position tables and the head: N of Kaplan et al. 2020."""
        return self.active - self.embedding - self.head


def parameter_tensors(spec: ModelSpec) -> tuple[ParameterTensor, ...]:
    """Every weight of the model, shapes as torch stores them ([out, in] for a linear layer)."""
    if spec.captured:
        return captured_tensors(spec.captured)
    return tuple(_stock_encoder_tensors(spec) if spec.stock_encoder else _model_tensors(spec))


def parameters(spec: ModelSpec) -> ParameterCount:
    """How many parameters the model has, by layer kind."""
    counts = dict.fromkeys(("embedding", "attention", "ffn", "norm", "head", "other"), 0)
    idle = 0
    for tensor in parameter_tensors(spec):
        kind = layer_kind(tensor.label)
        counts[kind if kind in counts else "other"] += tensor.total
        idle += tensor.idle
    total = sum(counts.values())
    return ParameterCount(total=total, active=total - idle, **counts)


def mtp_stack(spec: ModelSpec) -> ModelSpec:
    """The layers for multi-token prediction as a model of their own: those of the last layer's sort."""
    moe = spec.moe and spec.moe.changed(dense_layers=0, every=1)
    return spec.changed(layers=spec.mtp_layers, moe=moe, mtp_layers=0)


def _model_tensors(spec: ModelSpec) -> Iterator[ParameterTensor]:
    if spec.kind == "encoder_decoder":
        yield from (replace(tensor, label=ENCODER + tensor.label) for tensor in _encoder_side_tensors(spec))
    yield from _image_tensors(spec) if spec.vision else _token_tensors(spec)
    yield from _position_tensors(spec)
    if spec.embedding.norm:
        yield from norm(spec, "embedding_norm", 1)
    yield from layer_tensors(spec, cross=spec.kind == "encoder_decoder")
    if spec.final_norm:
        yield from norm(spec, "final_norm", 1)
    yield from _head_tensors(spec)
    if spec.mtp_layers:
        yield from (replace(tensor, label=MTP + tensor.label) for tensor in _mtp_tensors(spec))


def _encoder_side_tensors(spec: ModelSpec) -> Iterator[ParameterTensor]:
    side = spec.encoder_side
    if spec.encoder and spec.encoder.mel_bins:
        for label, inside in (("embedding.conv1", spec.encoder.mel_bins), ("embedding.conv2", spec.d_model)):
            yield ParameterTensor(label=label, shape=(spec.d_model, inside, 3))
            yield ParameterTensor(label=label, shape=(spec.d_model,))
    yield from _position_tensors(side)
    if side.embedding.norm:
        yield from norm(side, "embedding_norm", 1)
    yield from layer_tensors(side)
    if side.final_norm:
        yield from norm(side, "final_norm", 1)


def _token_tensors(spec: ModelSpec) -> Iterator[ParameterTensor]:
    size, d = spec.embedding.size or spec.d_model, spec.d_model
    yield ParameterTensor(label="embedding.tokens", shape=(spec.vocab_size, size))
    if spec.embedding.size:
        yield from linear("embedding.projection", d, size, 1, bias=False)
    if spec.embedding.token_types:
        yield ParameterTensor(label="embedding.token_types", shape=(spec.embedding.token_types, d))


def _image_tensors(spec: ModelSpec) -> Iterator[ParameterTensor]:
    image = spec.vision
    assert image is not None
    yield ParameterTensor(
        label="embedding.patches", shape=(spec.d_model, image.channels, image.patch_size, image.patch_size)
    )
    yield ParameterTensor(label="embedding.patches", shape=(spec.d_model,))
    if image.class_tokens:
        yield ParameterTensor(label="embedding.class_tokens", shape=(image.class_tokens, spec.d_model))


def _position_tensors(spec: ModelSpec) -> Iterator[ParameterTensor]:
    if spec.positions == "learned":
        rows = spec.max_seq_len + spec.embedding.extra_positions
        yield ParameterTensor(label="embedding.positions", shape=(rows, spec.d_model))
    elif spec.positions == "relative":
        yield ParameterTensor(label="embedding.relative_positions", shape=(spec.attention.relative_buckets, spec.heads))


def _head_tensors(spec: ModelSpec) -> Iterator[ParameterTensor]:
    d, size = spec.d_model, spec.embedding.size or spec.d_model
    if spec.head.pooler:
        yield from linear("pooler", d, d, 1, bias=True)
    if spec.head.kind == "none":
        return
    if spec.head.classes:
        yield from linear("head", spec.head.classes, d, 1, bias=spec.head.bias)
        return
    if spec.head.kind == "masked_lm":
        yield from linear("head.transform", d, d, 1, bias=True)
        yield from norm(spec, "head.norm", 1)
    if spec.embedding.size:
        yield from linear("head.projection", size, d, 1, bias=False)
    if not spec.tied_embeddings:
        yield from linear("head", spec.vocab_size, size, 1, bias=spec.head_bias)
    elif spec.head_bias:
        yield ParameterTensor(label="head", shape=(spec.vocab_size,))


def _mtp_tensors(spec: ModelSpec) -> Iterator[ParameterTensor]:
    """DeepSeek-V3, section 2.2: norms of both inputs, a projection of the two, a layer, a norm; the head is shared."""
    for label in ("token_norm", "state_norm", "final_norm"):
        yield from norm(spec, label, spec.mtp_layers)
    yield from linear("projection", spec.d_model, 2 * spec.d_model, spec.mtp_layers, bias=False)
    yield from layer_tensors(mtp_stack(spec))


def _stock_encoder_tensors(spec: ModelSpec) -> Iterator[ParameterTensor]:
    d, layers = spec.d_model, spec.layers
    yield ParameterTensor(label="embedding.tokens", shape=(spec.vocab_size, d))
    yield from linear("layers.*.self_attn.in_proj", 3 * d, d, layers, bias=True)
    yield from linear("layers.*.self_attn.out_proj", d, d, layers, bias=True)
    yield from norm(spec, "layers.*.norm1", layers)
    yield from linear("layers.*.linear1", spec.d_ff, d, layers, bias=True)
    yield from linear("layers.*.linear2", d, spec.d_ff, layers, bias=True)
    yield from norm(spec, "layers.*.norm2", layers)
    yield from linear("head", spec.vocab_size, d, 1, bias=spec.head_bias)
