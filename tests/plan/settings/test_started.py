"""Do the frameworks themselves start with the files, and train what was planned? ``make frameworks`` starts them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from hwprof.plan.settings import accelerate, deepspeed

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


def printed(command, **environment):
    """The last line that a program prints, as JSON."""
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))


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
