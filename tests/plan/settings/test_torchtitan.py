"""Does torchtitan's own configuration class take the file, and does the file say what the plan is?

The class is that of an installed torchtitan 0.2; without one, its keys and values as they are listed here.
"""

from __future__ import annotations

import importlib.util
import sys
import tomllib
import warnings
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import pytest
from pydantic import TypeAdapter

from hwprof.plan.settings.torchtitan import FLAVORS, settings_for
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.step import LoraSpec

KEYS = {
    "model": {"name": str, "flavor": str, "converters": list},
    "optimizer": {"name": str},
    "training": {
        "local_batch_size": int,
        "global_batch_size": int,
        "seq_len": int,
        "dtype": str,
        "mixed_precision_param": str,
        "steps": int,
    },
    "parallelism": {
        "data_parallel_replicate_degree": int,
        "data_parallel_shard_degree": int,
        "fsdp_reshard_after_forward": str,
        "tensor_parallel_degree": int,
        "enable_async_tensor_parallel": bool,
        "context_parallel_degree": int,
        "context_parallel_rotate_method": str,
        "pipeline_parallel_degree": int,
        "pipeline_parallel_schedule": str,
        "pipeline_parallel_microbatch_size": int,
        "pipeline_parallel_layers_per_stage": int,
        "pipeline_parallel_first_stage_less_layers": int,
        "pipeline_parallel_last_stage_less_layers": int,
        "expert_parallel_degree": int,
        "expert_tensor_parallel_degree": int,
    },
    "activation_checkpoint": {"mode": str, "selective_ac_option": str},
    "compile": {"enable": bool},
    "quantize": {
        "linear": {"float8": {"recipe_name": str, "filter_fqns": list, "enable_fsdp_float8_all_gather": bool}}
    },
}
"""Keys of torchtitan 0.2.2, torchtitan/config/job_config.py (https://pypi.org/project/torchtitan/0.2.2/)."""

