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


@pytest.mark.parametrize("attention", ["flash", "materialised"])
def test_selective_recompute_adds_what_runs_again(attention):
    """Megatron's ``core_attn``; a policy that keeps products and attention adds no product."""
    core = job_flop(job(recompute="selective", attention=attention))
    by_hand = 4 * GPT.layers * GPT.d_model * SEQ_LEN * 4 * SEQ_LEN
    assert core.hardware - core.model == pytest.approx(by_hand, rel=1e-9)
    kept = job_flop(job(recompute="selective", selective=("products",), attention=attention))
    assert kept.hardware == kept.model
    mlp = job_flop(job(recompute="selective", selective=("mlp",), recompute_layers=GPT.layers // 2))
    assert mlp.hardware - mlp.model == pytest.approx(16 * GPT.d_model**2 * (GPT.layers // 2) * 4 * SEQ_LEN, rel=1e-9)


def test_a_layer_with_a_window_counts_as_its_window():
    """Gemma 3 27B: of 62 layers 10 attend to all of 131,072 tokens, 52 to the last 1,024 (arXiv:2503.19786)."""
    model, tokens, window = load_model("gemma-3-27b-text"), 131072, 1024
    long = job_flop(job(model=model, seq_len=tokens, global_batch=4)).model / 4
    scores = 12 * model.heads * model.head_dim * (10 * tokens**2 + 52 * (2 * window * tokens - window**2))
    assert long == pytest.approx(6 * parameters(model).total * tokens + scores, rel=0.01)


def test_lora_leaves_out_one_of_three_products():
    whole, adapted = job_flop(job()).model, job_flop(job(lora=LoraSpec(rank=8))).model
    assert adapted / whole == pytest.approx(2 / 3, rel=0.03)
    assert adapted > whole * 2 / 3


def test_flop_is_linear_in_the_batch():
    assert job_flop(job(global_batch=12)).hardware == pytest.approx(3 * job_flop(job()).hardware)
