"""Published runs as jobs: names as sources print them, every assumption stated, refusals with their reason."""

from __future__ import annotations

import pytest

from hwprof.count.memory.job import job_memory
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


def test_what_does_not_fit_with_full_recompute_has_its_inputs_on_the_host_under_xla():
    """405 B on 256 TPU v5p: inputs of 126 layers of 4 x 8192 tokens alone are 135 GB."""
    tpu = {"accelerator": "TPU v5p", "accel_mem_gb": 95, "framework": "MaxText", "inter_node_link_gbps_per_gpu": None}
    degrees = {"tp": 1, "pp": 1, "dp": 256, "n_devices": 256, "zero_stage_or_fsdp": "FSDP 256", "sp": None}
    found = case(
        model_name="llama3.1-405b",
        recompute=None,
        seq_len=8192,
        micro_batch_seqs=4,
        global_batch_seqs=1024,
        **tpu,
        **degrees,
    )
    assert (found.job.recompute, found.job.offload) == ("full", "activations")
    assert any(line.startswith("offload not stated: layers' inputs") for line in found.assumptions)


ALONE = {"tp": 1, "pp": 1, "dp": 1, "n_devices": 1, "global_batch_seqs": 2, "seq_len": 2048, "sp": None}


def test_a_micro_batch_that_is_not_stated_fits():
    many = case(micro_batch_seqs=None, recompute="none", tp=1, pp=1, dp=16, sp=None)
    assert "micro-batch not stated: 4" in many.assumptions
    gpt = {"model_name": "gpt3-2.7b", "framework": "pytorch ddp", "zero_stage_or_fsdp": "DDP"}
    few = case(micro_batch_seqs=None, recompute="none", **gpt, **ALONE | {"global_batch_seqs": 64})
    assert few.job.micro_batch < 8
    assert any(line.startswith("micro-batch not stated:") and "fits" in line for line in few.assumptions)


def test_torchtune_trains_8b_on_24_gb_as_its_recipe_does():
    """README: all weights of Llama-3.1 8B on an RTX 4090, 18.9 GiB at the peak."""
    torchtune = {"framework": "torchtune", "micro_batch_seqs": 2, "recompute": "full", "zero_stage_or_fsdp": None}
    small = case(accelerator="RTX 4090", accel_mem_gb=24, **torchtune, **ALONE)
    assert (small.job.optimizer, small.job.update_in_backward) == ("adamw-8bit", True)
    assert job_memory(small.job).reserved_bytes / 2**30 == pytest.approx(18.9, rel=0.08)
    large = case(accelerator="H200", accel_mem_gb=141, **torchtune, **ALONE)
    assert large.job.optimizer == "adamw"


def test_a_name_says_that_all_is_on_the_host():
    found = case(model_name="llama3-8b (full finetune, CPU offload)", zero_stage_or_fsdp="FSDP2")
    assert found.job.offload == "optimizer+weights"


def test_devices_that_share_an_expert_stand_in_a_column_or_in_the_notes():
    grok = {"model_name": "grok1-314b", "n_devices": 512, "tp": 4, "pp": 8, "cp": 2, "ep": 8, "dp": 8, "vp": 8}
    grok |= {"global_batch_seqs": 1024, "micro_batch_seqs": 1, "seq_len": 8192}
    assert case(**grok).job.layout.expert_tensor_parallel == 4
    assert case(**grok, notes="recompute not stated; ETP=1; later").job.layout.expert_tensor_parallel == 1
    assert case(**grok, etp=2).job.layout.expert_tensor_parallel == 2


def test_a_link_that_is_stated_is_taken_or_told():
    """Eight A100 on PCIe: 31.5 GB/s each, or bridges of 300 GB/s between two of them, which are assumed."""
    cards = {"accelerator": "A100 PCIe", "n_devices": 8, "tp": 1, "pp": 1, "dp": 8, "sp": None}
    rates = [
        case(intra_node_link=link, **cards).machine.inside_byte_per_s
        for link in (None, "NVLink bridge", "PCIe 4.0 x16")
    ]
    assert rates == [300e9, 300e9, 31.5e9]
    assert not any("intra_node_link" in line for line in case(intra_node_link="NVLink4").assumptions)
    told = case(intra_node_link="xyzzy").assumptions
    assert any(line.startswith("intra_node_link: 'xyzzy' left out") for line in told)


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