LAYOUTS = {
    "fsdp": {"layout": {"data_parallel": 16, "zero_stage": 3}},
    "hsdp": {"layout": {"data_parallel": 16, "zero_stage": 3, "shard_ranks": 8}},
    "zero2 tp": {"layout": {"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 2}},
    "ddp": {"layout": {"data_parallel": 16}},
    "cp": {"layout": {"data_parallel": 4, "context_parallel": 4, "zero_stage": 3}},
    "pipeline": {
        "layout": {
            "data_parallel": 2,
            "pipeline_parallel": 8,
            "zero_stage": 3,
            "schedule": "interleaved",
            "virtual_stages": 2,
        },
        "micro_batch": 2,
    },
    "every second layer": {"recompute": "full", "recompute_layers": 16},
    "fp8": {"dtype": "fp8", "recompute": "full"},
    "async tp": {"layout": {"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 3}, "async_tensor_parallel": True}
    | {"compiled": True, "fused": True},
    "experts": {
        "model": "deepseek-v2-lite",
        "layout": {"data_parallel": 16, "expert_parallel": 8, "zero_stage": 3},
        "seq_len": 4096,
    },
}


def check_listed(table, keys, place=""):
    for name, value in table.items():
        assert name in keys, f"{place}{name}"
        if isinstance(value, dict):
            check_listed(value, keys[name], f"{place}{name}.")
        else:
            assert type(value) is keys[name], f"{place}{name}"


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_key_is_one_of_torchtitan(launch, name):
    check_listed(tomllib.loads(settings_for(launch(**LAYOUTS[name])).text), KEYS)


@pytest.fixture(scope="session")
def job_config():
    """torchtitan's class, without the rest of torchtitan, which needs a GPU's libraries."""
    found = importlib.util.find_spec("torchtitan")
    if found is None or not found.submodule_search_locations:
        pytest.skip("torchtitan is not installed: keys are compared with their list alone")
    path = Path(found.submodule_search_locations[0]) / "config" / "job_config.py"
    if not path.exists():
        pytest.skip("this torchtitan is not of 0.2, the releases that read TOML")
    spec = importlib.util.spec_from_file_location("torchtitan_job_config", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    package = ModuleType("torchtitan")  # its own __init__ needs Triton
    package.__path__ = list(found.submodule_search_locations)
    with warnings.catch_warnings(action="ignore"), pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchtitan", package)
        spec.loader.exec_module(module)
    return module.JobConfig


def check_typed(table, kind):
    hints = get_type_hints(kind)
    assert set(table) <= {field.name for field in fields(kind)}
    for name, value in table.items():
        if is_dataclass(hints[name]):
            check_typed(value, hints[name])
        else:
            TypeAdapter(hints[name]).validate_python(value, strict=True)


@pytest.mark.parametrize("name", LAYOUTS)
def test_torchtitan_s_own_class_takes_every_value(launch, job_config, name):
    check_typed(tomllib.loads(settings_for(launch(**LAYOUTS[name])).text), job_config)


@pytest.mark.parametrize("name", LAYOUTS)
def test_degrees_multiply_to_the_devices_and_batches_to_the_global_batch(launch, name):
    asked = launch(**LAYOUTS[name])
    found = tomllib.loads(settings_for(asked).text)
    degrees, training = found["parallelism"], found["training"]
    data = degrees["data_parallel_replicate_degree"] * degrees["data_parallel_shard_degree"]
    rest = [degrees[f"{kind}_parallel_degree"] for kind in ("tensor", "context", "pipeline")]
    assert data * rest[0] * rest[1] * rest[2] == 16
    assert training["global_batch_size"] % (training["local_batch_size"] * data) == 0
    if degrees["pipeline_parallel_degree"] > 1:
        local = training["local_batch_size"] // degrees["pipeline_parallel_microbatch_size"]
        assert local == asked.job.micro_batches == 16


def test_uneven_chunks_count_embedding_and_head(launch):
    layout = {"data_parallel": 1, "pipeline_parallel": 16, "zero_stage": 0}
    text = settings_for(launch("llama-3.1-405b", layout=layout, global_batch=32)).text
    table = tomllib.loads(text)["parallelism"]
    # 126 layers and two ends on 16 stages: 8 each
    assert table["pipeline_parallel_layers_per_stage"] == 8
    assert table["pipeline_parallel_first_stage_less_layers"] == 1


@pytest.mark.parametrize(
    ("changes", "lack"),
    [
        ({"layout": {"data_parallel": 16, "zero_stage": 1}}, "ZeRO stage 1"),
        ({"layout": {"data_parallel": 2, "tensor_parallel": 8}}, "ZeRO stage 0"),
        ({"model": "gpt3-175b", "seq_len": 2048}, "model gpt3-175b"),
        ({"recompute": "full", "recompute_layers": 5}, "recompute in just these layers"),
        ({"layout": {"data_parallel": 2, "pipeline_parallel": 8, "schedule": "zb-h1"}}, "schedule zb-h1"),
        ({"dtype": "fp4"}, "fp4"),
        (
            {
                "model": "deepseek-v2-lite",
                "seq_len": 4096,
                "layout": {
                    "data_parallel": 4,
                    "tensor_parallel": 4,
                    "expert_parallel": 2,
                    "expert_tensor": 2,
                    "zero_stage": 3,
                },
            },
            "2 devices an expert",
        ),
        (
            {"layout": {"data_parallel": 1, "pipeline_parallel": 16, "schedule": "zb-v"}},
            "schedule zb-v with compiled kernels",
        ),
        (
            {"model": "deepseek-v3", "layout": {"data_parallel": 8, "context_parallel": 2, "zero_stage": 3}},
            "context parallel with its flex attention",
        ),
        ({"recompute": "selective", "selective": ("core_attn",)}, "recompute in just these layers"),
        ({"model": "qwen3-8b", "layout": {"data_parallel": 2, "pipeline_parallel": 8}}, "qwen3-8b in a pipeline"),
        ({"backend": "cpu", "device": "cpu", "dtype": "fp32"}, "device cpu"),
        ({"dtype": "fp8", "fp8_recipe": "delayed"}, "fp8 by delayed"),
        ({"storage": "narrowed", "gradient_bytes": 2}, "gradients reduced in 16 bits"),
        ({"storage": "mixed"}, "fp32 masters"),
        ({"lora": LoraSpec(rank=8)}, "adapters"),
        ({"backend": "other", "device": "tpu-v5p"}, "tpu-v5p"),
    ],
)
def test_what_it_lacks_is_said_and_no_file_made(launch, changes, lack):
    found = settings_for(launch(**changes))
    assert found.text == ""
    assert any(lack in words for words in found.lacks)


def test_layers_and_widths_of_flavors_are_those_of_the_catalogue():
    for name, (_, _, layers, d_model) in FLAVORS.items():
        spec = load_model(name)
        assert (spec.layers, spec.d_model) == (layers, d_model), name


def test_formats_are_those_of_the_plan(launch):
    def read(**changes):
        return tomllib.loads(settings_for(launch(**changes)).text)

    tensors = read(dtype="fp8", fp8_all_gather=True)["quantize"]["linear"]["float8"]
    assert tensors == {"recipe_name": "tensorwise", "filter_fqns": ["output"], "enable_fsdp_float8_all_gather": True}
    assert read(dtype="fp8", fp8_recipe="rowwise")["quantize"]["linear"]["float8"]["recipe_name"] == "rowwise"
    assert read(storage="pure")["training"]["dtype"] == "bfloat16"
    assert read()["training"]["dtype"] == "float32"
