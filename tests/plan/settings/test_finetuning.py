"""TRL's and axolotl's files: the batch, the adapters and what they can't say."""

from __future__ import annotations

import pytest
import yaml

from hwprof.plan.settings import axolotl, trl
from hwprof.specs.job.step import LoraSpec

ONE = {"nodes": 1, "devices_per_node": 1, "layout": {}, "steps": None, "global_batch": 16, "micro_batch": 4}


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


@pytest.mark.parametrize("degrees", [{"tensor_parallel": 16}, {"pipeline_parallel": 16}])
def test_layouts_that_transformers_trainer_does_not_have(launch, degrees):
    for framework in (trl, axolotl):
        assert framework.settings_for(launch(storage="pure", layout=degrees)).lacks
