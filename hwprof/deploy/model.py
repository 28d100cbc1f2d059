"""What of a model does serving need to know? Its layers by how tokens meet and by what feeds them forward."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from hwprof.count.blocks.parameters import parameter_tensors
from hwprof.errors import InputError
from hwprof.specs.model.spec import ModelSpec

MixingKind = Literal["heads", "latent", "linear"]
Norm = Literal["none", "head", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """Layers in which tokens meet in the same way.

    Attributes:
        layers: how many.
        kind: ``heads`` = keys and values of heads are cached; ``latent`` = one narrow vector of a token is (DeepSeek);
            ``linear`` = a state of fixed size is kept (gated delta rule).
        heads, kv_heads: of queries and keys; of ``linear`` layers those of values and keys.
        head_dim, value_dim: widths of a head's key and value.
        window: tokens that it looks back; 0 = all.
        chosen: tokens that an indexer picks; 0 = all.
        index_heads, index_dim: of the indexer; 0 where there is none.
        query_rank, latent_rank, rope_dim: of ``latent`` layers; a rank of 0 = queries are projected directly.
        gated: whether a gate as wide as the result multiplies it.
        norm: of queries and keys: of each head, or over all heads, which tensor ranks have to add up.
        held_bytes, held_numbers: what one layer keeps for each sequence whatever its length, where that was seen;
            0 = what its kind implies.
    """

    layers: int
    kind: MixingKind = "heads"
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    window: int = 0
    chosen: int = 0
    index_heads: int = 0
    index_dim: int = 0
    query_rank: int = 0
    latent_rank: int = 0
    rope_dim: int = 0
    gated: bool = False
    norm: Norm = "none"
    held_bytes: int = 0
    held_numbers: int = 0

    @property
    def cached_numbers(self) -> int:
        """Numbers that one layer keeps for each token."""
        if self.kind == "linear":
            return 0
        if self.kind == "latent":
            return self.latent_rank + self.rope_dim + self.index_dim
        return self.kv_heads * (self.head_dim + self.value_dim) + self.index_dim

    @property
    def state_bytes(self) -> int:
        """What one layer keeps for each sequence, whatever its length; in fp32 where it was not seen."""
        return self.held_bytes or 4 * self.state_numbers

    @property
    def state_numbers(self) -> int:
        """How many numbers that are."""
        if self.held_numbers:
            return self.held_numbers
        return self.heads * self.head_dim * self.value_dim if self.kind == "linear" else 0

    @property
    def query_width(self) -> int:
        """Width of all queries."""
        return self.heads * self.head_dim

    def weights(self, d_model: int) -> int:
        """Weights of one layer's projections."""
        out = self.heads * self.value_dim * d_model
        if self.kind == "linear":
            return d_model * (2 * self.kv_heads * self.head_dim + 2 * self.heads * self.value_dim) + out
        if self.kind == "latent":
            queries = self.query_rank * (d_model + self.query_width) if self.query_rank else d_model * self.query_width
            down = d_model * (self.latent_rank + self.rope_dim)
            up = self.latent_rank * self.heads * (self.head_dim - self.rope_dim + self.value_dim)
            index = self.index_heads * self.index_dim * (self.query_rank or d_model) + d_model * self.index_dim
            return queries + down + up + out + index
        keys = self.kv_heads * (self.head_dim + self.value_dim)
        return d_model * (self.query_width * (2 if self.gated else 1) + keys) + out


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """Layers with the same feed-forward network.

    Attributes:
        layers: how many.
        width: of the dense network, or of the experts that every token passes; 0 = there are none.
        experts, top_k, expert_width: of routed experts; 0 = there are none.
        matrices: of each network: 3 with a gate, 2 without.
    """

    layers: int
    width: int
    experts: int = 0
    top_k: int = 0
    expert_width: int = 0
    matrices: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Matrices [out, inside] of linear layers, ``count`` in all; ``dense``: of a feed-forward network."""

    out: int
    inside: int
    count: int
    dense: bool

    @property
    def weights(self) -> int:
        """Of all of them."""
        return self.out * self.inside * self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A decoder as serving sees it.

    Attributes:
        name: of the model.
        d_model, vocab: width of the stream, rows of the token table.
        mixing: layers by how tokens meet.
        feed: layers by their feed-forward network; as many in all.
        tied: whether the head is the token table.
        table_width: of token vectors, where it is not d_model; 0 = it is.
        drafts: layers that predict tokens further ahead, which speculative decoding can use.
        matrices: of layers, where the model was captured, in place of those that ``mixing`` and ``feed`` imply.
        other_weights: that are held, and not multiplied.
        assumptions: in words, what the model's file does not say or what serving leaves out.
    """

    name: str
    d_model: int
    vocab: int
    mixing: tuple[Mixing, ...]
    feed: tuple[Feed, ...]
    tied: bool = False
    table_width: int = 0
    drafts: int = 0
    matrices: tuple[Matrix, ...] = ()
    other_weights: int = 0
    assumptions: tuple[str, ...] = ()

    @property
    def layers(self) -> int:
        """Number of layers."""
        return sum(one.layers for one in self.mixing)

    @property
    def sparse(self) -> bool:
        """Whether there are routed experts."""
        return any(one.experts for one in self.feed)

    @property
    def mixing_weights(self) -> int:
        """Weights of all projections around attention."""
        if self.matrices:
            return sum(one.weights for one in self.matrices if not one.dense)
        return sum(one.layers * one.weights(self.d_model) for one in self.mixing)

    @property
    def dense_weights(self) -> int:
        """Weights of dense feed-forward networks and of experts that every token passes."""
        if self.matrices:
            return sum(one.weights for one in self.matrices if one.dense)
        return sum(one.layers * one.matrices * one.width * self.d_model for one in self.feed)

    @property
    def expert_weights(self) -> int:
        """Weights of all routed experts."""
        return sum(one.layers * one.matrices * one.experts * one.expert_width * self.d_model for one in self.feed)

    @property
    def table_weights(self) -> int:
        """Weights of the token table and the head."""
        return (1 if self.tied else 2) * self.vocab * (self.table_width or self.d_model)

    @property
    def parameters(self) -> int:
        """All of them, but for norms and biases."""
        sums = (self.mixing_weights, self.dense_weights, self.expert_weights, self.table_weights, self.other_weights)
        return sum(sums)

    def beside(self, weights: int) -> ServedModel:
        """The same with so many weights that are held alone."""
        return replace(self, other_weights=max(weights, 0))


