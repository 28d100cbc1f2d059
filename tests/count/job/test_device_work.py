"""Work of one device: what the ranks of a group do together is what the op table counts, under every layout."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.count.blocks.transformer import model_ops
from hwprof.count.job.device_work import NARROW, device_rows
from hwprof.count.job.rows import Part, Pass, Unit, WorkShare
from hwprof.count.ops.lora import LIBRARIES
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.step import LoraSpec

DENSE, EXPERTS = load_model("llama-3.1-8b"), load_model("mixtral-8x7b")
LATENT = load_model("deepseek-v3")
SEQ_LEN = 512


def flop(rows, layers, *whens):
    """FLOP of a device's micro-batch; rows of a layer stand for all layers."""
    return sum(
        row.flop * row.times * (layers if row.part is Part.LAYER else 1)
        for row in rows
        if not whens or row.when in whens
    )


def table_flop(model, micro_batch, attention="causal"):
    ops = model_ops(model, batch_size=micro_batch, seq_len=SEQ_LEN, precision=NARROW, attention=attention)
    forward = sum(op.forward.matmul_flop * op.repeats for op in ops)
    return forward, sum(op.backward.matmul_flop * op.repeats for op in ops)


PLAIN = {
    "micro_batch": 2,
    "dtype": "bf16",
    "flash": True,
    "tensor": 1,
    "context": 1,
    "expert": 1,
    "sequence_parallel": True,
    "recompute": "none",
    "selective": ("core_attn",),
    "lora": None,
    "adapter_library": "peft",
    "fused": True,
    "expert_tensor": 1,
    "expert_skew": 1.0,
}


def rows_of(model, **changes):
    return device_rows(WorkShare(model=model, seq_len=SEQ_LEN, **PLAIN | changes))


@pytest.mark.parametrize("model", [DENSE, EXPERTS, LATENT, load_model("gpt3-175b")], ids=lambda model: model.name)
def test_one_device_does_what_the_op_table_counts(model):
    """Flash backward multiplies q·k again: 5 products where the table has 4 (Dao et al. 2022)."""
    rows = rows_of(model)
    forward, backward = table_flop(model, 2)
    attention = flop([row for row in rows if row.unit is Unit.ATTENTION_BACKWARD], model.layers)
    assert flop(rows, model.layers, Pass.FORWARD) == pytest.approx(forward, rel=1e-9)
    counted = flop(rows, model.layers, Pass.INPUT, Pass.WEIGHT) - attention / 5
    assert counted == pytest.approx(backward, rel=1e-9)


MODELS = {"dense": DENSE, "experts": EXPERTS}
WHOLE = {name: flop(rows_of(model), model.layers) for name, model in MODELS.items()}


@given(
    name=st.sampled_from(sorted(MODELS)),
    tensor=st.sampled_from([1, 2, 4, 8]),
    context=st.sampled_from([1, 2, 4]),
    expert=st.sampled_from([1, 2, 4, 8]),
    expert_tensor=st.booleans(),
    recompute=st.sampled_from(["none", "selective", "full"]),
)
@settings(max_examples=40)
def test_flop_is_conserved_under_every_layout(name, tensor, context, expert, expert_tensor, recompute):
    """Each of tensor x context ranks does its share of the tokens, heads, columns and rows."""
    model = MODELS[name]
    shared = tensor if expert_tensor else 1
    degrees = {"tensor": tensor, "context": context, "expert": expert, "expert_tensor": shared}
    rows = rows_of(model, recompute=recompute, **degrees)
    first_time = flop(rows, model.layers, Pass.FORWARD, Pass.INPUT, Pass.WEIGHT)
    assert tensor * context * first_time == pytest.approx(WHOLE[name], rel=1e-9)


