"""What is a Transformer, in numbers?"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hwprof.specs.record import Record

PositiveInt = Annotated[int, Field(gt=0, strict=True)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class ModelSpec(Record):
    """Dimensions of one Transformer, as its paper or its released configuration states them.

    ``decoder`` is the causal language model of ``hwprof.train.decoder``; ``encoder`` is a stack of stock
    ``torch.nn.TransformerEncoderLayer`` between an embedding and a linear head.
    """

    name: str = Field(min_length=1)
    family: str = ""
    aliases: tuple[str, ...] = ()
    kind: Literal["decoder", "encoder"]
    layers: PositiveInt
    d_model: PositiveInt
    d_ff: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    head_dim: PositiveInt
    vocab_size: PositiveInt
    max_seq_len: PositiveInt
    activation: Literal["gelu", "relu", "silu"]
    gated: bool
    norm: Literal["layernorm", "rmsnorm"]
    norm_placement: Literal["pre", "post"]
    final_norm: bool
    positions: Literal["learned", "rope", "none"]
    rope_theta: Annotated[float, Field(gt=0)] = 10_000.0
    tied_embeddings: bool
    attention_bias: Literal["none", "qkv", "all"]
    mlp_bias: bool
    head_bias: bool = False
    dropout: Fraction = 0.0
    stated_parameters: PositiveInt | None = None
    notes: str = ""
    source: dict[str, str] = Field(min_length=1)

    @property
    def causal(self) -> bool:
        """Whether a token attends only to itself and to what stands before it."""
        return self.kind == "decoder"

    @property
    def q_dim(self) -> int:
        """Width of the query projection: heads x head_dim."""
        return self.heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Width of the key projection, and of the value projection: kv_heads x head_dim."""
        return self.kv_heads * self.head_dim

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads = {self.heads} must be a multiple of kv_heads = {self.kv_heads}")
        if self.positions == "rope" and self.head_dim % 2:
            raise ValueError(f"head_dim = {self.head_dim} must be even for rope")
        if self.kind == "encoder":
            self._check_stock_encoder()
        return self

    def _check_stock_encoder(self) -> None:
        stock = {
            "kv_heads": self.heads,
            "head_dim": self.d_model // self.heads,
            "norm": "layernorm",
            "norm_placement": "post",
            "gated": False,
            "attention_bias": "all",
            "mlp_bias": True,
            "final_norm": False,
            "positions": "none",
            "tied_embeddings": False,
        }
        for key, value in stock.items():
            if getattr(self, key) != value:
                raise ValueError(
                    f"{key} = {getattr(self, key)!r}, but a stock nn.TransformerEncoderLayer stack has {value!r}"
                )
