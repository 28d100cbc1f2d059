"""Sums of a step, and the formulas beside the exact count."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from step_flop import step_flop

from hwprof.count.blocks.transformer import training_step_ops
from hwprof.count.job.formulas import formulas
from hwprof.count.job.totals import cost_by_kind, total_cost
from hwprof.count.ops.cost import Cost
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import RunSettings

SETTINGS = RunSettings(model="m", device="cuda", micro_batch=4, seq_len=16, gradient_accumulation=2)


def test_kinds_and_directions_add_up_to_the_whole_step(spec: ModelSpec) -> None:
    ops = training_step_ops(spec, SETTINGS)
    by_kind = cost_by_kind(ops)
    assert sum(by_kind.values(), Cost.ZERO) == total_cost(ops)
    assert {kind for kind, direction in by_kind if direction == "update"} == {"clip", "optimizer"}


def test_step_flop_are_of_all_micro_batches(make_spec: Callable[..., ModelSpec]) -> None:
    both = step_flop(make_spec(), SETTINGS)
    one = step_flop(make_spec(), SETTINGS.model_copy(update={"gradient_accumulation": 1}))
    assert (both.train_full, both.train_causal) == (2 * one.train_full, 2 * one.train_causal)
    assert both.recompute_full == 0


def test_6n_counts_all_but_attention_and_overcounts_the_embedding_and_norms(
    make_spec: Callable[..., ModelSpec],
) -> None:
    spec = make_spec()
    six_n = formulas(spec, SETTINGS)[0]
    assert (six_n.name, six_n.flop) == ("6N", 6 * 25_568 * 128)
    attention = 128 * 3 * 2 * (4 * 16 * 4 * 8)  # tokens x 3 passes x layers x 4·T·H·D
    lookups = 6 * (61 * 32 + 5 * 32) * 128
    assert step_flop(spec, SETTINGS).train_full == six_n.flop + attention - lookups


def test_the_palm_formula_counts_full_attention(make_spec: Callable[..., ModelSpec]) -> None:
    spec = make_spec("gpt2", layers=12, d_model=768, d_ff=3072, heads=12, kv_heads=12, head_dim=64, vocab_size=50257)
    settings = RunSettings(model="m", device="cuda", micro_batch=1, seq_len=64)
    palm = next(formula for formula in formulas(spec, settings) if formula.name == "6N + 12LHQT")
    assert palm.flop == 6 * (124_439_808 - 960 * 768) * 64 + 12 * 12 * 12 * 64 * 64 * 64
    assert palm.flop == pytest.approx(step_flop(spec, settings).train_full, rel=0.01)
