"""Claims about which kernels a step runs, at which sizes and how often."""

from collections import Counter

import pytest

from hwprof.predict.ceilings import step_kernels as module
from hwprof.predict.ceilings.step_kernels import sampled_weights, step_kernels
from hwprof.predict.work import step_work
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.layout_text import parse_layout
from hwprof.specs.job.settings import RunSettings

TINY, GPT, ENCODER = (load_model(name) for name in ("tiny", "gpt2-124m", "encoder-base"))


def uses(spec, **changes):
    plain = {"model": spec.name, "device": "cpu", "micro_batch": 2, "seq_len": 128}
    settings = RunSettings(**plain | changes)
    return step_kernels(step_work(spec, settings, attention="causal"), spec, settings)


def calls(spec, **changes):
    found = Counter()
    for use in uses(spec, **changes):
        found[str(use.kernel)] += use.calls
    return found


def test_a_llama_runs_these_kernels_so_often():
    # 4 layers, two norms and two residual sums each, and a last norm; 2 x 128 tokens
    assert calls(TINY) == pytest.approx({
        "embedding.tokens_tied.fp32.2x128x256x512.forward": 1,
        "embedding.tokens_tied.fp32.2x128x256x512.backward": 1,
        "norm.rmsnorm.fp32.256x256.forward": 9,
        "norm.rmsnorm.fp32.256x256.backward": 9,
        "rope.halves.fp32.2x128x4x2x64.forward": 4,
        "rope.halves.fp32.2x128x4x2x64.backward": 4,
        "activation.silu_gated.fp32.256x768.forward": 4,
        "activation.silu_gated.fp32.256x768.backward": 4,
        "residual.add.fp32.256x256.forward": 8,
        "residual.add.fp32.256x256.backward": 8,
        "loss.cross_entropy.fp32.256x512.forward": 1,
        "loss.cross_entropy.fp32.256x512.backward": 1,
        "clip.norm.fp32.38x3279104.update": 1,
        "optimizer.adamw_for-loop.fp32.38x3279104.update": 1,
    })  # fmt: skip


def test_learned_positions_are_looked_up_with_the_tokens():
    kernels = [str(use.kernel) for use in uses(GPT)]
    assert "embedding.tokens_positions_tied.fp32.2x128x768x50257x1024.forward" in kernels
    assert "activation.gelu_tanh.fp32.256x3072.forward" in kernels
    assert not [name for name in kernels if name.startswith("rope")]


def test_a_stock_encoder_drops_out_and_sums_after_each_block():
    found = calls(ENCODER)
    # 6 layers of width 512 and 2048; the embedding's is in fp32 in every run
    assert found["dropout.mask.fp32.256x512.forward"] == 1 + 2 * 6
    assert found["dropout.mask.fp32.256x2048.backward"] == 6
    assert found["residual.add.fp32.256x512.backward"] == 12
    assert found["embedding.tokens.fp32.2x128x512x32000.backward"] == 1


def test_narrow_runs_have_narrow_activations_and_wide_norms():
    kernels = {use.kernel.kind: use.kernel.dtype for use in uses(TINY, dtype="bf16")}
    assert {kind for kind, dtype in kernels.items() if dtype == "bf16"} == {"activation", "loss", "residual", "rope"}
    assert {use.kernel.dtype for use in uses(TINY, dtype="tf32")} == {"fp32"}


def test_recompute_runs_forward_kernels_in_the_backward_phase():
    again = [
        use for use in uses(TINY, recompute="full") if use.phase == "backward" and use.kernel.direction == "forward"
    ]
    assert {use.kernel.kind: use.calls for use in again} == {"norm": 8, "rope": 4, "activation": 4, "residual": 4}


def test_micro_batches_repeat_all_but_the_update():
    once, thrice = calls(TINY), calls(TINY, gradient_accumulation=3)
    for name, count in once.items():
        times = 1 if name.endswith("update") else 3
        assert thrice[name] == pytest.approx(times * count), name


def test_of_a_compiled_model_only_what_runs_outside_of_it_is_a_kernel_of_its_own():
    assert {use.kernel.kind for use in uses(TINY, compile=True)} == {"loss", "clip", "optimizer"}


def test_tensor_ranks_run_other_kernels():
    assert uses(TINY, layout=parse_layout("tp2", 2)) == ()


def test_shards_of_an_update_share_its_calls():
    update = {use.kernel.kind: use.calls for use in uses(TINY, layout=parse_layout("fsdp", 4))}["optimizer"]
    assert update == pytest.approx(1 / 4)


def test_each_piece_of_counted_work_stands_for_one_kernel():
    work = step_work(GPT, RunSettings(model="x", device="cpu", micro_batch=2, seq_len=128), attention="causal")
    settings = RunSettings(model="x", device="cpu", micro_batch=2, seq_len=128)
    taken = [id(item) for use in step_kernels(work, GPT, settings) for item in use.work]
    assert len(taken) == len(set(taken))
    left = {item.kind for item in work if id(item) not in set(taken)}
    assert left == {"linear", "attention_core"}


def test_bytes_of_all_calls_are_those_that_were_counted():
    for use in uses(TINY):
        assert use.calls * use.moved_bytes == pytest.approx(sum(item.total.moved_bytes for item in use.work))


def test_weights_of_every_kind_are_sampled_before_a_kind_is_repeated(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE_ELEMENTS", 2 * 512 * 256 + 256 - 64 * 256)
    # the table, the first norm, query, key, and the rows of a value that are left
    assert sampled_weights(TINY) == ((480, 256), (256,), (256, 256), (128, 256), (96, 256))


def test_no_weight_takes_more_than_half_of_the_sample(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE_ELEMENTS", 1000 * 256)
    assert sampled_weights(TINY)[0] == (500, 256)
