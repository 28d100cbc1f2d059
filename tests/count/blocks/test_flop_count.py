"""FLOP against torch's own counter, run on meta tensors with the math attention (CPU flash attention counts 0)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from step_flop import step_flop
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hwprof.count.blocks.parameters import parameters
from hwprof.count.blocks.transformer import Precision, matmul_shapes, model_ops, training_step_ops
from hwprof.count.job.totals import total_cost
from hwprof.errors import InputError
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import Recompute, RunSettings
from hwprof.train.decoder import Decoder
from hwprof.train.encoder import Encoder

BATCH, SEQ_LEN = 3, 16
FP32 = Precision.of("fp32")


def run_settings(**changes: object) -> RunSettings:
    given_values = {"model": "m", "device": "cpu", "micro_batch": BATCH, "seq_len": SEQ_LEN}
    return RunSettings.model_validate(given_values | changes)


def torch_flop(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return int(counter.get_total_flops())


def meta_model(spec: ModelSpec, recompute: Recompute = "none") -> tuple[nn.Module, torch.Tensor]:
    kind = Decoder if spec.kind == "decoder" else Encoder
    with torch.device("meta"):
        return kind(spec, recompute=recompute), torch.zeros(BATCH, SEQ_LEN, dtype=torch.int64)


def test_forward_flop_equal_torchs_count(spec: ModelSpec) -> None:
    model, tokens = meta_model(spec)
    assert step_flop(spec, run_settings()).forward_full == torch_flop(lambda: model(tokens))


def test_training_flop_equal_torchs_count(spec: ModelSpec) -> None:
    model, tokens = meta_model(spec)
    assert step_flop(spec, run_settings()).train_full == torch_flop(lambda: model(tokens).sum().backward())


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputed_flop_equal_torchs_count(spec: ModelSpec, recompute: Recompute) -> None:
    model, tokens = meta_model(spec, recompute)
    flop = step_flop(spec, run_settings(recompute=recompute))
    assert flop.train_full + flop.recompute_full == torch_flop(lambda: model(tokens).sum().backward())


def test_flop_of_a_stock_encoder_stack_equal_torchs_count(make_spec: Callable[..., ModelSpec]) -> None:
    spec = make_spec("encoder", layers=3)
    with torch.device("meta"):
        layers = [nn.TransformerEncoderLayer(32, 4, dim_feedforward=80, batch_first=True) for _ in range(3)]
        model = nn.Sequential(nn.Embedding(61, 32), *layers, nn.Linear(32, 61))
        tokens = torch.zeros(BATCH, SEQ_LEN, dtype=torch.int64)
    assert step_flop(spec, run_settings()).train_full == torch_flop(lambda: model(tokens).sum().backward())


def test_flop_and_parameters_of_the_original_transformer_equal_those_of_torchs_own() -> None:
    sizes = {"layers": 3, "d_model": 32, "heads": 4, "kv_heads": 4, "head_dim": 8, "d_ff": 80, "vocab_size": 61}
    biases = {"attention_bias": "all"}  # nn.Transformer has all or none
    spec = load_model("transformer-base").model_copy(update=sizes | biases)
    assert spec.encoder is not None
    spec = spec.model_copy(update={"encoder": spec.encoder.model_copy(update={"layers": 2})})
    with torch.device("meta"):
        model = nn.Transformer(32, 4, 2, 3, dim_feedforward=80, batch_first=True)
        model.encoder.norm = model.decoder.norm = None  # not in the paper
        table, head = nn.Embedding(61, 32), nn.Linear(32, 61, bias=False)
        source, target = (torch.zeros(BATCH, length, dtype=torch.int64) for length in (SEQ_LEN, 2 * SEQ_LEN))
    table.weight = head.weight

    def run() -> torch.Tensor:
        return torch.as_tensor(head(model(table(source), table(target))).sum())

    flop = step_flop(spec, run_settings(target_len=2 * SEQ_LEN))
    assert (flop.forward_full, flop.train_full) == (torch_flop(run), torch_flop(lambda: run().backward()))
    assert parameters(spec).total == sum(weight.numel() for weight in nn.ModuleList([model, table, head]).parameters())


def test_forward_flop_of_a_small_decoder_by_hand(make_spec: Callable[..., ModelSpec]) -> None:
    spec = make_spec(layers=1)
    tokens = 3 * 16
    projections = 2 * tokens * 32 * 32 + 2 * (2 * tokens * 32 * 16) + 2 * tokens * 32 * 32
    attention = 3 * 4 * (2 * 16 * 16 * 8 + 2 * 16 * 16 * 8)
    ffn = 3 * (2 * tokens * 32 * 80)
    head = 2 * tokens * 32 * 61
    assert step_flop(spec, run_settings()).forward_full == projections + attention + ffn + head


def test_causal_halves_the_attention_of_a_decoder_and_nothing_else(make_spec: Callable[..., ModelSpec]) -> None:
    flop = step_flop(make_spec(), run_settings())
    attention = 2 * (3 * 4 * 4 * 16 * 16 * 8)  # layers x (batch x heads x 4·T²·D)
    assert flop.forward_full - flop.forward_causal == attention // 2
    assert flop.train_full - flop.train_causal == 3 * attention // 2


def test_causal_equals_full_for_an_encoder(make_spec: Callable[..., ModelSpec]) -> None:
    flop = step_flop(make_spec("encoder"), run_settings())
    assert (flop.forward_causal, flop.train_causal) == (flop.forward_full, flop.train_full)


def test_counts_of_the_largest_models_stay_exact_integers(make_spec: Callable[..., ModelSpec]) -> None:
    spec = make_spec(layers=126, d_model=16384, d_ff=53248, heads=128, kv_heads=8, head_dim=128, vocab_size=128256)
    ops = model_ops(spec, batch_size=2048, seq_len=8191, precision=FP32)
    total = total_cost(ops, "forward").matmul_flop
    tokens = 2048 * 8191
    weights = 126 * (2 * 16384 * 16384 + 2 * 16384 * 1024 + 3 * 16384 * 53248) + 16384 * 128256
    assert total == 2 * tokens * weights + 126 * 4 * tokens * 8191 * 16384


def test_products_of_the_shapes_add_up_to_the_linear_layers(spec: ModelSpec) -> None:
    shapes = matmul_shapes(spec, run_settings())
    per_label = {op.label: op for op in training_step_ops(spec, run_settings()) if op.kind == "linear"}
    for label, op in per_label.items():
        for direction, cost in (("forward", op.forward), ("backward", op.backward)):
            products = [s for s in shapes if s.label == label and s.direction == direction]
            assert sum(2 * s.m * s.n * s.k for s in products) == cost.matmul_flop
    assert {shape.label for shape in shapes} == per_label.keys()


@settings(max_examples=30, deadline=None)
@given(batch=st.integers(1, 64), seq_len=st.integers(1, 64), times=st.integers(1, 8), layers=st.integers(1, 5))
def test_flop_laws(make_spec: Callable[..., ModelSpec], batch: int, seq_len: int, times: int, layers: int) -> None:
    spec = make_spec(layers=layers)
    flop = step_flop(spec, run_settings(micro_batch=batch, seq_len=seq_len))
    accumulated = step_flop(spec, run_settings(micro_batch=batch, seq_len=seq_len, gradient_accumulation=times))
    larger = step_flop(spec, run_settings(micro_batch=batch * times, seq_len=seq_len))
    assert flop.train_full == 3 * flop.forward_full  # every input of a product depends on a parameter
    assert larger.train_full == times * flop.train_full == accumulated.train_full
    assert flop.forward_causal < flop.forward_full < 2 * flop.forward_causal


def test_a_step_with_more_positions_than_learned_is_refused(make_spec: Callable[..., ModelSpec]) -> None:
    with pytest.raises(InputError, match="learned positions end at 64"):
        model_ops(make_spec("gpt2"), batch_size=1, seq_len=65, precision=FP32)
    assert model_ops(make_spec("llama"), batch_size=1, seq_len=65, precision=FP32)


@pytest.mark.parametrize(("batch", "seq_len"), [(0, 4), (4, 0), (-1, 4)])
def test_a_batch_without_tokens_is_refused(make_spec: Callable[..., ModelSpec], batch: int, seq_len: int) -> None:
    with pytest.raises(InputError, match="has none"):
        model_ops(make_spec(), batch_size=batch, seq_len=seq_len, precision=FP32)
