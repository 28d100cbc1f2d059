"""Does DeepSpeed's own configuration class take the file? Without it, its documented keys as they are listed here."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import pytest

from hwprof.plan.settings.deepspeed import settings_for

KEYS = {
    "train_batch_size": int,
    "train_micro_batch_size_per_gpu": int,
    "gradient_accumulation_steps": int,
    "zero_optimization": {
        "stage": int,
        "overlap_comm": bool,
        "offload_optimizer": {"device": str, "pin_memory": bool},
        "offload_param": {"device": str, "pin_memory": bool},
    },
    "bf16": {"enabled": bool},
    "fp16": {"enabled": bool},
    "data_types": {"grad_accum_dtype": str},
    "tensor_parallel": {"autotp_size": int},
}
"""https://www.deepspeed.ai/docs/config-json/ and, for ``tensor_parallel``, /tutorials/autotp-training."""

LAYOUTS = {
    "zero 3": {},
    "zero 1": {"layout": {"data_parallel": 16, "zero_stage": 1}, "micro_batch": 2},
    "tensor": {"layout": {"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 2}},
    "plain": {"layout": {"data_parallel": 16}, "dtype": "fp16", "gradient_bytes": 2},
    "offload": {"offload": "optimizer"},
    "weights": {"offload": "weights"},
    "fp32": {"dtype": "fp32"},
}


def check_listed(table, keys):
    for name, value in table.items():
        assert name in keys
        if isinstance(value, dict):
            check_listed(value, keys[name])
        else:
            assert type(value) is keys[name], name


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_key_is_documented_and_batches_multiply(launch, name):
    asked = launch(**LAYOUTS[name])
    found = json.loads(settings_for(asked).text)
    check_listed(found, KEYS)
    data, tensor = asked.job.layout.data_parallel, asked.job.layout.tensor_parallel
    assert found.get("train_batch_size") == (64 if tensor == 1 else None)  # else DeepSpeed multiplies by all ranks
    assert found["train_micro_batch_size_per_gpu"] * found["gradient_accumulation_steps"] * data == 64


@pytest.mark.parametrize("name", LAYOUTS)
def test_deepspeed_s_own_class_takes_it(launch, monkeypatch, name):
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    asked = launch(**LAYOUTS[name])
    with warnings.catch_warnings(action="ignore"):  # of what DeepSpeed imports
        reason = "DeepSpeed is not installed: keys are compared with their list alone"
        module = pytest.importorskip("deepspeed.runtime.config", reason=reason)
        monkeypatch.setattr(module.dist, "get_rank", lambda: 0)
        data = SimpleNamespace(get_data_parallel_world_size=lambda: asked.job.layout.data_parallel)
        config = module.DeepSpeedConfig(json.loads(settings_for(asked).text), mpu=data)
    assert config.zero_config.stage == asked.job.layout.zero_stage
    assert config.gradient_accumulation_steps == asked.job.micro_batches
    assert config.tensor_parallel_config.autotp_size in {0, asked.job.layout.tensor_parallel}


@pytest.mark.parametrize(
    ("changes", "lack"),
    [
        ({"layout": {"data_parallel": 2, "pipeline_parallel": 8}}, "pipeline parallel"),
        ({"layout": {"data_parallel": 16, "zero_stage": 3, "shard_ranks": 8}}, "MiCS was removed"),
        ({"layout": {"data_parallel": 4, "context_parallel": 4, "zero_stage": 3}}, "context parallel"),
        ({"layout": {"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 3}}, "ZeRO stage 3 beside tensor"),
        ({"dtype": "fp8"}, "fp8"),
        ({"layout": {"data_parallel": 16}, "dtype": "bf16"}, "fp32 gradients of narrow weights at ZeRO stage 0"),
    ],
)
def test_what_it_lacks_is_said_and_no_file_made(launch, changes, lack):
    found = settings_for(launch(**changes))
    assert found.text == ""
    assert any(lack in words for words in found.lacks)


def test_recompute_is_left_to_the_model_s_code(launch):
    found = settings_for(launch(recompute="full"))
    assert found.text
    assert any("full recompute in all layers" in words for words in found.besides)


def test_what_only_code_can_say_is_said(launch):
    tensor = settings_for(launch(layout={"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 2}))
    assert any("same data on all 8 tensor ranks" in words for words in tensor.besides)
    assert any("DeepSpeedCPUAdam" in words for words in settings_for(launch(offload="optimizer")).besides)