def test_without_sequence_parallelism_only_the_router_is_repeated():
    """Every tensor rank chooses experts for all tokens: 3 products of 1024 x 8 x 4096 in 32 layers, 7 times more."""
    rows = rows_of(EXPERTS, tensor=8, sequence_parallel=False)
    excess = 8 * flop(rows, EXPERTS.layers) - WHOLE["experts"]
    assert excess == pytest.approx(7 * 3 * 32 * 2 * 1024 * 8 * 4096, rel=1e-6)


def test_products_in_plain_tensor_parallelism_are_conserved():
    whole, split = flop(rows_of(DENSE), DENSE.layers), rows_of(DENSE, tensor=8, sequence_parallel=False)
    assert 8 * flop(split, DENSE.layers) == pytest.approx(whole, rel=1e-9)


def test_experts_do_the_same_work_wherever_they_live():
    one = [row for row in rows_of(EXPERTS) if row.unit is Unit.GROUPED]
    for expert in (2, 4):
        spread = [row for row in rows_of(EXPERTS, expert=expert) if row.unit is Unit.GROUPED]
        assert flop(spread, EXPERTS.layers) == pytest.approx(flop(one, EXPERTS.layers), rel=1e-9)
        assert spread[0].groups == 8 / expert


def test_full_recompute_runs_every_forward_row_of_the_layers_again():
    rows = rows_of(DENSE, recompute="full")
    again = flop(rows, DENSE.layers, Pass.RECOMPUTE)
    layers = [row for row in rows if row.part is Part.LAYER]
    assert again == pytest.approx(flop(layers, DENSE.layers, Pass.FORWARD), rel=1e-12)
    assert flop(rows_of(DENSE), DENSE.layers, Pass.RECOMPUTE) == 0


def test_selective_recompute_runs_the_core_again():
    """Korthikanti et al. 2022, section 5: q·k and p·v once more; a causal flash kernel does half of it."""
    stored, flash = (rows_of(DENSE, recompute="selective", flash=kept) for kept in (False, True))
    by_hand = DENSE.layers * 2 * (2 * 2 * DENSE.heads * SEQ_LEN**2 * DENSE.head_dim)
    assert flop(stored, DENSE.layers, Pass.RECOMPUTE) == by_hand
    assert flop(flash, DENSE.layers, Pass.RECOMPUTE) == by_hand / 2


@pytest.mark.parametrize(
    ("selective", "width"),
    [
        (("op-list",), 1024 + 4096 * 1 + 14336 * 1),  # of q k v, output, gate up, down: key, output, up
        (("products",), 0),
        (("mlp",), 3 * 14336),
    ],
)
def test_policies_run_what_they_do_not_keep(selective, width):
    """torchtitan keeps every second product; the rest of 4096-wide products runs again. Attention is kept by all."""
    rows = rows_of(DENSE, recompute="selective", selective=selective)
    assert flop(rows, DENSE.layers, Pass.RECOMPUTE) == pytest.approx(DENSE.layers * 2 * 2 * SEQ_LEN * 4096 * width)


def test_lora_has_no_weight_gradient_but_the_adapters():
    rank = 16
    rows = rows_of(DENSE, lora=LoraSpec(rank=rank, targets="all"))
    weight = [row for row in rows if row.when is Pass.WEIGHT]
    assert weight
    assert all(rank in {row.m, row.n, row.k} for row in weight)
    tokens, pairs = 2 * SEQ_LEN, [(4096, 4096), (4096, 1024), (4096, 1024), (4096, 4096)]
    pairs += [(4096, 14336), (4096, 14336), (14336, 4096)]
    by_hand = DENSE.layers * sum(2 * tokens * rank * (k + n) for k, n in pairs)
    assert flop(weight, DENSE.layers) == pytest.approx(by_hand)


