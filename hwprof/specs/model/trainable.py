"""Which models can hwprof train itself? Plain decoders and stacks of stock encoder layers; any model can be counted."""

from __future__ import annotations

from hwprof.errors import InputError
from hwprof.specs.model.parts import AttentionSpec, EmbeddingSpec, HeadSpec
from hwprof.specs.model.spec import ModelSpec

_DECODER: dict[str, tuple[tuple[object, ...], str]] = {
    "norm_weights": (("all",), "norms without all their weights"),
    "norm_placement": (("pre", "post"), "norms on the results of its blocks"),
    "block": (("sequential",), "attention and feed-forward network side by side"),
    "positions": (("learned", "rope", "none"), "positions of another kind"),
    "attention_bias": (("none", "qkv", "all"), "biases on query, value and output alone"),
    "activation": (("gelu", "relu", "silu"), "a squared relu"),
    "moe": ((None,), "a mixture of experts"),
    "mla": ((None,), "latent attention"),
    "attention": ((AttentionSpec(),), "attention beyond projections and rotary positions ([attention])"),
    "embedding": ((EmbeddingSpec(),), "an embedding beyond tokens and positions ([embedding])"),
    "head": ((HeadSpec(),), "another head than logits for every token ([head])"),
    "mtp_layers": ((0,), "multi-token prediction"),
}
"""Key by key, what a decoder has where ``hwprof.train.decoder`` can build it, and what it has otherwise."""


def check_trainable(spec: ModelSpec) -> None:
    """Refuse a model that the training loop cannot build.

    Raises:
        InputError: it says what stands in the way, and what can be trained.
    """
    obstacle = _obstacle(spec)
    if obstacle:
        raise InputError(
            f"hwprof can't train {spec.name}: {obstacle}",
            expectation="it trains decoders of dense layers and full attention (GPT-2, LLaMA, Qwen 2.5) and stacks of "
            "stock nn.TransformerEncoderLayer",
            remedy="take such a model (llama-3.2-1b, gpt2, encoder-base); `hwprof count` covers this one",
        )


def _obstacle(spec: ModelSpec) -> str:
    if spec.stock_encoder:
        return ""
    if spec.kind != "decoder":
        return "its layers are not stock ones" if spec.kind == "encoder" else f"it is of kind {spec.kind}"
    others = (other for key, (known, other) in _DECODER.items() if getattr(spec, key) not in known)
    return next((f"it has {other}" for other in others), "")
