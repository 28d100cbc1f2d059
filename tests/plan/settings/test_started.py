"""Do the frameworks themselves start with the files, and train what was planned? ``make frameworks`` starts them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

from hwprof.plan.settings import accelerate, deepspeed, fsdp2, torchtitan, trl
from hwprof.specs.job.step import LoraSpec

pytestmark = pytest.mark.skipif(
    "HWPROF_START_FRAMEWORKS" not in os.environ, reason="starting takes a minute: `make frameworks` does"
)

ACCELERATE = """
import json, sys, torch
from accelerate import Accelerator
accumulation, micro_batch = int(sys.argv[1]), int(sys.argv[2])
found = Accelerator(gradient_accumulation_steps=accumulation)
model = torch.nn.Linear(8, 8)
model, optimizer = found.prepare(model, torch.optim.AdamW(model.parameters()))
updates = 0
for _ in range(2 * accumulation):
    with found.accumulate(model):
        found.backward(model(torch.randn(micro_batch, 8)).square().mean())
        optimizer.step()
        updates += found.sync_gradients
        optimizer.zero_grad()
if found.is_main_process:
    ranks, kind = found.num_processes, found.distributed_type
    print(json.dumps({"ranks": ranks, "dtype": found.mixed_precision, "updates": updates, "type": kind}))
"""

DEEPSPEED = """
import json, sys, torch, deepspeed
deepspeed.init_distributed("gloo")
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 8))
optimizer = torch.optim.AdamW(model.parameters())
engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=sys.argv[1])
fixed = torch.ones(2, 64, dtype=engine.get_data_types()[0])
before = engine(fixed).detach().float()
for _ in range(2 * engine.gradient_accumulation_steps()):
    batch = torch.randn(engine.train_micro_batch_size_per_gpu(), 64, dtype=engine.get_data_types()[0])
    engine.backward(engine(batch).float().square().mean())
    engine.step()
