"""Claims about the work of a step that generates: against torch's own counter, and by hand."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hwprof.predict.generation import generation_work, kernels_of, products_of, work_of
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.settings import RunSettings
from hwprof.train.generation import Generator

TINY = load_model("tiny")


def settings(**changes):
    return RunSettings(**{"model": "tiny", "device": "cpu", "micro_batch": 2, "seq_len": 16, "new_tokens": 5} | changes)


@pytest.mark.parametrize("name", ["tiny", "gpt2-124m"])
@pytest.mark.parametrize("new_tokens", [1, 2, 7])
def test_products_of_all_passes_are_those_that_torch_counts(name, new_tokens):
    spec, asked = load_model(name).changed(layers=2, vocab_size=320), settings(new_tokens=new_tokens)
    made = Generator(spec, asked, device=torch.device("cpu"))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # torch counts no flash of a CPU
        made.step()
    counted = sum(item.total.matmul_flop for item in generation_work(spec, asked, attention="full"))
    assert counted == counter.get_total_flops()


def test_each_pass_over_new_tokens_reads_all_weights_and_a_cache_that_grows():
    """Of tiny: 4 layers of 256 wide, 4 heads with 2 for keys of 64, 768 in the middle; 512 tokens; fp32."""
    work = generation_work(TINY, settings(), attention="causal")
    decode = [item for item in work if item.phase == "decode"]
    cached = next(item for item in decode if item.kind == "cached_attention_core")
    assert cached.instances == TINY.layers * 4
    per_key_bytes = 2 * 4 * TINY.kv_heads * 2 * TINY.head_dim
    assert cached.compulsory_bytes == pytest.approx((17 + 20) / 2 * per_key_bytes + 4 * 2 * TINY.q_dim)
    up = next(item for item in decode if item.label == "layers.*.ffn.up")
    assert up.compulsory_bytes == 4 * TINY.d_model * TINY.d_ff
    assert up.swept_bytes > 4 * TINY.layers * 3 * TINY.d_model * TINY.d_ff


def test_products_have_a_row_for_each_new_token_and_the_head_reads_the_last_of_a_prompt():
    found = products_of(TINY, settings())
    assert found["layers.*.ffn.up", "forward"] == [(32, TINY.d_ff, TINY.d_model)]
    assert found["layers.*.ffn.up", "decode"] == [(2, TINY.d_ff, TINY.d_model)]
    assert found["head", "forward"] == found["head", "decode"] == [(2, TINY.vocab_size, TINY.d_model)]


def test_attention_against_the_cache_is_a_kernel_of_its_own():
    asked = settings()
    uses = kernels_of(work_of(TINY, asked, attention="causal"), TINY, asked)
    (cached,) = (use for use in uses if use.kernel.kind == "cached_attention")
    assert str(cached.kernel) == f"cached_attention.core.fp32.2x18x{TINY.heads}x{TINY.kv_heads}x{TINY.head_dim}.forward"
    assert (cached.phase, cached.calls) == ("decode", TINY.layers * 4)
    assert {use.phase for use in uses} == {"prefill", "decode"}
    narrow = kernels_of(
        work_of(TINY, asked.changed(dtype="bf16"), attention="causal"), TINY, asked.changed(dtype="bf16")
    )
    assert {use.kernel.kind for use in narrow} == {"cached_attention"}
