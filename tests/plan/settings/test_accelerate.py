"""Does Accelerate read its file, and does the plan come out of it?"""

from __future__ import annotations

import warnings

import pytest

from hwprof.plan.settings.accelerate import settings_for

with warnings.catch_warnings(action="ignore"):  # of what Accelerate imports
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.parallelism_config import ParallelismConfig
    from accelerate.utils.launch import prepare_multi_gpu_env

LAYOUTS = {
    "fsdp": {},
    "zero 2": {"layout": {"data_parallel": 16, "zero_stage": 2}, "recompute": "full"},
    "hsdp": {"layout": {"data_parallel": 16, "zero_stage": 3, "shard_ranks": 8}},
    "tensor": {"layout": {"data_parallel": 2, "tensor_parallel": 8, "zero_stage": 3}},
    "context": {"layout": {"data_parallel": 4, "context_parallel": 4, "zero_stage": 3}},
}


def read(launch, tmp_path, **changes):
    path = tmp_path / "accelerate.yaml"
    path.write_text(settings_for(launch(**changes)).text)
    return path, load_config_from_file(str(path))


@pytest.mark.parametrize("name", LAYOUTS)
def test_accelerate_launch_takes_it_and_the_degrees_come_out(launch, tmp_path, monkeypatch, name):
    path, config = read(launch, tmp_path, **LAYOUTS[name])
    layout = launch(**LAYOUTS[name]).job.layout
    assert (config.num_processes, config.num_machines, config.distributed_type) == (16, 2, "FSDP")
    args = launch_command_parser().parse_args(["--config_file", str(path), "--main_process_ip", "10.0.0.1", "train.py"])
    args.nondefault = {}
    args, _, _ = _validate_launch_command(args)
    for key, value in prepare_multi_gpu_env(args).items():
        if key.startswith(("PARALLELISM_CONFIG_", "FSDP_")):
            monkeypatch.setenv(key, value)
            if key == "FSDP_VERSION":
                assert value == "2"
            if key == "FSDP_ACTIVATION_CHECKPOINTING":
                assert (value.lower() == "true") == (LAYOUTS[name].get("recompute") == "full")
    degrees = ParallelismConfig()
    assert degrees.total_size == 16
    assert degrees.dp_shard_size * degrees.cp_size == layout.shards
    assert (degrees.tp_size, degrees.cp_size) == (layout.tensor_parallel, layout.context_parallel)


def test_one_cpu_needs_no_fsdp(launch, tmp_path):
    one = {"backend": "cpu", "nodes": 1, "devices_per_node": 1, "layout": {}, "dtype": "fp32"}
    _, config = read(launch, tmp_path, **one)
    assert (config.distributed_type, config.use_cpu, config.mixed_precision) == ("NO", True, "no")


def test_replicas_alone_are_ddp(launch, tmp_path):
    _, config = read(launch, tmp_path, layout={"data_parallel": 16})
    assert (config.distributed_type, config.fsdp_config) == ("MULTI_GPU", {})


def test_batches_are_left_to_the_code(launch):
    found = settings_for(launch(micro_batch=2))
    assert any("gradient_accumulation_steps=2" in words for words in found.besides)


@pytest.mark.parametrize(
    ("changes", "lack"),
    [
        ({"layout": {"data_parallel": 16, "zero_stage": 1}}, "ZeRO stage 1"),
        ({"layout": {"data_parallel": 2, "tensor_parallel": 8}}, "tensor and context parallel without FSDP"),
        ({"layout": {"data_parallel": 2, "pipeline_parallel": 8, "zero_stage": 3}}, "pipeline parallel"),
        ({"recompute": "full", "recompute_layers": 5}, "recompute in just these layers"),
        ({"offload": "optimizer"}, "offload of optimizer alone"),
    ],
)
def test_what_it_lacks_is_said_and_no_file_made(launch, changes, lack):
    found = settings_for(launch(**changes))
    assert found.text == ""
    assert any(lack in words for words in found.lacks)


def test_gradients_are_sharded_and_reduced_as_planned_if_code_says_so(launch):
    found = settings_for(launch(micro_batch=2)).besides
    assert any("sync_each_batch=True" in words for words in found)
    assert any("reduce_dtype=torch.float32" in words for words in found)
    narrow = settings_for(launch(micro_batch=4, storage="pure")).besides
    assert not any("sync_each_batch" in words or "reduce_dtype" in words for words in narrow)
    layout = {"data_parallel": 2, "tensor_parallel": 4, "context_parallel": 2, "zero_stage": 3}
    degrees = settings_for(launch(layout=layout)).besides
    assert any('tp_plan="auto"' in words for words in degrees)
    assert any("maybe_context_parallel" in words for words in degrees)
