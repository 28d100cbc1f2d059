"""Small models of every shape that the op table tells apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from hwprof.specs.model.spec import ModelSpec

_LLAMA: dict[str, Any] = {
    "name": "llama-like",
    "kind": "decoder",
    "layers": 2,
    "d_model": 32,
    "d_ff": 80,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 8,
    "vocab_size": 61,
    "max_seq_len": 64,
    "activation": "silu",
    "gated": True,
    "norm": "rmsnorm",
    "norm_placement": "pre",
    "final_norm": True,
    "positions": "rope",
    "tied_embeddings": False,
    "attention_bias": "none",
    "mlp_bias": False,
    "source": {"dimensions": "made up"},
}
_GPT2 = _LLAMA | {
    "name": "gpt2-like",
    "kv_heads": 4,
    "activation": "gelu",
    "gated": False,
    "norm": "layernorm",
    "positions": "learned",
    "tied_embeddings": True,
    "attention_bias": "all",
    "mlp_bias": True,
}
_ENCODER = _GPT2 | {
    "name": "encoder",
    "kind": "encoder",
    "activation": "relu",
    "norm_placement": "post",
    "final_norm": False,
    "positions": "none",
    "tied_embeddings": False,
    "head_bias": True,
    "dropout": 0.1,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "gpt2": _GPT2,
    "encoder": _ENCODER,
    "post-norm relu": _GPT2
    | {
        "activation": "relu",
        "norm_placement": "post",
        "final_norm": False,
        "positions": "none",
        "tied_embeddings": False,
        "attention_bias": "qkv",
        "head_bias": True,
    },
    "wide heads, gated relu": _LLAMA | {"head_dim": 16, "d_ff": 48, "activation": "relu"},
    "tied rope, gated gelu": _LLAMA | {"tied_embeddings": True, "activation": "gelu"},
    "dropout": _LLAMA | {"dropout": 0.1},
    "gpt2 with dropout": _GPT2 | {"dropout": 0.1},
    "encoder without dropout": _ENCODER | {"dropout": 0.0},
    "gelu encoder": _ENCODER | {"activation": "gelu"},
}

SpecMaker = Callable[..., ModelSpec]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small only wait for each other in a pool of threads, all the more on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=list(VARIANTS))
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    """Each variant in turn."""
    return ModelSpec(**VARIANTS[request.param])


@pytest.fixture(scope="session")
def make_spec() -> SpecMaker:
    """A variant by name, with some dimensions changed."""

    def make(variant: str = "llama", **changes: Any) -> ModelSpec:
        return ModelSpec(**VARIANTS[variant] | changes)

    return make
