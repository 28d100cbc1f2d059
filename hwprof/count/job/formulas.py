"""What do the published formulas say of a step's FLOP, and why do they differ from the exact count?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hwprof.count.blocks.parameters import parameters
from hwprof.specs.job.settings import RunSettings
from hwprof.specs.model.spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A published estimate of training FLOP, for the same tokens as the exact count.

    Attributes:
        name: what people call it.
        flop: forward and backward of a step.
        source: where it stands.
        differs: what it counts otherwise than the exact count.
    """

    name: str
    flop: int
    source: str
    differs: str


def formulas(spec: ModelSpec, settings: RunSettings) -> tuple[Formula, ...]:
    """The common estimates of training FLOP of a step; none for an encoder-decoder, whose tokens meet half of it each.

    N parameters (with experts: those that a token meets), L layers, H heads, Q head width, T tokens long, d width,
    V vocabulary.
    """
    return () if spec.kind == "encoder_decoder" else tuple(_formulas(spec, settings))


def _formulas(spec: ModelSpec, settings: RunSettings) -> Iterator[Formula]:
    tokens, count, seq_len = settings.tokens_per_step, parameters(spec), settings.seq_len
    width = spec.layers * spec.heads * spec.head_dim
    kaplan = "Kaplan et al. 2020, section 2.1"
    yield Formula(
        name="6N",
        flop=6 * count.active * tokens,
        source=f"{kaplan}, N with embeddings",
        differs="takes lookups, norms and biases for products; no attention scores",
    )
    yield Formula(
        name="6N non-embedding",
        flop=6 * count.active_non_embedding * tokens,
        source=kaplan,
        differs="no head, no attention scores",
    )
    yield Formula(
        name="6N + 6LHQT",
        flop=(6 * count.active_non_embedding + 6 * width * seq_len) * tokens,
        source=f"{kaplan}, table 1, N without embeddings",
        differs="no head; of attention one of its two products, as much as the causal half of both",
    )
    yield Formula(
        name="6N + 12LHQT",
        flop=(6 * count.active + 12 * width * seq_len) * tokens,
        source="Chowdhery et al. 2022 (PaLM), appendix B",
        differs="takes lookups, norms and biases for products; attention in full, windows or not",
    )
    yield Formula(
        name="Megatron",
        flop=_megatron(spec, seq_len) * tokens,
        source="Narayanan et al. 2021, section 5.1, without recompute",
        differs="every model a GPT: as many key as query heads, d / heads wide, feed-forward 4d without a gate, dense",
    )
    yield Formula(
        name="Chinchilla",
        flop=_chinchilla(spec, seq_len) * tokens // seq_len,
        source="Hoffmann et al. 2022, appendix F",
        differs="embedding a product, softmax counted; as many key as query heads, no gate, dense, attention in full",
    )


def _megatron(spec: ModelSpec, seq_len: int) -> int:
    """72·L·d²·(1 + T/(6d) + V/(12·L·d)) a token."""
    layers, d = spec.layers, spec.d_model
    return 72 * layers * d * d + 12 * layers * d * seq_len + 6 * d * spec.vocab_size


def _chinchilla(spec: ModelSpec, seq_len: int) -> int:
    """Three times the forward pass of a sequence: embedding, L layers, logits."""
    d, attention = spec.d_model, spec.heads * spec.head_dim
    scores = 2 * 2 * seq_len * seq_len * attention + 3 * spec.heads * seq_len * seq_len
    layer = 2 * 4 * seq_len * d * attention + scores + 2 * 2 * seq_len * d * spec.d_ff
    return 3 * (2 * 2 * seq_len * spec.vocab_size * d + spec.layers * layer)