def served_model(spec: ModelSpec) -> ServedModel:
    """What serving needs to know of a model of the catalogue.

    Raises:
        InputError: it generates no tokens, or reads an encoder's result.
    """
    if spec.kind != "decoder":
        raise InputError(
            f"{spec.name} is of kind {spec.kind!r}",
            expectation="a server predicts tokens with a decoder",
            remedy="`hwprof count --inference` counts the passes of other models",
        )
    whole = _mixing(spec, spec.layers - spec.window_layers, 0)
    window = spec.attention.window
    local = _mixing(spec, spec.window_layers, window.tokens if window else 0)
    moe, matrices = spec.moe, 3 if spec.gated else 2
    feed = [Feed(layers=spec.layers - spec.moe_layers, width=spec.d_ff, matrices=matrices)]
    if moe:
        feed.append(
            Feed(
                layers=spec.moe_layers,
                width=moe.shared_ff,
                experts=moe.experts,
                top_k=moe.top_k,
                expert_width=moe.expert_ff,
                matrices=matrices,
            )
        )
    found = ServedModel(
        name=spec.name,
        d_model=spec.d_model,
        vocab=spec.vocab_size,
        mixing=tuple(one for one in (whole, local) if one.layers),
        feed=tuple(one for one in feed if one.layers),
        tied=spec.tied_embeddings,
        table_width=spec.embedding.size or 0,
        drafts=spec.mtp_layers,
    )
    counted = sum(tensor.elements * tensor.repeats for tensor in parameter_tensors(spec) if "mtp" not in tensor.label)
    if abs(found.parameters / counted - 1) > MOST_UNSEEN:
        raise InputError(
            f"{spec.name} has {counted:,} parameters, of which serving sees {found.parameters:,}",
            expectation="a decoder of attention and feed-forward networks",
            remedy="give its config.json, where states and indexers are read",
        )
    return found


MOST_UNSEEN = 0.05
"""Norms, biases and positions are so small a part of the parameters; what is more is a kind of layer not known here."""


def _mixing(spec: ModelSpec, layers: int, window: int) -> Mixing:
    mla = spec.mla
    return Mixing(
        layers=layers,
        kind="latent" if mla else "heads",
        heads=spec.heads,
        kv_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        value_dim=spec.value_dim,
        window=window,
        query_rank=mla.q_lora_rank if mla else 0,
        latent_rank=mla.kv_lora_rank if mla else 0,
        rope_dim=mla.rope_dim if mla else 0,
        norm="full" if spec.attention.qk_norm == "full" else "none" if spec.attention.qk_norm == "none" else "head",
    )
