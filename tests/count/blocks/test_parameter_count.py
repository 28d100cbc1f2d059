"""Parameters against torch's own tensors and against released models."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hwprof.count.blocks.transformer import parameters, training_step_ops
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import RunSettings
from hwprof.train.decoder import Decoder
from hwprof.train.encoder import Encoder

_GPT: dict[str, object] = {"vocab_size": 50257, "head_dim": 64}
_LLAMA_3: dict[str, object] = {"vocab_size": 128256, "head_dim": 128, "kv_heads": 8}


def test_parameters_equal_those_of_the_module(spec: ModelSpec) -> None:
    with torch.device("meta"):
        model = Decoder(spec) if spec.kind == "decoder" else Encoder(spec)
    assert parameters(spec).total == sum(weight.numel() for weight in model.parameters())


def test_each_weight_belongs_to_the_op_of_its_module_path(spec: ModelSpec) -> None:
    with torch.device("meta"):
        model = Decoder(spec) if spec.kind == "decoder" else Encoder(spec)
    expected: dict[str, int] = {}
    for path, weight in model.named_parameters():
        if path.startswith("layers.") and not path.startswith("layers.0."):
            continue
        label = path.replace(".0.", ".*.").removesuffix(".weight").removesuffix(".bias")
        label = label.replace(".in_proj_weight", ".in_proj").replace(".in_proj_bias", ".in_proj")
        expected[label] = expected.get(label, 0) + weight.numel()
    ops = training_step_ops(spec, RunSettings(model="m", device="cpu", micro_batch=1, seq_len=4))
    assert {op.label: op.parameters for op in ops if op.parameters} == expected


@pytest.mark.parametrize(
    ("variant", "changes", "total"),
    [
        (
            "gpt2",
            _GPT | {"layers": 12, "d_model": 768, "d_ff": 3072, "heads": 12, "kv_heads": 12, "max_seq_len": 1024},
            124_439_808,
        ),
        (
            "gpt2",
            _GPT
            | {"layers": 96, "d_model": 12288, "d_ff": 49152, "heads": 96, "kv_heads": 96, "head_dim": 128}
            | {"max_seq_len": 2048},
            174_604_259_328,
        ),
        (
            "tied rope, gated gelu",
            _LLAMA_3 | {"layers": 16, "d_model": 2048, "d_ff": 8192, "heads": 32, "head_dim": 64},
            1_235_814_400,
        ),
        (
            "llama",
            {"layers": 32, "d_model": 4096, "d_ff": 11008, "heads": 32, "kv_heads": 32, "head_dim": 128}
            | {"vocab_size": 32000},
            6_738_415_616,
        ),
        ("llama", _LLAMA_3 | {"layers": 126, "d_model": 16384, "d_ff": 53248, "heads": 128}, 405_853_388_800),
    ],
    ids=["gpt2-124m", "gpt3-175b", "llama-3.2-1b", "llama-2-7b", "llama-3.1-405b"],
)
def test_parameters_of_released_models(
    make_spec: Callable[..., ModelSpec], variant: str, changes: dict[str, object], total: int
) -> None:
    assert parameters(make_spec(variant, **changes)).total == total


def test_kinds_of_a_small_decoder_by_hand(make_spec: Callable[..., ModelSpec]) -> None:
    count = parameters(make_spec())
    assert count.embedding == 61 * 32
    assert count.attention == 2 * (32 * 32 + 2 * 32 * 16 + 32 * 32)
    assert count.ffn == 2 * 3 * 32 * 80
    assert count.norm == 2 * 2 * 32 + 32
    assert count.head == 61 * 32
    assert count.active_non_embedding == count.total - 2 * 61 * 32
    assert count.active == count.total


def test_a_tied_head_is_counted_once(make_spec: Callable[..., ModelSpec]) -> None:
    tied, untied = (parameters(make_spec(tied_embeddings=tied)) for tied in (True, False))
    assert (tied.head, untied.head) == (0, 61 * 32)
    assert untied.total - tied.total == 61 * 32
