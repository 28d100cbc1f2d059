"""Does Megatron-LM itself take the argument lists, and make the plan's groups, widths and weights of them?

Its ``validate_args`` runs for a checkout, or for the wheel of Megatron-Core (from 0.17 on), unpacked.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from megatron_plans import MEGATRON_PLANS
from twenty_plans import PLANS

from hwprof.count.blocks.parameters import parameters
from hwprof.plan.settings.megatron import settings_for

SUPPORT = Path(__file__).parents[2] / "support"
CHECKOUT = os.environ.get("HWPROF_MEGATRON_LM", "")
CAPABILITIES = {"ampere": (8, 0), "blackwell": (10, 0)}

pytestmark = pytest.mark.skipif(
    not CHECKOUT, reason="HWPROF_MEGATRON_LM is no folder that holds `megatron/training`: `make frameworks` has one"
)


def asked_of(launch):
    """Every plan that it can be told."""
    twenty = {name: launch(**changes) for name, changes in PLANS.items()}
    own = {name: launch(**({"storage": "mixed"} | changes)) for name, changes in MEGATRON_PLANS.items()}
    written = {name: asked for name, asked in twenty.items() if settings_for(asked).text}
    assert len(written) >= 12
    return written | own


def arguments(name, asked):
    text = settings_for(asked).text
    assert text, (name, settings_for(asked).lacks)
    words = shlex.split(text.replace("\\\n", ""), comments=True)
    queues = {"CUDA_DEVICE_MAX_CONNECTIONS": "1"} if "export CUDA_DEVICE_MAX_CONNECTIONS=1" in text else {}
    return {
        "name": name,
        "arguments": words[words.index("pretrain_gpt.py") + 1 : -1],
        "devices": asked.devices,
        "capability": CAPABILITIES.get(asked.architecture, (9, 0)),
        "queues": queues,
    }


def validated(plans):
    """What Megatron makes of each: one process for all."""
    command = [sys.executable, str(SUPPORT / "validated_megatron.py"), CHECKOUT]
    sent = json.dumps([arguments(name, asked) for name, asked in plans.items()])
    done = subprocess.run(command, input=sent, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {each["name"]: each for each in found}


def test_every_list_is_taken_and_means_the_plan(launch):
    plans = asked_of(launch)
    made = validated(plans)
    refused = {name: (found["error"], found["at"]) for name, found in made.items() if "error" in found}
    assert not refused
    assert set(made) == set(plans)
    wrong = {}
    for name, found in made.items():
        asked = plans[name]
        said_stays(name, asked, found)
        expected = groups(asked.job) | batch(asked) | widths(asked.job) | recompute(asked.job)
        expected |= weights(asked.job) if found["weights"] else {}
        seen = (
            found["groups"]
            | found["args"]
            | {"weights": found["weights"], "reduced": found["ddp"]["grad_reduce_in_fp32"]}
        )
        wrong |= {(name, key): (seen[key], value) for key, value in expected.items() if seen[key] != value}
    assert not wrong, "what Megatron makes, what is planned"
    assert sum(bool(found["weights"]) for found in made.values()) >= 50


def said_stays(name, asked, found):
    """Its checks change nothing of what was said."""
    names = [word[2:].replace("-", "_") for word in arguments(name, asked)["arguments"] if word.startswith("--")]
    for key in set(names) & set(found["said"]) & set(found["args"]):
        before, after = found["said"][key], found["args"][key]
        assert before in (after, [after]), (name, key)


def groups(job):
    layout = job.layout
    found = {
        "data": layout.data_parallel,
        "data_and_context": layout.replicas,
        "shards": layout.shards if layout.zero_stage else layout.replicas,
        "tensor_model_parallel_size": layout.tensor_parallel,
        "pipeline_model_parallel_size": layout.pipeline_parallel,
        "virtual_pipeline_model_parallel_size": layout.virtual_stages if layout.schedule == "interleaved" else None,
        "context_parallel_size": layout.context_parallel,
        "sequence_parallel": layout.tensor_parallel > 1 and layout.sequence_parallel,
        "use_distributed_optimizer": layout.zero_stage > 0,
        "use_megatron_fsdp": layout.zero_stage > 1,
        "overlap_grad_reduce": layout.overlap and layout.replicas > 1 and job.optimizer != "muon",
    }
    experts = {"expert": layout.expert_parallel, "expert_tensor": layout.expert_tensor_parallel}
    return found | (experts if job.model.moe else {})


def batch(asked):
    job = asked.job
    found = {"micro_batch_size": job.micro_batch, "global_batch_size": job.global_batch, "seq_length": job.seq_len}
    return found | {"data_parallel_size": job.layout.data_parallel, "train_iters": asked.steps}


def widths(job):
    """fp32 gradients of fp32 weights need no argument."""
    wide = job.gradient_bytes != 2 and job.dtype != "fp32"
    return {
        "reduced": wide,
        "bf16": job.dtype not in {"fp16", "fp32"},
        "fp8": ("e4m3" if job.narrow_recipe in {"blockwise", "mxfp8"} else "hybrid") if job.dtype == "fp8" else None,
        "fp8_param_gather": job.dtype == "fp8" and job.fp8_all_gather,
        "fp8_recipe": job.narrow_recipe if job.dtype == "fp8" else "delayed",
        "fp4": "e2m1" if job.dtype == "fp4" else None,
        "cross_entropy_loss_fusion": job.loss == "fused",
        "overlap_moe_expert_parallel_comm": job.expert_overlap,
        "tp_comm_overlap": job.async_tensor_parallel,
        "optimizer_cpu_offload": job.offload == "optimizer",
    }


def recompute(job):
    full, chunks = job.recompute == "full", job.layout.pipeline_parallel * job.layout.virtual_stages
    partly = full and job.recompute_layers is not None
    each = -(-job.recompute_layers // chunks) if partly else 1
    return {
        "recompute_granularity": None if job.recompute == "none" else job.recompute,
        "recompute_method": ("block" if partly else "uniform") if full else None,
        "recompute_num_layers": each if full else None,
    } | ({"recompute_modules": list(job.selective)} if job.recompute == "selective" else {})


def weights(job):
    """hwprof's own count and the rows that pad the vocabulary to a multiple of 128 a tensor rank."""
    model, rows = job.model, 128 * job.layout.tensor_parallel
    padding = -model.vocab_size % rows * model.d_model * (1 if model.tied_embeddings else 2)
    return {"weights": parameters(model).total + padding}
