"""Published runs as jobs: names as sources print them, every assumption stated, refusals with their reason."""

from __future__ import annotations

import pytest

from hwprof.simulate.published.case import RefusedError, case_of, device_of
from hwprof.specs.catalogue.published import PublishedRun

STATED = {
    "id": "a",
    "model_name": "llama3-8b",
    "accelerator": "H100 SXM",
    "accel_mem_gb": 80,
    "n_devices": 16,
    "seq_len": 4096,
    "global_batch_seqs": 64,
    "framework": "Megatron-Core",
    "inter_node_link_gbps_per_gpu": 400,
    "tp": 2,
    "sp": True,
    "pp": 2,
    "vp": 1,
    "cp": 1,
    "dp": 4,
    "zero_stage_or_fsdp": "zero1 (distributed optimizer)",
    "precision": "bf16",
    "micro_batch_seqs": 2,
    "recompute": "none",
    "attention_impl": "flash",
}


def case(**changes):
    return case_of(PublishedRun(**{key: value for key, value in (STATED | changes).items() if value is not None}))


def test_what_is_stated_is_taken_and_nothing_assumed():
    found = case()
    layout = found.job.layout
    assert found.assumptions == ()
    assert found.recompute_stated
    assert found.job.model.name == "llama-3-8b"
    assert (layout.tensor_parallel, layout.pipeline_parallel, layout.data_parallel) == (2, 2, 4)
    assert layout.zero_stage == 1
    assert layout.sequence_parallel
    assert (found.job.micro_batch, found.job.micro_batches) == (2, 8)
    assert found.machine.between_byte_per_s == 50e9


@pytest.mark.parametrize(
    ("blank", "assumption"),
    [
        ({"precision": None}, "precision not stated: bf16"),
        ({"micro_batch_seqs": None}, "micro-batch not stated: 1"),
        ({"zero_stage_or_fsdp": None}, "sharding over data ranks not stated: ZeRO stage 1"),
        ({"vp": None}, "virtual stages not stated"),
        ({"inter_node_link_gbps_per_gpu": None}, "network of a device not stated: 400 Gb/s"),
        ({"recompute": None}, "recompute not stated: none, since it fits without"),
        ({"model_name": "llama3-8b (LoRA)"}, "LoRA of rank"),
        ({"n_layers": 12}, "llama-3-8b with layers = 12"),
        ({"offload": "activations"}, "offload (activations)"),
    ],
)
def test_what_is_blank_is_assumed_and_said(blank, assumption):
    assert any(line.startswith(assumption) for line in case(**blank).assumptions), case(**blank).assumptions


def test_recompute_that_is_not_stated_is_the_least_with_which_it_fits():
    found = case(
        model_name="llama3-70b",
        global_batch_seqs=16,
        tp=8,
        pp=2,
        dp=1,
        recompute=None,
        seq_len=8192,
        micro_batch_seqs=4,
    )
    assert not found.recompute_stated
    assert found.job.recompute == "full"
    assert 1 <= found.job.recompute_layers <= 80
    assert any(f"full in {found.job.recompute_layers} of 80 layers" in line for line in found.assumptions)


@pytest.mark.parametrize(
    ("text", "stage", "shards"),
    [
        ("FSDP FULL_SHARD", 3, 4),
        ("HSDP (FSDP 2)", 3, 2),
        ("SHARD_GRAD_OP", 2, 4),
        ("zero1 (distributed optimizer)", 1, 4),
        ("DDP", 0, 4),
    ],
)
def test_sharding_in_words(text, stage, shards):
    layout = case(zero_stage_or_fsdp=text).job.layout
    assert (layout.zero_stage, layout.shards) == (stage, shards)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("full", "full"), ("selective (attention core)", "selective"), ("none", "none"), ("no", "none")],
)
def test_recompute_in_words(text, expected):
    assert case(recompute=text).job.recompute == expected


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("fp8 (delayed scaling)", "fp8"),
        ("NVFP4", "fp4"),
        ("amp_bf16", "bf16"),
        ("FP16 mixed", "fp16"),
        ("TF32", "tf32"),
    ],
)
def test_precision_in_words(text, dtype):
    assert case(precision=text).job.dtype == dtype


def test_unfused_attention_writes_its_scores():
    assert case(attention_impl="unfused softmax").job.attention == "materialised"
    assert case(attention_impl="").job.attention == "flash"


@pytest.mark.parametrize(
    ("name", "memory_gb", "device"),
    [
        ("H100 SXM", 80, "h100-sxm5-80gb"),
        ("NVIDIA H100 SXM", None, "h100-sxm5-80gb"),
        ("A100 SXM", 40, "a100-sxm4-40gb"),
        ("A100 SXM", 80, "a100-sxm4-80gb"),
        ("TPU v5p", None, "tpu-v5p"),
    ],
)
def test_trade_names_of_devices(name, memory_gb, device):
    assert device_of(name, memory_gb)[0].id == device


def test_ironwood_is_two_devices_that_count_as_one():
    device, scale = device_of("TPU7x (Ironwood)", 192)
    assert (device.id, scale) == ("tpu-v7x", 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"accelerator": "Abacus 9000"}, "abacus-9000"),
        (
            {"model_name": "unheard-of"},
            "the model is not in the catalogue and n_layers, hidden, n_heads, vocab are blank",
        ),
        ({"dp": 3}, "degrees multiply to 12, but there are 16 devices"),
        ({"ep": 64}, "expert_parallel = 64 does not divide 8"),
        ({"global_batch_seqs": 6}, "global_batch = 6 does not divide by micro_batch x data_parallel"),
        ({"n_heads": 30}, "heads = 30 must be a multiple of kv_heads = 8"),
    ],
)
def test_a_run_that_cannot_be_modelled_is_refused_with_the_reason(changes, reason):
    with pytest.raises(RefusedError, match=reason) as caught:
        case(**changes)
    assert "\n" not in str(caught.value)
