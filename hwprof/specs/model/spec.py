"""What is a Transformer, in numbers?"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hwprof.specs.frozen import Record
from hwprof.specs.model.captured import CapturedModel
from hwprof.specs.model.mixing import Mixing, mixing_of
from hwprof.specs.model.parts import (
    Activation,
    AttentionSpec,
    Count,
    EmbeddingSpec,
    EncoderSideSpec,
    Fraction,
    HeadSpec,
    MlaSpec,
    MoeSpec,
    Positions,
    PositiveInt,
    VisionSpec,
)
from hwprof.specs.model.sharing import undivided

__all__ = ["ModelSpec", "PositiveInt"]

_SPLIT = frozenset({"learned", "none", "sinusoidal"})
"""Positions of encoders whose heads split their width, as in ``nn.MultiheadAttention``; T5's have their own."""

_STOCK_ENCODER = {
    "norm": "layernorm",
    "norm_placement": "post",
    "norm_weights": "all",
    "block": "sequential",
    "gated": False,
    "attention_bias": "all",
    "mlp_bias": True,
    "final_norm": False,
    "positions": "none",
    "tied_embeddings": False,
    "attention": AttentionSpec(),
    "embedding": EmbeddingSpec(),
    "head": HeadSpec(),
    "moe": None,
    "mla": None,
}


