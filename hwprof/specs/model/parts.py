"""Which parts can a Transformer have beside dense layers of full attention? One small record for each."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hwprof.specs.frozen import Record

PositiveInt = Annotated[int, Field(gt=0, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Activation = Literal["gelu", "relu", "relu2", "silu"]
"""``relu2`` is the square of relu (So et al. 2021)."""
Positions = Literal["learned", "rope", "none", "alibi", "sinusoidal", "relative"]


class WindowSpec(Record):
    """Attention of some layers to a part of what stands before a token; the other layers attend to all of it.

    Attributes:
        tokens: how many tokens, itself among them; of an encoder as many on each side.
        layers: in how many of the layers.
        kind: ``sliding`` = the last ``tokens``; ``chunked`` = those of the token's own chunk of ``tokens``.
    """

    tokens: PositiveInt
    layers: PositiveInt
    kind: Literal["sliding", "chunked"] = "sliding"


class AttentionSpec(Record):
    """What attention has beside query, key, value and output projections.

    Attributes:
        qk_norm: a norm of queries and keys: over each head with one shared gain (``head``), over all heads (``full``),
            or over each head without a gain (``unweighted``).
        window: local attention in some layers.
        softcap: scores are capped with a tanh (Gemma 2).
        sinks: a learned logit a head joins each softmax (gpt-oss).
        rope_fraction: share of a head's width that rotary positions turn.
        nope_layers: how many layers leave rotary positions out.
        relative_buckets: rows of the table of relative position biases, one table for all layers (T5).
    """

    qk_norm: Literal["none", "head", "full", "unweighted"] = "none"
    window: WindowSpec | None = None
    softcap: bool = False
    sinks: bool = False
    rope_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    nope_layers: Count = 0
    relative_buckets: Count = 0


class EmbeddingSpec(Record):
    """What the embedding has beside token vectors and positions.

    Attributes:
        size: width of the token vectors where it is not d_model; projections lead to d_model, and back to the head.
        norm: a norm follows.
        token_types: rows of a table of segment vectors (BERT).
        extra_positions: rows of the table of learned positions beyond ``max_seq_len`` (2 in OPT and BART).
    """

    size: PositiveInt | None = None
    norm: bool = False
    token_types: Count = 0
    extra_positions: Count = 0


class HeadSpec(Record):
    """What follows the last layer.

    Attributes:
        kind: ``linear`` = logits of the vocabulary for every token; ``masked_lm`` = the same after a dense layer, an
            activation and a norm (BERT); ``classifier`` = logits of ``classes`` for the first token;
            ``token_classifier`` = for every token (classes of tokens, spans of answers; decoders score a sequence so);
            ``none``.
        classes: outputs of a classifier.
        bias: whether a classifier has one.
        pooler: a dense layer with tanh on the first token.
        softcap: logits are capped with a tanh (Gemma 2).
    """

    kind: Literal["linear", "masked_lm", "classifier", "token_classifier", "none"] = "linear"
    classes: Count = 0
    bias: bool = True
    pooler: bool = False
    softcap: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind.endswith("classifier") != (self.classes > 0):
            raise ValueError(f"classes = {self.classes}, but the head is of kind {self.kind!r}")
        return self


class MoeSpec(Record):
    """Mixture of experts in place of the feed-forward network: each token passes ``top_k`` of ``experts``.

    Layer i (from 0) has experts if i >= ``dense_layers`` and i + 1 is a multiple of ``every``; the other layers have
    the dense network of width ``d_ff``. Experts have the activation and the gate of the dense network.

    Attributes:
        experts: routed experts of a layer.
        top_k: how many of them a token passes.
        expert_ff: width of one.
        shared_ff: width of the experts that every token passes, all together; 0 = there are none.
        shared_gate: their result is multiplied by a sigmoid of a linear layer with one output (Qwen-MoE).
        dense_layers: first layers without experts.
        every: experts in every so many layers.
        router_bias: a number an expert that helps to choose: ``parameter``, or ``buffer`` that is no parameter.
        expert_bias: the experts' products have biases.
        groups: into which the router divides the experts (DeepSeek-V3, Liu et al. 2024, section 2.1.2).
        top_groups: from how many of them the experts of a token come.
    """

    experts: PositiveInt
    top_k: PositiveInt
    expert_ff: PositiveInt
    shared_ff: Count = 0
    shared_gate: bool = False
    dense_layers: Count = 0
    every: PositiveInt = 1
    router_bias: Literal["none", "parameter", "buffer"] = "none"
    expert_bias: bool = False
    groups: PositiveInt = 1
    top_groups: PositiveInt = 1

    def layers_of(self, layers: int) -> int:
        """How many of ``layers`` layers have experts."""
        return max(0, layers // self.every - self.dense_layers // self.every)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.top_k > self.experts:
            raise ValueError(f"top_k = {self.top_k} is more than experts = {self.experts}")
        if self.top_groups > self.groups:
            raise ValueError(f"top_groups = {self.top_groups} is more than groups = {self.groups}")
        if self.shared_gate and not self.shared_ff:
            raise ValueError("shared_gate is set, but there are no shared experts (shared_ff = 0)")
        return self


class MlaSpec(Record):
    """Multi-head latent attention (DeepSeek-V2, Liu et al. 2024): keys and values are spanned by a narrow vector.

    Attributes:
        q_lora_rank: width of the narrow query vector; 0 = queries are projected directly.
        kv_lora_rank: width of the narrow vector of keys and values.
        nope_dim: width of the part of a head's query and key without positions.
        rope_dim: width of the part with rotary positions; the keys' is shared by all heads.
        value_dim: width of a head's value.
    """

    q_lora_rank: Count
    kv_lora_rank: PositiveInt
    nope_dim: PositiveInt
    rope_dim: PositiveInt
    value_dim: PositiveInt


class EncoderSideSpec(Record):
    """The encoder of an encoder-decoder; what is not said here is as in the decoder.

    It shares the token vectors of the decoder, or has a stem of two convolutions over a spectrogram (Whisper).

    Attributes:
        layers: its layers.
        d_ff: width of its feed-forward network.
        heads: its attention heads, each ``d_model / heads`` wide unless equal to the decoder's.
        max_seq_len: the positions that it has.
        positions: how it tells positions apart.
        final_norm: whether a norm follows its last layer.
        mel_bins: channels of the spectrogram; 0 = it reads tokens.
    """

    layers: PositiveInt
    d_ff: PositiveInt | None = None
    heads: PositiveInt | None = None
    max_seq_len: PositiveInt | None = None
    positions: Positions | None = None
    final_norm: bool | None = None
    mel_bins: Count = 0


class VisionSpec(Record):
    """The image of a vision Transformer: square, cut into square patches.

    Attributes:
        image_size: pixels along an edge.
        patch_size: pixels along the edge of a patch.
        channels: colours of a pixel.
        class_tokens: learned vectors before those of the patches.
    """

    image_size: PositiveInt
    patch_size: PositiveInt
    channels: PositiveInt = 3
    class_tokens: Count = 1

    @property
    def patches(self) -> int:
        """Patches of an image; what is left over at its edges is cut off."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def tokens(self) -> int:
        """Length of the sequence that an image becomes."""
        return self.patches + self.class_tokens

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.patch_size > self.image_size:
            raise ValueError(f"patch_size = {self.patch_size} is more than image_size = {self.image_size}")
        return self
