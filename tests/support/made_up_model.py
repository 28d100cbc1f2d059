"""The smallest model that a test can do with, where the test is not about the model."""

from __future__ import annotations

from typing import Any

from hwprof.specs.model.spec import ModelSpec

_SMALL: dict[str, Any] = {
    "name": "small",
    "kind": "decoder",
    "layers": 1,
    "d_model": 8,
    "d_ff": 16,
    "heads": 2,
    "kv_heads": 2,
    "head_dim": 4,
    "vocab_size": 256,
    "max_seq_len": 16,
    "activation": "gelu",
    "gated": False,
    "norm": "layernorm",
    "norm_placement": "pre",
    "final_norm": True,
    "positions": "learned",
    "tied_embeddings": True,
    "attention_bias": "none",
    "mlp_bias": False,
    "source": {"all": "made up"},
}


def made_up_model(**changes: Any) -> ModelSpec:
    """A decoder of one layer and 8 channels, with changes."""
    return ModelSpec(**_SMALL | changes)
