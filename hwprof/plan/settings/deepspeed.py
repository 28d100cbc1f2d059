"""How is a plan told to DeepSpeed? Its JSON file.

Keys and their meaning: DeepSpeed 0.19.8, ``deepspeed/runtime/config.py``, ``runtime/zero/config.py``,
``runtime/tensor_parallel/config.py``; https://www.deepspeed.ai/docs/config-json/.
"""

from __future__ import annotations

import json
from typing import Any

from hwprof.plan.settings.launch import Launch, Settings, told
from hwprof.specs.job.step import TrainingJob

FRAMEWORK = "DeepSpeed 0.19"
FILE_NAME = "deepspeed.json"

_FORMATS = {"bf16": "bf16", "fp16": "fp16", "fp32": "fp32"}


def settings_for(launch: Launch) -> Settings:
    """The JSON file, or what it can't say."""
    job = launch.job
    lacks = told(_missing(launch))
    if lacks:
        return Settings(framework=FRAMEWORK, file_name=FILE_NAME, lacks=lacks)
    text = json.dumps(_tables(job), indent=2) + "\n"
    return Settings(framework=FRAMEWORK, file_name=FILE_NAME, text=text, besides=told(_besides(job)))


def _missing(launch: Launch) -> list[tuple[bool, str]]:
    job, layout = launch.job, launch.job.layout
    fewer = layout.zero_stage > 0 and layout.shards < layout.replicas
    return [
        (launch.backend == "other", f"device {launch.device}"),
        (layout.pipeline_parallel > 1, "pipeline parallel: its PipelineModule is set in code"),
        (layout.context_parallel > 1, f"context parallel by {layout.context_kind}: it has Ulysses, set in code"),
        (layout.expert_parallel > 1, "expert parallel of this kind"),
        (fewer, "ZeRO over fewer than all replicas: MiCS was removed"),
        (layout.tensor_parallel > 1 and layout.zero_stage == 3, "ZeRO stage 3 beside tensor parallel"),
        (job.dtype not in _FORMATS, f"{job.dtype} training"),
        (_wide_gradients(job) and layout.zero_stage == 0, "fp32 gradients of narrow weights at ZeRO stage 0"),
        (job.offload == "activations", "offload of activations in all layers"),
        (job.offload == "optimizer" and layout.zero_stage == 0, "offload of the optimizer without ZeRO"),
        (job.offload == "weights" and layout.zero_stage < 3, "offload of weights below ZeRO stage 3"),
    ]


def _wide_gradients(job: TrainingJob) -> bool:
    return job.dtype != "fp32" and job.gradient_bytes != 2 and job.storage != "pure"


def _besides(job: TrainingJob) -> list[tuple[bool, str]]:
    again = "all" if job.recompute_layers is None else str(job.recompute_layers)
    return [
        (True, f"optimizer {job.optimizer} with its learning rate"),
        (job.recompute != "none", f"{job.recompute} recompute in {again} layers, in the model's code"),
        (job.lora is not None, "adapters, in the model's code (PEFT)"),
        (job.attention == "flash", "flash attention, in the model's code"),
        (job.offload == "optimizer", "DeepSpeedCPUAdam as the optimizer"),
        (
            job.layout.tensor_parallel > 1,
            f"the same data on all {job.layout.tensor_parallel} tensor ranks; DeepSpeed counts it on each of them",
        ),
    ]


def _tables(job: TrainingJob) -> dict[str, Any]:
    layout = job.layout
    found: dict[str, Any] = {
        **({} if layout.tensor_parallel > 1 else {"train_batch_size": job.global_batch}),
        "train_micro_batch_size_per_gpu": job.micro_batch,
        "gradient_accumulation_steps": job.micro_batches,
        "zero_optimization": _zero(job),
    }
    if job.dtype != "fp32":
        found[_FORMATS[job.dtype]] = {"enabled": True}
    if _wide_gradients(job):
        found["data_types"] = {"grad_accum_dtype": "fp32"}
    if layout.tensor_parallel > 1:
        found["tensor_parallel"] = {"autotp_size": layout.tensor_parallel}
    return found


def _zero(job: TrainingJob) -> dict[str, Any]:
    layout = job.layout
    table: dict[str, Any] = {"stage": layout.zero_stage}
    if layout.zero_stage:
        table["overlap_comm"] = layout.overlap
    if job.offload == "optimizer":
        table["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if job.offload == "weights":
        table["offload_param"] = {"device": "cpu", "pin_memory": True}
    return table
