"""Passes of a server against what no hardware beats, and laws of their layouts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from serving_shapes import deployment, ranks

from hwprof.deploy.engine import engine_file
from hwprof.deploy.formats import formats_of
from hwprof.deploy.kernels import Share, Sums, Tokens
from hwprof.deploy.links import links_of
from hwprof.deploy.memory import most_sequences, sequence_bytes, weights_bytes
from hwprof.deploy.names import known_model
from hwprof.deploy.passes import Deployment, pass_times
from hwprof.deploy.server import numbers_of, pass_s
from hwprof.errors import InputError
from hwprof.specs.catalogue.lookup import load_device


def step(found, share, sequences, past=1024.0):
    one = np.ones(len(share.tp))
    tokens = Tokens(rows=sequences * one, sequences=sequences * one, past=past * one)
    return pass_times(found, share, tokens, decode=True)


def test_a_step_of_one_sequence_reads_all_weights_once():
    found = deployment()
    times = step(found, ranks(1.0), 1.0)
    read_s = 69.5e9 / found.device.memory.bandwidth_byte_per_s  # 70.6 billion weights, less the token table
    assert times.products_s[0] + times.floors_s[0] > read_s
    assert times.products_s[0] < 2 * read_s


def test_more_ranks_never_take_longer_for_products():
    times = step(deployment(), ranks(1.0, 2.0, 4.0, 8.0), 16.0)
    assert (np.diff(times.products_s) < 0).all()
    assert times.reduces.tolist() == [0, 160, 160, 160]


def test_more_sequences_take_longer_but_less_for_each():
    found, share = deployment(), ranks(8.0)
    few, many = (step(found, share, sequences) for sequences in (8.0, 128.0))
    for name in ("products_s", "attention_s", "moved_s", "wire_s"):
        assert getattr(few, name)[0] < getattr(many, name)[0] < 16 * getattr(few, name)[0] * 1.001


def test_a_prompt_costs_what_its_products_cost():
    found, one = deployment(), np.ones(1)
    times = pass_times(found, ranks(1.0), Tokens(rows=2048 * one, sequences=one, past=0 * one), decode=False)
    flop_s = 2 * 68.5e9 * 2048 / found.device.matmul_flop_per_s("fp8")  # without table and head
    assert flop_s < times.products_s[0] < 2.5 * flop_s


def test_a_prompt_that_is_half_in_the_cache_is_cheaper_than_the_whole():
    found, one = deployment(), np.ones(1)
    whole = pass_times(found, ranks(8.0), Tokens(rows=8192 * one, sequences=one, past=0 * one), decode=False)
    rest = pass_times(found, ranks(8.0), Tokens(rows=4096 * one, sequences=one, past=4096 * one), decode=False)
    assert 0.5 * whole.attention_s[0] < rest.attention_s[0] < whole.attention_s[0]
    assert rest.products_s[0] < 0.6 * whole.products_s[0]


def test_experts_move_the_weights_of_those_that_tokens_meet():
    found = deployment("deepseek-v3", "h200-sxm5-141gb", "fp8-block")
    times = step(found, ranks(1.0, dp=8.0, ep=8.0), 1.0)
    met = 32 * (1 - np.exp(-8 * 8 / 8 / 32))  # 64 copies of 8 tokens over 256 experts, 32 a rank
    moved = 58 * 3 * met * 7168 * 2048 * (1 + 4 / 128)
    assert times.expert_traffic_s[0] == pytest.approx(moved / found.device.memory.bandwidth_byte_per_s, rel=0.03)


def test_weights_and_cache_of_a_device():
    found = deployment("llama-3.1-70b", "h200-sxm5-141gb", "bf16")
    assert weights_bytes(found, ranks(1.0))[0] == pytest.approx(2 * 70.55e9, rel=0.001)
    token = 80 * 2 * 8 * 128 * 2
    assert sequence_bytes(found, ranks(1.0, 8.0), np.array([1024.0, 1024.0])).tolist() == [1024 * token, 128 * token]
    assert sequence_bytes(found, ranks(1.0), np.array([1025.0]))[0] == 1040 * token  # pages of 16
    assert most_sequences(found, ranks(1.0), np.array([2048.0]))[0] == 0


def test_a_latent_cache_is_not_split_over_ranks():
    found = deployment("deepseek-v3", "h200-sxm5-141gb", "fp8-block")
    held = sequence_bytes(found, ranks(1.0, 8.0), np.array([4096.0, 4096.0]))
    assert held[0] == held[1] == 61 * 576 * 4096


def test_a_format_without_products_is_widened_and_said():
    found = deployment("gpt-oss-120b", "h100-sxm5-80gb", "mxfp4")
    assert (found.formats.experts.product, found.formats.experts.widened) == ("bf16", True)
    assert any("widened" in note for note in found.formats.assumptions)


def test_an_unknown_format_is_refused():
    with pytest.raises(InputError, match="known: bf16, fp8"):
        deployment(word="fp3")


def test_a_device_without_bf16_takes_fp16_and_says_so():
    found = deployment("llama-3.1-8b", "t4", "bf16")
    assert found.formats.wide.product == found.formats.mixing.product == "fp16"
    assert "t4 has no products in bf16: fp16" in found.formats.assumptions
    assert step(found, ranks(1.0), 1.0).products_s[0] > 15e9 / found.device.memory.bandwidth_byte_per_s


def test_a_device_alone_has_links_to_nobody():
    assert links_of("cpu-grace-72c").most_devices == 1
    assert links_of("h100-sxm5-80gb").most_devices == 8


def test_a_row_crosses_the_network_once_for_each_node_that_needs_it():
    found, one = deployment("deepseek-v3", "h100-sxm5-80gb", "fp8-block"), np.ones(1)
    sums = Sums(device=found.device, count=1)
    found.links.exchange(sums, 1e6 * one, 8 * one, 16 * one, 1)
    met = 1 - 0.5**8  # of one other node, by eight experts
    far_s = met * 1e6 / (0.7 * found.links.far.between_byte_per_s)
    near_s = 8 * 1e6 / (0.7 * found.links.near.inside_byte_per_s)
    assert sums.times().wire_s[0] == pytest.approx(max(far_s, near_s))


def test_two_halves_of_a_batch_hide_what_takes_less_time_and_read_the_weights_twice():
    """DeepSeek-V3 on 128 H800, 128 sequences each: as DeepSeek measured it (profile-data: 2,324 tokens/s a GPU)."""
    device = load_device("h800-sxm5-80gb")
    model = known_model("deepseek-v3")
    formats = formats_of(model, device, "fp8-block")
    plain = Deployment(model=model, device=device, formats=formats, links=links_of(device.id))
    one = np.ones(1)
    share = Share(tp=one, dp=128 * one, ep=128 * one, moe_tp=one, pp=one)
    asked = Tokens(rows=128 * one, sequences=128 * one, past=4096 * one)
    serial, halved = (
        _step_s(pass_times(each, share, asked, decode=True), 128) for each in (plain, replace(plain, two_batches=True))
    )
    assert 128 / serial == pytest.approx(1640, rel=0.1)
    assert 128 / halved == pytest.approx(2324, rel=0.15)
    single = Share(tp=one, dp=one, ep=one, moe_tp=one, pp=one)
    alone = pass_times(replace(plain, two_batches=True), single, asked, decode=True)
    assert alone.halves[0] == 0


def _step_s(times, sequences):
    numbers = numbers_of(engine_file(), ["sglang"], times.expert_kind)
    host_s = numbers["step_s"] + numbers["sequence_s"] * sequences
    return float((pass_s(times, numbers, prefill=False) + host_s)[0])
