"""Do TRL and axolotl themselves take the files, and is what they make of them the plan?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hwprof.plan.settings import axolotl, trl
from hwprof.specs.job.step import LoraSpec

SUPPORT = Path(__file__).parents[2] / "support"
PACKAGES = os.environ.get("HWPROF_FINETUNING", "")

pytestmark = pytest.mark.skipif(
    not PACKAGES, reason="HWPROF_FINETUNING is no folder that holds TRL and axolotl: `make frameworks` has one"
)

ONE = {"nodes": 1, "devices_per_node": 1, "layout": {}, "global_batch": 16, "micro_batch": 4, "seq_len": 2048}
EIGHT = {"nodes": 1, "devices_per_node": 8, "storage": "pure"}
LORA = ONE | {"lora": LoraSpec(rank=32, targets="query-value")}
FSDP = {"data_parallel": 8, "zero_stage": 3}
PLANS = {
    "full": ONE | {"storage": "pure"},
    "full, looped": ONE | {"storage": "pure", "optimizer_implementation": "foreach", "steps": None},
    "full, computed again": ONE | {"storage": "pure", "recompute": "full"},
    "fp16": ONE | {"storage": "pure", "dtype": "fp16"},
    "fp32": ONE | {"dtype": "fp32", "storage": "autocast"},
    "a CPU": ONE | {"dtype": "fp32", "storage": "autocast", "backend": "cpu", "device": "cpu"},
    "8 bits": ONE | {"storage": "pure", "optimizer": "adamw-8bit"},
    "8 bits in pages": ONE | {"storage": "pure", "optimizer": "adamw-8bit", "optimizer_paged": True},
    "adafactor": ONE | {"storage": "pure", "optimizer": "adafactor"},
    "scores in memory": ONE | {"storage": "pure", "attention": "materialised"},
    "FlashAttention-3": ONE | {"storage": "pure", "attention": "flash-3"},
    "replicas": EIGHT | {"layout": {"data_parallel": 8}},
    "FSDP": EIGHT | {"layout": FSDP, "recompute": "full"},
    "FSDP, stage 2": EIGHT | {"layout": FSDP | {"zero_stage": 2}},
    "FSDP, 8 bits": EIGHT | {"layout": FSDP, "optimizer": "adamw-8bit"},
    "HSDP": {"storage": "pure", "layout": {"data_parallel": 16, "zero_stage": 3, "shard_ranks": 8}},
    "LoRA": LORA | {"recompute": "full"},
    "LoRA, fused": LORA | {"fused": True, "loss": "fused-linear"},
    "LoRA, compiled": LORA | {"compiled": True, "fused": True},
    "QLoRA": ONE | {"lora": LoraSpec(rank=16, quantized=True), "recompute": "full"},
    "QLoRA, FSDP": EIGHT | {"lora": LoraSpec(rank=16, quantized=True), "layout": FSDP},
    "preferences": LORA | {"task": "dpo"},
    "reward": LORA | {"task": "reward"},
}


OPTIMIZERS = {
    "full": "adamw_torch_fused",
    "full, looped": "adamw_torch",
    "8 bits": "adamw_bnb_8bit",
    "8 bits in pages": "paged_adamw_8bit",
    "FSDP, 8 bits": "adamw_torch_8bit",
    "adafactor": "adafactor",
}


def asked_of(launch, changes):
    changes = {"fused": False} | changes
    task = changes.pop("task", "sft")
    return replace(launch(**changes), task=task)


def made(plans, folder):
    """What both make of each file: one process."""
    asked = []
    for name, plan in plans.items():
        for framework, module in (("axolotl", axolotl), ("trl", trl)):
            found = module.settings_for(plan)
            if not found.text:
                assert (framework, plan.job.dtype) == ("axolotl", "fp32") or plan.backend == "cpu", (name, found.lacks)
                continue
            file = folder / f"{framework}-{len(asked)}.yaml"
            file.write_text(found.text)
            own = {"name": f"{framework}: {name}", "framework": framework, "file": str(file)}
            asked.append(own | {"task": plan.task, "devices": plan.devices_per_node})
    search = os.pathsep.join([PACKAGES, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "validated_finetuning.py")],
        input=json.dumps(asked),
        env=os.environ | {"PYTHONPATH": search, "HF_HUB_OFFLINE": "1", "AXOLOTL_DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {each["name"]: each for each in map(json.loads, done.stdout.splitlines()) if each}


def test_every_file_is_taken_and_means_the_plan(launch, tmp_path):
    plans = {name: asked_of(launch, changes) for name, changes in PLANS.items()}
    found = made(plans, tmp_path)
    assert not {name: each["error"] for name, each in found.items() if "error" in each}
    assert len(found) > 40
    wrong = {}
    for name, each in found.items():
        framework, _, plan = name.partition(": ")
        expected = (of_axolotl if framework == "axolotl" else of_trl)(plans[plan])
        seen = each["found"]
        wrong |= {(name, key): (seen.get(key), value) for key, value in expected.items() if seen.get(key) != value}
    assert not wrong, "what they make, what is planned"
    for plan, expected in OPTIMIZERS.items():
        by_trl, by_axolotl = found[f"trl: {plan}"]["found"]["optim"], found[f"axolotl: {plan}"]["found"]["optimizer"]
        assert (by_trl.lower().rpartition(".")[2], by_axolotl) == (expected, expected), plan


def shared(plan):
    job = plan.job
    found = {"gradient_accumulation_steps": job.micro_batches, "bf16": job.dtype == "bf16"}
    found |= {"fp16": job.dtype == "fp16", "torch_compile": job.compiled}
    return found | ({} if plan.steps is None else {"max_steps": plan.steps})


def of_axolotl(plan):
    job, layout = plan.job, plan.job.layout
    sharded = layout.zero_stage > 0
    found = shared(plan) | {
        "micro_batch_size": job.micro_batch // (1 if plan.task == "sft" else 2),
        "sequence_len": job.seq_len,
        "gradient_checkpointing": job.recompute == "full",
        "fsdp_version": 2 if sharded else None,
        "adapter": ("qlora" if job.lora.quantized else "lora") if job.lora else None,
        "dp_shard_size": layout.shards if layout.shards < layout.replicas else None,
        "lora_mlp_kernel": job.fused and not job.compiled if job.lora else None,
        "attn_implementation": KERNELS.get(job.attention, "sdpa" if job.dtype == "fp32" else "flash_attention_2"),
    }
    found |= {"lora_r": job.lora.rank} if job.lora else {}
    if sharded:
        wrapped = {"auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "reshard_after_forward": layout.zero_stage == 3}
        found["fsdp_config"] = {"fsdp_version": 2} | wrapped
    return found


KERNELS = {"materialised": "eager", "flash-3": "flash_attention_3"}


def of_trl(plan):
    job = plan.job
    found = shared(plan) | {
        "per_device_train_batch_size": job.micro_batch // (1 if plan.task == "sft" else 2),
        "max_length": job.seq_len,
        "activation_checkpointing": job.recompute == "full" and not job.layout.zero_stage,
        "attn_implementation": KERNELS.get(job.attention, "sdpa"),
        "use_peft": job.lora is not None,
        "load_in_4bit": bool(job.lora and job.lora.quantized),
        "use_liger_kernel": job.loss == "fused-linear",
    }
    found |= {"packing_strategy": "wrapped" if job.attention != "flash-3" else "bfd"} if plan.task == "sft" else {}
    return found | ({"lora_r": job.lora.rank} if job.lora else {})
