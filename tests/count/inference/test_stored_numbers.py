"""Weights and caches as they are stored, by hand; what can't be asked is refused."""

from __future__ import annotations

import itertools

import pytest

from hwprof.count.inference.cache import kept_features, kv_cache, visible_keys, visible_keys_over
from hwprof.count.inference.generation import generation, largest_batch, time_bound
from hwprof.count.inference.phases import Batch, prefill_ops, step_ops
from hwprof.count.inference.serving import Serving, served
from hwprof.count.inference.weights import expected_experts, weights_bytes
from hwprof.count.ops.cost import Cost
from hwprof.errors import InputError
from hwprof.specs.catalogue.lookup import list_models, load_model

LLAMA, LATENT = load_model("llama-3.1-8b"), load_model("deepseek-v3")
BF16 = Serving(dtype="bf16")


def test_a_token_of_an_8b_model_takes_128_kib_of_cache():
    """2 x 8 heads x 128 numbers x 2 bytes x 32 layers (Ainslie et al. 2023: 8 groups)."""
    assert kept_features(LLAMA) == 2 * 8 * 128
    cache = kv_cache(LLAMA, batch_size=1, context_tokens=1, dtype="bf16")
    assert cache.total_bytes == 2 * 8 * 128 * 2 * 32 == 128 * 1024


def test_latent_attention_keeps_512_and_64_numbers():
    """DeepSeek-V2, section 2.1.2; all keys and values of 128 heads would be 128 x (192 + 128)."""
    assert kept_features(LATENT) == 512 + 64
    assert kept_features(LATENT, "naive") == 128 * (192 + 128)


def test_an_encoder_keeps_nothing():
    assert kv_cache(load_model("bert-base-uncased"), batch_size=4, context_tokens=99, dtype="bf16").total_bytes == 0


@pytest.mark.parametrize("kind", ["sliding", "chunked"])
def test_keys_of_a_window_are_those_that_a_token_sees(kind):
    """By counting: the last w tokens, or those of the token's own chunk of w."""
    spec = next(m for m in list_models() if m.attention.window and m.attention.window.kind == kind and m.causal)
    size = spec.attention.window.tokens
    for length in (1, size - 1, size, size + 1, 2 * size + 3):
        seen = min(length, size) if kind == "sliding" else (length - 1) % size + 1
        assert (visible_keys(spec, length).full, visible_keys(spec, length).window) == (length, seen)
    over = visible_keys_over(spec, size - 2, 6)
    each = [visible_keys(spec, length) for length in range(size - 2, size + 4)]
    assert (over.full, over.window) == (sum(keys.full for keys in each), sum(keys.window for keys in each))


def test_matrices_of_layers_in_4_and_8_bits_by_hand():
    """int4: half a byte a number and 2 for each 128; int8: a byte a number and 4 for each row. The rest stays wide."""
    wide = weights_bytes(LLAMA, BF16)
    assert wide == 2 * 8_030_261_248
    per_layer = {(4096, 4096): 2, (4096, 1024): 2, (4096, 14336): 2, (14336, 4096): 1}
    numbers = 32 * sum(k * n * count for (k, n), count in per_layer.items())
    rows = 32 * (2 * 4096 + 2 * 1024 + 2 * 14336 + 4096)
    narrow = weights_bytes(LLAMA, Serving(dtype="bf16", weights="int4"))
    assert wide - narrow == 2 * numbers - numbers // 2 - 2 * numbers // 128
    byte_wide = weights_bytes(LLAMA, Serving(dtype="bf16", weights="int8"))
    assert wide - byte_wide == 2 * numbers - numbers - rows * 4


def test_tokens_meet_as_many_experts_as_all_choices_do_on_average():
    """Over all ways in which 3 tokens choose 2 of 4 experts each."""
    sets = list(itertools.combinations(range(4), 2))
    met = [len({expert for chosen in choice for expert in chosen}) for choice in itertools.product(sets, repeat=3)]
    assert expected_experts(4, 2, 3) == pytest.approx(sum(met) / len(met))


def test_absorbed_queries_do_the_products_of_the_paper():
    """DeepSeek-V2, section 2.1.2: queries to 512 numbers and results back; scores over 512 + 64, values of 512."""
    batch = Batch(spec=served(LATENT), size=3, serving=BF16)
    ops = {op.label: op for op in step_ops(batch, visible_keys(LATENT, 1000))}
    heads, latent = 128, 512
    assert ops["layers.*.attention.kv"].forward.matmul_flop == 2 * 3 * heads * latent * (128 + 128)
    core = next(op for op in ops.values() if op.kind == "cached_attention_core")
    assert core.forward.matmul_flop == 2 * 3 * heads * 1000 * (latent + 64 + latent)


def test_a_generation_is_the_sum_of_its_steps():
    work = generation(LLAMA, batch_size=2, prompt_tokens=100, new_tokens=5, serving=BF16)
    batch = Batch(spec=served(LLAMA), size=2, serving=BF16)
    steps = [step_ops(batch, visible_keys(LLAMA, 101 + step)) for step in range(4)]
    by_step = sum((op.cost("forward") for ops in steps for op in ops), Cost.ZERO)
    assert work.decode.cost.matmul_flop == by_step.matmul_flop
    assert work.decode.cost.moved_bytes == pytest.approx(by_step.moved_bytes, rel=1e-9)


def test_the_least_time_of_a_phase_is_under_the_higher_roof():
    step = generation(LLAMA, batch_size=1, prompt_tokens=64, new_tokens=2, serving=BF16).decode
    bound = time_bound(step, flop_per_s=1e15, byte_per_s=1e12)
    assert (bound.roof, bound.lower_s) == ("memory", step.least_bytes / 1e12)
    slow = time_bound(step, flop_per_s=1e9, byte_per_s=1e12)
    assert (slow.roof, slow.lower_s) == ("compute", step.causal_flop / 1e9)


def test_the_largest_batch_fits_and_one_more_does_not():
    lengths = {"prompt_tokens": 1000, "new_tokens": 100, "serving": BF16}

    def peak_bytes(size):
        return generation(LLAMA, batch_size=size, **lengths).memory.peak_bytes

    size = largest_batch(LLAMA, capacity_bytes=24e9, **lengths)
    assert peak_bytes(size) <= 24e9 < peak_bytes(size + 1)
    assert largest_batch(LLAMA, capacity_bytes=1e9, **lengths) == 0


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("llama-3.1-8b", {"batch_size": 0}, "a batch of 0 x"),
        ("llama-3.1-8b", {"prompt_tokens": 0}, "has none"),
        ("llama-3.1-8b", {"source_tokens": 7}, "7 source tokens for llama-3.1-8b"),
        ("gpt2-124m", {"prompt_tokens": 1025}, "learned positions end at 1024"),
        ("t5-base", {}, "0 source tokens for t5-base"),
    ],
)
def test_lengths_that_cannot_be_are_refused(model, changes, message):
    asked = {"batch_size": 1, "prompt_tokens": 8, "serving": BF16} | changes
    with pytest.raises(InputError, match=message):
        prefill_ops(load_model(model), **asked)


@pytest.mark.parametrize(("model", "new_tokens"), [("bert-base-uncased", 1), ("llama-3.1-8b", -1)])
def test_tokens_that_a_model_does_not_give_are_refused(model, new_tokens):
    with pytest.raises(InputError, match=f"{new_tokens} new tokens"):
        generation(load_model(model), batch_size=1, prompt_tokens=8, new_tokens=new_tokens, serving=BF16)