print(json.dumps({
    "stage": engine.zero_optimization_stage(), "batch": engine.train_batch_size(), "steps": engine.global_steps,
    "accumulation": engine.gradient_accumulation_steps(), "types": [str(each) for each in engine.get_data_types()],
    "changed": bool((engine(fixed).detach().float() != before).any()),
}))
"""


SUPPORT = Path(__file__).parents[2] / "support"
TWO = {"nodes": 1, "devices_per_node": 2, "steps": 2, "seq_len": 64, "global_batch": 8, "storage": "narrowed"}


def lines(command, **environment):
    """The lines of JSON that a program prints."""
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=600, check=False
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, done.stderr[-3000:]
    return found


def printed(command, **environment):
    """The last of them."""
    return lines(command, **environment)[-1]


def test_accelerate_takes_two_steps_with_the_accumulation_of_the_plan(launch, tmp_path):
    asked = launch(backend="cpu", nodes=1, devices_per_node=1, layout={}, dtype="bf16", global_batch=16, micro_batch=2)
    config, program = tmp_path / "accelerate.yaml", tmp_path / "train.py"
    config.write_text(accelerate.settings_for(asked).text)
    program.write_text(ACCELERATE)
    job = asked.job
    words = ["-m", "accelerate.commands.launch", "--config_file", str(config), "--main_process_port", "0", str(program)]
    found = printed([sys.executable, *words, str(job.micro_batches), str(job.micro_batch)], CUDA_VISIBLE_DEVICES="")
    assert found == {"ranks": 1, "dtype": "bf16", "updates": 2, "type": "NO"}
    assert job.micro_batches * job.micro_batch == 16


@pytest.mark.parametrize(
    ("stage", "changes", "types"),
    [
        (0, {"storage": "pure"}, ["torch.bfloat16", "torch.bfloat16"]),
        (1, {"storage": "mixed"}, ["torch.bfloat16", "torch.float32"]),
        (2, {"storage": "mixed"}, ["torch.bfloat16", "torch.float32"]),
        (3, {"storage": "mixed", "gradient_bytes": 2}, ["torch.bfloat16", "torch.bfloat16"]),
    ],
)
def test_deepspeed_takes_two_steps_at_every_stage(launch, tmp_path, stage, changes, types):
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed")
    asked = launch(nodes=1, devices_per_node=1, layout={"zero_stage": stage}, global_batch=8, micro_batch=4, **changes)
    config, program = tmp_path / "deepspeed.json", tmp_path / "train.py"
    config.write_text(deepspeed.settings_for(asked).text)
    program.write_text(DEEPSPEED)
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29561"}
    found = printed([sys.executable, str(program), str(config)], DS_ACCELERATOR="cpu", **alone)
    assert (found["stage"], found["batch"], found["accumulation"], found["steps"]) == (stage, 8, 2, 2)
    assert found["types"][:2] == types
    assert found["changed"]


TITAN = {
    "fsdp": {
        "layout": {"data_parallel": 2, "zero_stage": 3},
        "recompute": "full",
        "recompute_layers": 16,
        "micro_batch": 2,
    },
    "zero 2": {"layout": {"data_parallel": 2, "zero_stage": 2}},
    "ddp": {"layout": {"data_parallel": 2}, "storage": "autocast"},
    "tp": {"layout": {"tensor_parallel": 2}},
    "interleaved": {
        "layout": {"pipeline_parallel": 2, "schedule": "interleaved", "virtual_stages": 2},
        "recompute": "full",
    },
    "zero bubble": {"layout": {"pipeline_parallel": 2, "schedule": "zb-v"}, "fused": False},
}
SCHEDULES = {"interleaved": "ScheduleInterleaved1F1B", "zero bubble": "ScheduleZBVZeroBubble"}


def test_torchtitan_takes_two_steps_of_each_kind_of_plan(launch, tmp_path):
    for needed in ("torchtitan", "triton"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    plans = {name: launch(**(TWO | changes)) for name, changes in TITAN.items()}
    for name, asked in plans.items():
        (tmp_path / f"{name}.toml").write_text(torchtitan.settings_for(asked).text)
    files = [str(tmp_path / f"{name}.toml") for name in plans]
    found = {
        Path(each["file"]).stem: each for each in lines([sys.executable, SUPPORT / "tiny_torchtitan.py", "2", *files])
    }
    assert set(found) == set(plans)
    for name, asked in plans.items():
        job, layout, read = asked.job, asked.job.layout, found[name]
        shard = layout.shards if layout.zero_stage else 1
        degrees = [layout.data_parallel // shard, shard, 1, layout.tensor_parallel, layout.pipeline_parallel]
        assert read["degrees"] == [*degrees, layout.expert_parallel], name
        assert (read["steps"], read["tokens"], read["micro_batches"]) == (2, 2 * 8 * 64, job.micro_batches), name
        layers = 0 if job.recompute == "none" else job.recompute_layers or job.model.layers
        assert read["recomputed_layers"] == layers, name
        assert read["chunks"] == layout.chunks, name
        assert read["schedule"] == SCHEDULES.get(name, ""), name
        if layout.zero_stage:
            assert (read["products"], read["gradients"]) == (["torch.bfloat16"], ["torch.float32"]), name
            assert read["whole_copies"] == 1.0, name


def test_accelerate_shards_over_two_ranks_what_was_planned(launch, tmp_path):
    asked = launch(**(TWO | {"layout": {"data_parallel": 2, "zero_stage": 3}, "recompute": "full", "micro_batch": 2}))
    config = tmp_path / "accelerate.yaml"
    config.write_text(accelerate.settings_for(asked).text)
    found = printed([sys.executable, SUPPORT / "tiny_accelerate.py", config, "2", "2"])
    assert (found["type"], found["ranks"], found["dtype"]) == ("FSDP", 2, "bf16")
    assert (found["updates"], found["sequences"]) == (2, 2 * asked.job.global_batch)
    assert (found["whole_copies"], found["recomputed_layers"]) == (1.0, 4)
    assert found["products"] == ["torch.bfloat16"]


PLAIN = """
import json, os, sys, torch
import torch.distributed as dist
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointWrapper
from torch.distributed.fsdp import FSDPModule
import fsdp2
shapes, made = [], fsdp2.batches
def counted(*given):
    for each in made(*given):
        shapes.append(list(each.shape))
        yield each
