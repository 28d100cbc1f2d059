"""FLOP of a step against 6N and 12·L·H·Q·T (PaLM appendix B), and what recompute and LoRA change."""

from __future__ import annotations

import pytest

from hwprof.count.blocks.parameters import parameters
from hwprof.count.job.model_flop import job_flop
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.step import LoraSpec, TrainingJob

GPT = load_model("gpt3-175b")
SEQ_LEN = 2048


def job(**changes):
    return TrainingJob(**{"model": GPT, "seq_len": SEQ_LEN, "global_batch": 4} | changes)


def test_model_flop_is_palm_appendix_b():
    tokens = 4 * SEQ_LEN
    attention = 12 * GPT.layers * GPT.d_model * SEQ_LEN * tokens
    weights = 6 * parameters(GPT).total * tokens
    assert job_flop(job()).model == pytest.approx(weights + attention, rel=0.01)
    saved = job_flop(job()).model - job_flop(job(), "causal").model
    assert saved == pytest.approx(attention / 2, rel=0.01)


def test_full_recompute_adds_one_forward_of_the_layers():
    """8 products where the model has 6: 4/3, less the head (Narayanan et al. 2021, section 5.1)."""
    found = job_flop(job(recompute="full"))
    assert found.hardware / found.model == pytest.approx(4 / 3, rel=0.01)
    half = job_flop(job(recompute="full", recompute_layers=GPT.layers // 2))
    assert half.hardware - half.model == pytest.approx((found.hardware - found.model) / 2)


def test_selective_recompute_adds_the_core_only_where_scores_are_stored():
    assert job_flop(job(recompute="selective")).hardware == job_flop(job()).hardware
    stored = job_flop(job(recompute="selective", attention="materialised"))
    core = 4 * GPT.layers * GPT.d_model * SEQ_LEN * 4 * SEQ_LEN
    assert stored.hardware - stored.model == pytest.approx(core, rel=1e-9)


def test_lora_leaves_out_one_of_three_products():
    whole, adapted = job_flop(job()).model, job_flop(job(lora=LoraSpec(rank=8))).model
    assert adapted / whole == pytest.approx(2 / 3, rel=0.03)
    assert adapted > whole * 2 / 3


def test_flop_is_linear_in_the_batch():
    assert job_flop(job(global_batch=12)).hardware == pytest.approx(3 * job_flop(job()).hardware)
