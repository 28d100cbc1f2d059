"""Small specs and trainers for every test of hwprof.train."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import RunSettings
from hwprof.train.loop import Trainer

DECODER = ModelSpec(
    name="small-decoder",
    kind="decoder",
    layers=2,
    d_model=32,
    d_ff=48,
    heads=4,
    kv_heads=2,
    head_dim=8,
    vocab_size=256,
    max_seq_len=64,
    activation="silu",
    gated=True,
    norm="rmsnorm",
    norm_placement="pre",
    final_norm=True,
    positions="rope",
    tied_embeddings=True,
    attention_bias="none",
    mlp_bias=False,
    source={"all": "made up"},
)

ENCODER = ModelSpec(
    name="small-encoder",
    kind="encoder",
    layers=2,
    d_model=16,
    d_ff=32,
    heads=2,
    kv_heads=2,
    head_dim=8,
    vocab_size=300,
    max_seq_len=64,
    activation="gelu",
    gated=False,
    norm="layernorm",
    norm_placement="post",
    final_norm=False,
    positions="none",
    tied_embeddings=False,
    attention_bias="all",
    mlp_bias=True,
    source={"all": "made up"},
)

SETTINGS = RunSettings(
    model="small-decoder", device="cpu", micro_batch=8, seq_len=32, learning_rate=3e-3, workers=0, eval_batches=2
)


@pytest.fixture(autouse=True)
def _quiet_torch() -> Iterator[None]:
    """One thread (such small products only wait for more), and the global settings of torch as they were."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


@pytest.fixture
def decoder_spec() -> Callable[..., ModelSpec]:
    return lambda **changes: ModelSpec(**{**DECODER.model_dump(), **changes})


@pytest.fixture
def encoder_spec() -> Callable[..., ModelSpec]:
    return lambda **changes: ModelSpec(**{**ENCODER.model_dump(), **changes})


@pytest.fixture
def trainer() -> Iterator[Callable[..., Trainer]]:
    """Builds trainers, by default of the small decoder on the shipped text, and closes them after the test."""
    made: list[Trainer] = []

    def build(spec: ModelSpec = DECODER, *, data_path: Path | None = None, **changes: object) -> Trainer:
        settings = RunSettings(**{**SETTINGS.model_dump(), **changes})
        made.append(Trainer(spec, settings, data_path=data_path, device=torch.device("cpu")))
        return made[-1]

    yield build
    for each in made:
        each.close()