class ModelSpec(Record):
    """Dimensions of one Transformer, as its paper or its released configuration states them.

    The flat fields describe a dense decoder, or whatever else is of the shape; the records hold what fewer models have.
    In an ``encoder_decoder`` they describe the decoder, and ``encoder`` says in what the encoder differs.

    Attributes:
        name: of the catalogue.
        family: the models that it belongs to.
        aliases: other names of the catalogue.
        kind: ``decoder`` = causal language model; ``encoder`` = the same with attention both ways; ``vit`` = an encoder
            of image patches.
        layers: number of layers.
        d_model: width of the residual stream.
        d_ff: width of the dense feed-forward network.
        heads: query heads.
        kv_heads: key and value heads.
        head_dim: width of a head's query and key.
        vocab_size: rows of the token table; 0 in a ``vit``.
        max_seq_len: positions that it was made for.
        activation: of the feed-forward network; ``gelu`` in any of its approximations.
        gated: whether the feed-forward network multiplies the activation by a second projection.
        norm: kind of norm.
        norm_weights: ``all`` = gain, and for layernorm bias; ``gain``; ``none``.
        norm_placement: ``pre`` = before each block; ``post`` = after each residual sum; ``sandwich`` = before and after
            each block (Gemma 2); ``output`` = after each block, before the residual sum (OLMo 2).
        block: ``sequential``; ``parallel`` = attention and feed-forward network read the same stream, each through its
            norm (GPT-NeoX); ``parallel_shared_norm`` = through one norm (Falcon 7B, Phi, PaLM).
        final_norm: whether a norm follows the last layer.
        positions: how it tells positions apart.
        rope_theta: base of rotary positions.
        tied_embeddings: whether the head's weight is the token table.
        attention_bias: which projections have biases: ``qkv``, ``qvo`` (not the key) or ``all``.
        mlp_bias: whether the dense feed-forward network has biases.
        head_bias: whether the head has one.
        dropout: share of elements that dropout sets to zero.
        attention: what attention has beside its projections.
        embedding: what the embedding has beside token vectors and positions.
        head: what follows the last layer.
        moe: mixture of experts.
        mla: latent attention.
        mtp_layers: further layers with a prediction of their own, each of one more token ahead (DeepSeek-V3).
        encoder: the encoder of an encoder-decoder.
        vision: the image of a ``vit``.
        captured: what was seen of a model that nobody described; then this decides every count, and the other fields
            serve estimates alone.
        stated_parameters: as published.
        stated_active_parameters: as published, of those that a token meets.
        notes: what the numbers do not say.
        source: where each number was read.
    """

    name: str = Field(min_length=1)
    family: str = ""
    aliases: tuple[str, ...] = ()
    kind: Literal["decoder", "encoder", "encoder_decoder", "vit"]
    layers: Annotated[int, Field(gt=0, le=10_000, strict=True)]
    d_model: PositiveInt
    d_ff: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    head_dim: PositiveInt
    vocab_size: Count
    max_seq_len: PositiveInt
    activation: Activation
    gated: bool
    norm: Literal["layernorm", "rmsnorm"]
    norm_weights: Literal["all", "gain", "none"] = "all"
    norm_placement: Literal["pre", "post", "sandwich", "output"]
    block: Literal["sequential", "parallel", "parallel_shared_norm"] = "sequential"
    final_norm: bool
    positions: Positions
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    tied_embeddings: bool
    attention_bias: Literal["none", "qkv", "qvo", "all"]
    mlp_bias: bool
    head_bias: bool = False
    dropout: Fraction = 0.0
    attention: AttentionSpec = AttentionSpec()
    embedding: EmbeddingSpec = EmbeddingSpec()
    head: HeadSpec = HeadSpec()
    moe: MoeSpec | None = None
    mla: MlaSpec | None = None
    mtp_layers: Count = 0
    encoder: EncoderSideSpec | None = None
    vision: VisionSpec | None = None
    captured: CapturedModel | None = None
    stated_parameters: PositiveInt | None = None
    stated_active_parameters: PositiveInt | None = None
    notes: str = ""
    source: dict[str, str] = Field(min_length=1)

    def __hash__(self) -> int:
        """Counts of a model are cached by its value; sources, a dictionary, take no part."""
        return hash((self.name, self.kind, self.layers, self.d_model, self.d_ff, self.heads, self.vocab_size))

    @property
    def causal(self) -> bool:
        """Whether a token attends only to itself and to what stands before it."""
        return self.kind in {"decoder", "encoder_decoder"}

    @property
    def two_sided(self) -> bool:
        """Whether it has a source and a target."""
        if self.captured:
            return self.captured.shots[0].target_len is not None
        return self.kind == "encoder_decoder"

    def undivided(self, *, tensor: int = 1, context: int = 1) -> str:
        """Why tensor or context ranks can't share a model that was captured; empty where they can."""
        if self.captured is None:
            return ""
        if context > 1 and not self.mixing:
            return f"how ranks share a sequence of {self.captured.by} (context parallel {context}) is not known"
        if tensor > 1 and not self.captured.tensor_plan:
            return f"how ranks share layers of {self.captured.by} (tensor parallel {tensor}) is not known"
        return undivided(self.captured, tensor)

    @property
    def whole_heads(self) -> tuple[int, int]:
        """Heads of queries, and of keys and values, that tensor ranks share out; 0 where no layer has any."""
        if self.captured and self.heads == 1 and self.mixing and not self.mixing.attention_share:
            return 0, 0  # a state space by channels
        return self.heads, self.kv_heads

    @property
    def mixing(self) -> Mixing:
        """What context ranks of a captured model tell each other."""
        assert self.captured
        return mixing_of(self.captured, layers=self.layers, d_model=self.d_model)

    @property
    def routed(self) -> tuple[int, int, int]:
        """How many routed experts a layer has, how many a token meets, and how many layers have some; 1, 0, 0: none."""
        if self.captured:
            return self.captured.routed
        return (self.moe.experts, self.moe.top_k, self.moe_layers) if self.moe else (1, 0, 0)

    @property
    def pipeline_places(self) -> int:
        """The most pieces that a pipeline can cut it into: the embedding and the head may each stand for a layer."""
        return self.layers + 2

    @property
    def q_dim(self) -> int:
        """Width of the query projection: heads x head_dim."""
        return self.heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Width of the key projection, and of the value projection: kv_heads x head_dim."""
        return self.kv_heads * self.head_dim

    @property
    def value_dim(self) -> int:
        """Width of a head's value."""
        return self.head_dim if self.mla is None else self.mla.value_dim

    @property
    def moe_layers(self) -> int:
        """How many layers have experts."""
        return 0 if self.moe is None else self.moe.layers_of(self.layers)

    @property
    def window_layers(self) -> int:
        """How many layers attend to a window only."""
        return 0 if self.attention.window is None else self.attention.window.layers

    @property
    def stock_encoder(self) -> bool:
        """Whether it is an embedding, a stack of stock ``torch.nn.TransformerEncoderLayer`` and a linear head."""
        stock = _STOCK_ENCODER | {"kv_heads": self.heads, "head_dim": self.d_model // self.heads}
        return (
            self.kind == "encoder"
            and self.q_dim == self.d_model
            and all(getattr(self, key) == value for key, value in stock.items())
        )

    @property
    def encoder_side(self) -> ModelSpec:
        """The encoder of an encoder-decoder as a model of its own, without a head."""
        side = self.encoder
        assert side is not None
        heads = side.heads or self.heads
        own = {name: value for name, value in side if name != "mel_bins" and value is not None}
        widths = {"heads": heads, "kv_heads": heads, "head_dim": self.d_model // heads} if side.heads else {}
        changes = {"kind": "encoder", "head": HeadSpec(kind="none"), "encoder": None, "tied_embeddings": True}
        return self.changed(**(own | widths | changes))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check_attention()
        self._check_layers()
        if (self.kind == "encoder_decoder") != (self.encoder is not None):
            raise ValueError(f"kind = {self.kind!r}, but there is {'an' if self.encoder else 'no'} [encoder] table")
        if (self.kind == "vit") != (self.vision is not None):
            raise ValueError(f"kind = {self.kind!r}, but there is {'a' if self.vision else 'no'} [vision] table")
        if self.vision is not None:
            self._check_vision(self.vision)
        elif not self.vocab_size and not self.captured:
            raise ValueError("vocab_size = 0, but the model reads tokens")
        return self

    def _check_attention(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads = {self.heads} must be a multiple of kv_heads = {self.kv_heads}")
        if self.kind in {"encoder", "vit"} and self.positions in _SPLIT and self.q_dim != self.d_model:
            raise ValueError(
                f"heads x head_dim = {self.heads} x {self.head_dim} must be d_model = {self.d_model}: the heads of an "
                f"encoder with positions {self.positions!r} split its width"
            )
        if self.positions == "rope" and self.head_dim % 2:
            raise ValueError(f"head_dim = {self.head_dim} must be even for rope")
        if (self.positions == "relative") != (self.attention.relative_buckets > 0):
            raise ValueError(
                f"positions = {self.positions!r}, but relative_buckets = {self.attention.relative_buckets}"
            )
        if self.mla is not None and self.head_dim != self.mla.nope_dim + self.mla.rope_dim:
            raise ValueError(f"head_dim = {self.head_dim} must be nope_dim + rope_dim of [mla]")
        if self.mla is not None and self.kv_heads != self.heads:
            raise ValueError(f"kv_heads = {self.kv_heads} must be heads = {self.heads} with [mla]")

    def _check_layers(self) -> None:
        for name, number in (("window.layers", self.window_layers), ("nope_layers", self.attention.nope_layers)):
            if number > self.layers:
                raise ValueError(f"attention.{name} = {number} is more than layers = {self.layers}")
        if self.moe is not None and not self.moe_layers:
            raise ValueError(f"no layer has experts: dense_layers and every of [moe] leave none of {self.layers}")
        if self.block != "sequential" and self.norm_placement != "pre":
            raise ValueError(f"block = {self.block!r} goes with norm_placement 'pre', not {self.norm_placement!r}")
        if self.mtp_layers and self.kind != "decoder":
            raise ValueError(f"mtp_layers = {self.mtp_layers}, but only a decoder has them")

    def _check_vision(self, vision: VisionSpec) -> None:
        if self.max_seq_len != vision.tokens:
            raise ValueError(f"max_seq_len = {self.max_seq_len}, but an image has {vision.tokens} tokens")
        if self.head.kind not in {"classifier", "none"} or self.vocab_size:
            raise ValueError("a vit has no vocabulary: its head is of kind 'classifier' or 'none', vocab_size = 0")