fsdp2.batches = counted
model, _ = fsdp2.main(sys.argv[1:])
modules = list(model.modules())
policies = {each._get_fsdp_state()._mp_policy for each in modules if isinstance(each, FSDPModule)}
local = torch.tensor(sum(getattr(each, "_local_tensor", each).numel() for each in model.parameters()))
dist.all_reduce(local)
if dist.get_rank() == 0:
    print("\\n" + json.dumps({
        "kind": type(model).__name__,
        "copies": int(local) / sum(each.numel() for each in model.parameters()),
        "recomputed": sum(isinstance(each, CheckpointWrapper) for each in modules),
        "formats": sorted({(str(each.param_dtype), str(each.reduce_dtype)) for each in policies}),
        "batches": [len(shapes), *shapes[0]],
        "weights": sorted({str(each.dtype) for each in model.parameters()}),
        "rotary": bool(torch.isfinite(next(each for name, each in model.named_buffers() if "inv_freq" in name)).all()),
    }), flush=True)
dist.barrier()
os._exit(0)  # all is said; gloo's threads may abort a process that takes its group apart (torch 2.13)
"""


@pytest.mark.parametrize(
    ("changes", "kind", "copies"),
    [
        ({"layout": {"data_parallel": 2, "zero_stage": 3}, "recompute": "full", "recompute_layers": 3}, "FSDP", 1.0),
        ({"layout": {"data_parallel": 2}, "storage": "autocast"}, "DistributedDataParallel", 2.0),
    ],
)
def test_plain_torch_trains_what_was_planned(launch, tmp_path, changes, kind, copies):
    asked = launch(**(TWO | changes | {"compiled": False, "micro_batch": 2}))
    (tmp_path / "fsdp2.py").write_text(fsdp2.settings_for(asked).text)
    (tmp_path / "check.py").write_text(PLAIN)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4}
    more = {"model_type": "llama", "vocab_size": 64, "num_hidden_layers": 6, "max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(sizes | more))
    (tmp_path / "ids.bin").write_bytes(array("I", [index % 64 for index in range(4096)]).tobytes())
    words = ["--model", str(tmp_path / "config.json"), "--tokens", str(tmp_path / "ids.bin")]
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    found = printed([*start, str(tmp_path / "check.py"), *words], CUDA_VISIBLE_DEVICES="")
    assert found["kind"].startswith(kind)
    assert found["copies"] == pytest.approx(copies, rel=0.01)
    assert found["recomputed"] == (3 if kind == "FSDP" else 0)
    assert found["formats"] == ([["torch.bfloat16", "torch.float32"]] if kind == "FSDP" else [])
    assert found["rotary"]
    # two steps of 8 sequences on two ranks, 2 at a time
    assert found["batches"] == [4, 2, 64]
    assert found["weights"] == ["torch.float32"]  # and so are the gradients of replicas


@pytest.mark.skipif("HWPROF_FINETUNING" not in os.environ, reason="HWPROF_FINETUNING names no folder with TRL")
def test_trl_trains_the_adapters_of_the_plan(launch, tmp_path):
    own = {"nodes": 1, "devices_per_node": 1, "layout": {}, "backend": "cpu", "device": "cpu", "storage": "autocast"}
    own |= {"lora": LoraSpec(rank=4, targets="query-value"), "recompute": "full", "micro_batch": 2}
    asked = launch(**(TWO | own))
    (tmp_path / "trl.yaml").write_text(trl.settings_for(asked).text)
    search = os.pathsep.join([os.environ["HWPROF_FINETUNING"], os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, SUPPORT / "tiny_trl.py", tmp_path / "trl.yaml"]
    found = printed(command, PYTHONPATH=search, HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
    assert (found["steps"], found["shapes"], found["passes"]) == (2, [[2, 64]], 2 * asked.job.micro_batches)
    assert (found["modules"], found["ranks"], found["frozen"]) == (["q_proj", "v_proj"], [4], "torch.bfloat16")
    assert (found["optimizer"], found["fused"], found["recomputed"]) == ("AdamW", True, True)
