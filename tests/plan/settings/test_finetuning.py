"""TRL's and axolotl's files: the batch, the adapters and what they can't say."""

from __future__ import annotations

import pytest
import yaml

from hwprof.plan.settings import accelerate, axolotl, trl
from hwprof.specs.job.step import LoraSpec

ONE = {"nodes": 1, "devices_per_node": 1, "layout": {}, "steps": None, "global_batch": 16, "micro_batch": 4}
EIGHT = {"nodes": 1, "devices_per_node": 8, "micro_batch": 2}


def read(framework, launch):
    return yaml.safe_load(framework.settings_for(launch).text)


def test_adapters_and_batch_are_told_to_both(launch):
    asked = launch(**ONE, lora=LoraSpec(rank=32, targets="query-value", quantized=True), recompute="full")
    found = read(trl, asked)
    assert (found["per_device_train_batch_size"], found["gradient_accumulation_steps"]) == (4, 4)
    assert (found["use_peft"], found["lora_r"], found["load_in_4bit"]) == (True, 32, True)
    assert found["lora_target_modules"] == ["q_proj", "v_proj"]
    assert (found["dtype"], found["max_length"], found["gradient_checkpointing"]) == ("bfloat16", 8192, True)
    other = read(axolotl, asked)
    assert (other["micro_batch_size"], other["gradient_accumulation_steps"], other["adapter"]) == (4, 4, "qlora")
    assert (other["sequence_len"], other["lora_r"]) == (8192, 32)


def test_pairs_are_half_as_many_examples(launch):
    asked = launch(**ONE, lora=LoraSpec(rank=8))
    as_pairs = type(asked)(**{name: getattr(asked, name) for name in asked.__slots__} | {"task": "dpo"})
    assert read(trl, as_pairs)["per_device_train_batch_size"] == 2
    assert read(axolotl, as_pairs)["rl"] == "dpo"


def test_fp32_weights_are_beyond_axolotl(launch):
    asked = launch(**ONE, storage="autocast")
    assert read(trl, asked)["dtype"] == "float32"
    assert "fp32" in axolotl.settings_for(asked).lacks[0]
    assert read(axolotl, launch(**ONE, storage="pure"))["bf16"] is True


def test_hybrid_shards_and_wrapped_layers_are_told_to_axolotl(launch):
    """Without a policy FSDP2 wraps the root alone, and gathers the whole model."""
    layout = {"data_parallel": 16, "zero_stage": 3, "shard_ranks": 8}
    found = read(axolotl, launch(storage="pure", layout=layout))
    assert (found["dp_replicate_size"], found["dp_shard_size"]) == (2, 8)
    assert found["fsdp_config"] == {"auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "reshard_after_forward": True}
    half = read(axolotl, launch(storage="pure", layout={"data_parallel": 16, "zero_stage": 2}))
    assert half["fsdp_config"]["reshard_after_forward"] is False


def test_layers_are_computed_again_by_one_of_trl_and_fsdp(launch):
    """transformers' Trainer refuses both; ``accelerate.yaml`` tells FSDP."""
    asked = launch(storage="pure", recompute="full")
    assert read(trl, asked)["gradient_checkpointing"] is False
    assert read(accelerate, asked)["fsdp_config"]["fsdp_activation_checkpointing"] is True
    assert read(axolotl, asked)["gradient_checkpointing"] is True


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"optimizer_implementation": "foreach"}, "adamw_torch"),
        ({"optimizer": "adamw-8bit"}, "adamw_bnb_8bit"),
        ({"optimizer": "adamw-8bit", "optimizer_paged": True}, "paged_adamw_8bit"),
        ({"optimizer": "lion", "optimizer_paged": True}, "paged_lion_32bit"),
        ({"optimizer": "adamw-8bit", "layout": {"data_parallel": 8, "zero_stage": 3}, **EIGHT}, "adamw_torch_8bit"),
    ],
)
def test_the_optimizer_is_the_one_that_was_priced(launch, changes, name):
    asked = launch(**(ONE | {"storage": "pure"} | changes))
    assert (read(trl, asked)["optim"], read(axolotl, asked)["optimizer"]) == (name, name)


@pytest.mark.parametrize(
    ("changes", "by_trl", "by_axolotl", "packed"),
    [
        ({}, "sdpa", "flash_attention_2", "wrapped"),
        ({"attention": "flash-3"}, "flash_attention_3", "flash_attention_3", "bfd"),
        ({"attention": "materialised"}, "eager", "eager", "wrapped"),
        ({"backend": "cpu", "device": "cpu"}, "sdpa", "sdpa", "wrapped"),
    ],
)
def test_kernels_of_attention_are_told_and_rows_are_packed_for_them(launch, changes, by_trl, by_axolotl, packed):
    asked = launch(**(ONE | {"storage": "pure"} | changes))
    found = read(trl, asked)
    assert (found["attn_implementation"], found["packing_strategy"]) == (by_trl, packed)
    assert read(axolotl, asked)["attn_implementation"] == by_axolotl
    assert found.get("use_cpu", False) is (asked.backend == "cpu")


def test_rates_are_numbers_and_kernels_of_adapters_are_said(launch):
    """YAML 1.1 reads 2e-05 as a word; axolotl's kernels are on where nothing is said."""
    assert read(axolotl, launch(**ONE, storage="pure"))["learning_rate"] == 2e-5
    plain = read(axolotl, launch(**ONE, lora=LoraSpec(rank=8), fused=False))
    assert (plain["lora_mlp_kernel"], plain["lora_qkv_kernel"], plain["lora_o_kernel"]) == (False, False, False)
    assert read(axolotl, launch(**ONE, lora=LoraSpec(rank=8), fused=True))["lora_mlp_kernel"] is True


@pytest.mark.parametrize("degrees", [{"tensor_parallel": 16}, {"pipeline_parallel": 16}])
def test_layouts_that_transformers_trainer_does_not_have(launch, degrees):
    for framework in (trl, axolotl):
        assert framework.settings_for(launch(storage="pure", layout=degrees)).lacks
