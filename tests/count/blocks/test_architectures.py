"""Windows, experts, further predictions, two sides and images: small cases by hand, and laws over the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from step_flop import step_flop

from hwprof.count.blocks.attention import window_pairs
from hwprof.count.blocks.parameters import parameter_tensors, parameters
from hwprof.count.blocks.transformer import Precision, model_ops, training_step_ops
from hwprof.count.job.formulas import formulas
from hwprof.count.job.totals import StepFlop, total_cost
from hwprof.count.memory.step import training_memory
from hwprof.count.ops.table import OPS, Execution
from hwprof.errors import InputError
from hwprof.specs.catalogue.lookup import list_models
from hwprof.specs.model.parts import WindowSpec
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import RunSettings

FP32 = Precision.of("fp32")
TOKENS = 3 * 16


def run_settings(**changes: object) -> RunSettings:
    return RunSettings.model_validate({"model": "m", "device": "cuda", "micro_batch": 3, "seq_len": 16} | changes)


def flop_of(spec: ModelSpec, **changes: object) -> StepFlop:
    return step_flop(spec, run_settings(**changes))


def test_weights_of_the_ops_are_those_of_the_model_for_the_whole_catalogue() -> None:
    for spec in list_models():
        ops = training_step_ops(spec, run_settings(micro_batch=1))
        labels = [op.label for op in ops]
        assert sum(op.parameters * op.repeats for op in ops) == parameters(spec).total, spec.name
        assert {tensor.label for tensor in parameter_tensors(spec)} <= set(labels), spec.name
        assert len(labels) == len(set(labels)), spec.name


def test_memory_of_every_model_holds_at_least_its_weights_gradients_and_optimizer_state() -> None:
    for spec in list_models():
        need = training_memory(spec, run_settings(micro_batch=1))
        weights = next(part.predicted_bytes for part in need.parts if part.name == "weights")
        assert weights == 4 * parameters(spec).total, spec.name
        assert 15.9 * parameters(spec).total < need.peak_bytes < 30 * parameters(spec).total, spec.name


@pytest.mark.parametrize(
    ("kind", "tokens", "seq_len", "pairs"),
    [
        ("sliding", 4, 16, 2 * (4 * 16 - 8)),  # a band: w·T - w²/2 pairs
        ("sliding", 16, 16, 16 * 16),
        ("sliding", 99, 16, 16 * 16),
        ("chunked", 4, 16, 4 * 4 * 4),
        ("chunked", 5, 16, 3 * 25 + 1),
        ("chunked", 99, 16, 16 * 16),
    ],
)
def test_twice_the_pairs_of_a_window_by_hand(kind: Any, tokens: int, seq_len: int, pairs: int) -> None:
    assert window_pairs(seq_len, WindowSpec(tokens=tokens, layers=1, kind=kind)) == pairs


@settings(max_examples=50, deadline=None)
@given(seq_len=st.integers(1, 300), tokens=st.integers(1, 300))
def test_a_band_counts_what_its_rows_hold_but_for_the_diagonals_half(seq_len: int, tokens: int) -> None:
    rows = sum(min(position + 1, tokens) for position in range(seq_len))
    sliding = window_pairs(seq_len, WindowSpec(tokens=tokens, layers=1))
    assert sliding == 2 * rows - min(seq_len, tokens)


def test_windows_count_in_the_causal_figure_alone(make_spec: Callable[..., ModelSpec]) -> None:
    plain, local = (
        flop_of(make_spec(attention={"window": {"tokens": 4, "layers": 1}} if windowed else {}))
        for windowed in (False, True)
    )
    assert (local.forward_full, local.train_full) == (plain.forward_full, plain.train_full)
    saved_pairs = 16 * 16 // 2 - (4 * 16 - 8)
    assert plain.forward_causal - local.forward_causal == 3 * 4 * saved_pairs * 4 * 8  # batch, heads, 4·D a pair
    assert plain.train_causal - local.train_causal == 3 * (plain.forward_causal - local.forward_causal)


def test_experts_cost_by_the_token_and_weigh_by_their_number(make_spec: Callable[..., ModelSpec]) -> None:
    def spec(experts: int, top_k: int) -> ModelSpec:
        return make_spec(moe={"experts": experts, "top_k": top_k, "expert_ff": 24})

    few, many, more = spec(4, 2), spec(8, 2), spec(8, 3)
    router = 2 * TOKENS * 2 * 4 * 32
    assert flop_of(many).forward_full - flop_of(few).forward_full == router
    assert flop_of(more).forward_full - flop_of(many).forward_full == 2 * TOKENS * 2 * (3 * 32 * 24)
    assert parameters(many).total - parameters(few).total == 2 * 4 * (32 + 3 * 32 * 24)
    assert parameters(many).active - parameters(few).active == 2 * 4 * 32  # the router's rows
    assert parameters(more).active - parameters(many).active == 2 * 3 * 32 * 24


def test_dense_first_and_every_second_layer_by_hand(make_spec: Callable[..., ModelSpec]) -> None:
    moe = {"experts": 4, "top_k": 1, "expert_ff": 24, "dense_layers": 2, "every": 2}
    spec = make_spec(layers=6, moe=moe)
    assert spec.moe_layers == 2  # layers 3 and 5
    repeats = {op.label: op.repeats for op in model_ops(spec, batch_size=1, seq_len=4, precision=FP32)}
    assert (repeats["layers.*.ffn.up"], repeats["layers.*.moe.experts.up"], repeats["layers.*.ffn_norm"]) == (4, 2, 6)


def test_latent_attention_by_hand(make_spec: Callable[..., ModelSpec]) -> None:
    mla = {"q_lora_rank": 12, "kv_lora_rank": 20, "nope_dim": 6, "rope_dim": 2, "value_dim": 10}
    spec = make_spec(layers=1, mla=mla, heads=4, kv_heads=4, head_dim=8)
    weights = 32 * 12 + 12 * 4 * 8 + 32 * (20 + 2) + 20 * 4 * (6 + 10) + 4 * 10 * 32
    attention = 3 * 4 * 16 * 16 * 2 * (8 + 10)
    others = 3 * 32 * 80 + 32 * 61
    assert flop_of(spec).forward_full == 2 * TOKENS * (weights + others) + attention
    assert parameters(spec).attention == weights
    assert parameters(spec).norm == 3 * 32 + 12 + 20


def test_a_further_prediction_is_a_layer_a_projection_and_the_head_again(make_spec: Callable[..., ModelSpec]) -> None:
    plain, further = make_spec(layers=2), make_spec(layers=2, mtp_layers=1)
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 80
    added = 2 * TOKENS * (layer + 2 * 32 * 32 + 32 * 61) + 3 * 4 * 16 * 16 * 4 * 8
    assert flop_of(further).forward_full - flop_of(plain).forward_full == added
    assert parameters(further).total - parameters(plain).total == layer + 2 * 32 * 32 + 5 * 32
    losses = [op.repeats for op in training_step_ops(further, run_settings()) if op.label == "loss"]
    assert losses == [2]


def two_sides(make_spec: Callable[..., ModelSpec], **changes: Any) -> ModelSpec:
    return make_spec("gpt2", kind="encoder_decoder", layers=1, encoder={"layers": 2}, **changes)


def test_an_encoder_decoder_by_hand(make_spec: Callable[..., ModelSpec]) -> None:
    flop = flop_of(two_sides(make_spec), seq_len=24, target_len=16)
    source, target, layer = 3 * 24, 3 * 16, 4 * 32 * 32 + 2 * 32 * 80
    encoder = 2 * (2 * source * layer + 3 * 4 * 24 * 24 * 4 * 8)
    own, cross = 3 * 4 * 16 * 16 * 4 * 8, 3 * 4 * 16 * 24 * 4 * 8
    decoder = 2 * target * (layer + 2 * 32 * 32 + 32 * 61) + 2 * source * 2 * 32 * 32 + own + cross
    assert flop.forward_full == encoder + decoder
    assert flop.forward_full - flop.forward_causal == own // 2  # of the decoder's own attention alone
    assert flop.train_full == 3 * flop.forward_full


def test_one_length_stands_for_both_sides(make_spec: Callable[..., ModelSpec]) -> None:
    spec = two_sides(make_spec)
    assert flop_of(spec, seq_len=16) == flop_of(spec, seq_len=16, target_len=16)


@pytest.mark.parametrize(("lengths", "side"), [((65, 8), "the encoder"), ((8, 65), "the decoder")])
def test_either_side_may_have_too_few_positions(
    make_spec: Callable[..., ModelSpec], lengths: tuple[int, int], side: str
) -> None:
    with pytest.raises(InputError, match=f"{side} of gpt2-like can't take 65 tokens"):
        flop_of(two_sides(make_spec), seq_len=lengths[0], target_len=lengths[1])


def test_the_sequence_of_an_image_follows_from_its_size(make_spec: Callable[..., ModelSpec]) -> None:
    changes: dict[str, Any] = {"kind": "vit", "vocab_size": 0, "max_seq_len": 17, "tied_embeddings": False}
    vision = {"image_size": 16, "patch_size": 4}
    spec = make_spec("gpt2", **changes, vision=vision, head={"kind": "classifier", "classes": 5}, layers=1)
    tokens, layer = 3 * 17, 4 * 32 * 32 + 2 * 32 * 80
    forward = 2 * 3 * 16 * 48 * 32 + 2 * tokens * layer + 3 * 4 * 17 * 17 * 4 * 8 + 2 * 3 * 32 * 5
    flop = flop_of(spec, seq_len=1000)
    assert flop.forward_full == flop.forward_causal == forward
    assert flop.train_full == 3 * forward - 2 * 3 * 16 * 48 * 32  # an image has no gradient


def test_dispatch_to_experts_by_hand() -> None:
    how = Execution(precision=Precision.of("bf16"))
    cost = OPS["expert_linear"](how, rows=8, in_features=4, out_features=6, experts=16)
    assert cost.forward.matmul_flop == 2 * 8 * 4 * 6
    assert cost.backward.matmul_flop == 2 * cost.forward.matmul_flop
    weights = 8 * 4 * 6  # 8 rows reach at most 8 of the 16 experts
    assert cost.forward.read_bytes == 8 * 4 * 2 + weights * 2 + weights * 4  # rows, weights, fp32 weights to copy
    assert cost.weight_copy_bytes == 16 * 4 * 6 * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "encoder_decoder"},
        {"encoder": {"layers": 2}},
        {"kind": "vit"},
        {"moe": {"experts": 2, "top_k": 3, "expert_ff": 8}},
        {"moe": {"experts": 4, "top_k": 2, "expert_ff": 8, "dense_layers": 2}},
        {"moe": {"experts": 4, "top_k": 2, "expert_ff": 8, "shared_gate": True}},
        {"mla": {"q_lora_rank": 0, "kv_lora_rank": 4, "nope_dim": 4, "rope_dim": 2, "value_dim": 4}},
        {"attention": {"window": {"tokens": 4, "layers": 3}}},
        {"attention": {"nope_layers": 3}},
        {"positions": "relative"},
        {"block": "parallel", "norm_placement": "post"},
        {"head": {"kind": "classifier"}},
        {"vocab_size": 0},
        {"mtp_layers": -1},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(make_spec: Callable[..., ModelSpec], changes: Any) -> None:
    with pytest.raises(ValidationError):
        make_spec(**changes)


def test_megatrons_formula_is_exact_for_a_gpt(make_spec: Callable[..., ModelSpec]) -> None:
    spec = make_spec("gpt2", d_ff=4 * 32)
    by_name = {formula.name: formula.flop for formula in formulas(spec, run_settings())}
    exact = flop_of(spec).train_full
    assert by_name["Megatron"] == exact
    embedding, softmax = 6 * TOKENS * 61 * 32, 3 * 3 * 2 * 3 * 4 * 16 * 16
    assert by_name["Chinchilla"] == exact + embedding + softmax


def test_kaplans_attention_is_the_causal_half(make_spec: Callable[..., ModelSpec]) -> None:
    spec = make_spec()
    by_name = {formula.name: formula.flop for formula in formulas(spec, run_settings())}
    attention = by_name["6N + 6LHQT"] - by_name["6N non-embedding"]
    assert attention == flop_of(spec).train_causal - (
        flop_of(spec).train_full - 3 * 2 * 3 * 4 * 16 * 16 * 4 * 8  # the products of linear layers
    )


def test_formulas_take_the_active_parameters_of_experts(make_spec: Callable[..., ModelSpec]) -> None:
    spec = make_spec(moe={"experts": 64, "top_k": 1, "expert_ff": 24})
    assert formulas(spec, run_settings())[0].flop == 6 * parameters(spec).active * TOKENS


def test_compiled_kernels_move_fewer_bytes_in_every_model_of_the_catalogue() -> None:
    for spec in list_models():
        if spec.dropout:
            continue
        eager, compiled = (
            total_cost(model_ops(spec, batch_size=1, seq_len=64, precision=Precision.of("bf16"), fused=fused))
            for fused in (False, True)
        )
        assert compiled.moved_bytes < eager.moved_bytes, spec.name
        assert compiled.matmul_flop == eager.matmul_flop, spec.name