def test_weights_in_4_bits_are_widened_before_each_product():
    """bitsandbytes reads 4 bits and a 32-bit scale for 64 weights, writes 16 bits, and widens the scales before.

    0.5 + 2 + (4 + 1 + 4) / 64 bytes a weight, forward, for the gradient of the input, and where layers run again.
    """
    lora = LoraSpec(rank=16, targets="all")
    plain, widened = (
        rows_of(DENSE, recompute="full", lora=each) for each in (lora, lora.model_copy(update={"quantized": True}))
    )
    moved = [
        sum(row.moved_bytes * row.times for row in rows if row.unit is Unit.COPY and row.part is Part.LAYER)
        for rows in (plain, widened)
    ]
    weights = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336
    assert moved[0] == 0
    assert moved[1] == pytest.approx(3 * weights * (2.5 + 9 / 64))
    head = [[row for row in rows if row.part is Part.HEAD] for rows in (plain, widened)]
    assert head[0] == head[1]


@pytest.mark.parametrize(
    ("library", "fused", "expected"),
    [("torchtune", False, 33), ("torchtune", True, 2.5 + 9 / 64), ("peft", False, 2.5 + 9 / 64)],
)
def test_torchao_widens_weights_by_torch_s_own_operations(library, fused, expected):
    """Of each half of the weights: shift or mask, 64-bit indices, values, scales, products; both halves stacked.

    A weight of the whole: (1 + 4.5) + (1 + 4.5) + 2 x (4 + 1) + 2 + 6 + 4 = 33 bytes in 16 bits
    (pytorch/ao, NF4Tensor.get_original_weight).
    """
    assert LIBRARIES[library].widening_bytes(2, fused=fused) == pytest.approx(expected)


def test_narrow_products_stay_in_the_layers_and_cost_casts():
    """The head stays wide; 2 read and 1 written twice for each element of an activation that is made narrow."""
    plain, narrow = rows_of(DENSE), rows_of(DENSE, dtype="fp8")
    assert {row.unit for row in plain}.isdisjoint({Unit.NARROW_MATMUL, Unit.NARROW_GROUPED})
    assert {row.part for row in narrow if row.unit is Unit.NARROW_MATMUL} == {Part.LAYER}
    assert flop(narrow, DENSE.layers) == pytest.approx(flop(plain, DENSE.layers), rel=1e-12)
    casts = len([row for row in narrow if row.unit is Unit.TRAFFIC]) - len(
        [row for row in plain if row.unit is Unit.TRAFFIC]
    )
    products = [row for row in narrow if row.unit is Unit.NARROW_MATMUL and row.when is Pass.FORWARD]
    assert casts == 2 * len(products)
    down = next(row for row in products if (row.n, row.k) == (4096, 14336))
    tokens = 2 * SEQ_LEN
    cast = 4 * tokens * 14336
    assert any(row.moved_bytes == cast for row in narrow if row.when is Pass.FORWARD)
    assert down.moved_bytes == tokens * 14336 + 4096 * 14336 + 2 * tokens * 4096


@pytest.mark.parametrize(("dtype", "forward_bytes", "backward_bytes"), [("bf16", 13, 19), ("fp32", 25, 37)])
def test_scores_in_memory_move_in_their_own_width(dtype, forward_bytes, backward_bytes):
    """6 and 9 passes over each score of 2 or 4 bytes, and a mask of 1 byte."""
    rows = [row for row in rows_of(DENSE, flash=False, dtype=dtype) if row.unit is Unit.TRAFFIC]
    scores = 2 * DENSE.heads * SEQ_LEN**2
    for when, width in ((Pass.FORWARD, forward_bytes), (Pass.INPUT, backward_bytes)):
        assert any(row.when is when and row.moved_bytes == scores * width for row in rows)


def test_biases_of_experts_are_no_experts():
    """gpt-oss 20B: 32 experts, each of three matrices of 2,880 x 2,880 beside their biases."""
    found = [row for row in rows_of(load_model("gpt-oss-20b")) if row.unit is Unit.GROUPED]
    shapes = {(row.n, row.k) for row in found if row.when is not Pass.WEIGHT}
    assert shapes == {(2 * 2880, 2880), (2880, 2 * 2880), (2880, 2880)}
    assert {row.groups for row in found} == {32}
