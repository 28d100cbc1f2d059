"""How is a plan told to Hugging Face Accelerate? The YAML file of ``accelerate launch``, with FSDP2.

Keys and their meaning: accelerate 1.15, ``accelerate/commands/config/config_args.py``, ``parallelism_config.py``;
https://huggingface.co/docs/accelerate/package_reference/cli.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from hwprof.plan.settings.launch import Launch, Settings, told
from hwprof.specs.job.step import TrainingJob

FRAMEWORK = "Accelerate 1.15 (FSDP2)"
FILE_NAME = "accelerate.yaml"

_FORMATS = {"bf16": "bf16", "fp16": "fp16", "fp32": "no", "fp8": "fp8"}
_FP8 = {"tensorwise": "AO", "delayed": "TE"}
"""Recipe -> ``fp8_config.backend``: torchao scales whole tensors, Transformer Engine by the maxima of earlier steps."""

_ROTATIONS = {"all-gather": "allgather", "ring": "alltoall"}

Table = Mapping[str, object]


def settings_for(launch: Launch) -> Settings:
    """The YAML file, or what it can't say."""
    lacks = told(_missing(launch))
    if lacks:
        return Settings(framework=FRAMEWORK, file_name=FILE_NAME, lacks=lacks)
    lines = [f"# {line}" for line in launch.about] + yaml_lines(_tables(launch))
    besides = told(_besides(launch))
    return Settings(framework=FRAMEWORK, file_name=FILE_NAME, text="\n".join(lines) + "\n", besides=besides)


def _missing(launch: Launch) -> list[tuple[bool, str]]:
    job, layout = launch.job, launch.job.layout
    beyond_data = layout.tensor_parallel * layout.context_parallel > 1
    partly = job.recompute != "none" and (job.recompute_layers or job.model.layers) < job.model.layers
    return [
        (launch.backend == "other", f"device {launch.device}"),
        (launch.backend == "cpu" and launch.devices > 1, "several processes on a CPU: its launcher starts one"),
        (launch.backend == "cpu" and (layout.zero_stage > 0 or beyond_data), "sharding on a CPU"),
        (layout.pipeline_parallel > 1, "pipeline parallel"),
        (layout.expert_parallel > 1, "expert parallel"),
        (layout.zero_stage == 1, "ZeRO stage 1: FSDP2 shards gradients with the optimizer state"),
        (layout.zero_stage == 0 and beyond_data, "tensor and context parallel without FSDP"),
        (layout.shards % layout.context_parallel != 0, "shards over part of a context group"),
        (layout.shards == layout.context_parallel and layout.data_parallel > 1, "data parallel beside a context group"),
        (layout.context_kind not in _ROTATIONS, f"context parallel by {layout.context_kind}"),
        (job.dtype not in _FORMATS, f"{job.dtype} training"),
        (job.dtype == "fp8" and job.narrow_recipe not in _FP8, f"fp8 by {job.narrow_recipe}"),
        (job.offload != "none", f"offload of {job.offload} alone"),
        (layout.zero_stage > 0 and not layout.overlap, "traffic that is not beside compute"),
        (job.recompute == "selective" or partly, "recompute in just these layers"),
        (job.recompute != "none" and layout.zero_stage == 0, "recompute without FSDP"),
    ]


def _besides(launch: Launch) -> list[tuple[bool, str]]:
    job = launch.job
    return [
        (True, f"batch of {job.micro_batch} in the data loader, gradient_accumulation_steps={job.micro_batches}"),
        (True, f"optimizer {job.optimizer} with its learning rate"),
        (
            job.layout.zero_stage > 0 and job.micro_batches > 1,
            "GradientAccumulationPlugin(sync_each_batch=True): else gradients stay whole on each device",
        ),
        (
            job.layout.zero_stage > 0 and job.dtype == "bf16" and job.gradient_bytes != 2 and job.storage != "pure",
            "MixedPrecisionPolicy(reduce_dtype=torch.float32) of the FSDP plugin: else gradients are reduced in bf16",
        ),
        (job.lora is not None, "adapters, in the model's code (PEFT)"),
        (job.layout.tensor_parallel > 1, 'tp_plan="auto" of from_pretrained'),
        (job.layout.context_parallel > 1, "accelerator.maybe_context_parallel around each step"),
        (launch.nodes > 1, "--machine_rank and --main_process_ip of accelerate launch, on each node"),
    ]


def _tables(launch: Launch) -> dict[str, object]:
    job, layout = launch.job, launch.job.layout
    found: dict[str, object] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": _type(launch),
        "num_machines": launch.nodes,
        "num_processes": launch.devices,
        "machine_rank": 0,
        "main_training_function": "main",
        "mixed_precision": _FORMATS[job.dtype],
        "rdzv_backend": "static",
        "same_network": True,
        "use_cpu": launch.backend == "cpu",
    }
    if job.dtype == "fp8":
        found["fp8_config"] = _fp8(job)
    if layout.zero_stage:
        found |= {"fsdp_config": _fsdp(job), "parallelism_config": _degrees(job)}
    return found


def _fp8(job: TrainingJob) -> Table:
    backend = _FP8[job.narrow_recipe or ""]
    if backend == "TE":
        return {"backend": backend, "fp8_format": "HYBRID"}
    return {"backend": backend, "enable_fsdp_float8_all_gather": job.fp8_all_gather, "pad_inner_dim": True}


def _type(launch: Launch) -> str:
    if launch.job.layout.zero_stage:
        return "FSDP"
    if launch.devices == 1:
        return "NO"
    return "MULTI_GPU"


def _fsdp(job: TrainingJob) -> Table:
    return {
        "fsdp_version": 2,
        "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_reshard_after_forward": job.layout.zero_stage == 3,
        "fsdp_activation_checkpointing": job.recompute == "full",
        "fsdp_offload_params": False,
        "fsdp_cpu_ram_efficient_loading": True,
        "fsdp_state_dict_type": "SHARDED_STATE_DICT",
    }


def _degrees(job: TrainingJob) -> Table:
    layout = job.layout
    shard = layout.shards // layout.context_parallel
    found: dict[str, object] = {
        "parallelism_config_dp_replicate_size": layout.data_parallel // shard,
        "parallelism_config_dp_shard_size": shard,
        "parallelism_config_tp_size": layout.tensor_parallel,
        "parallelism_config_cp_size": layout.context_parallel,
    }
    if layout.context_parallel > 1:
        found["parallelism_config_cp_comm_strategy"] = _ROTATIONS[layout.context_kind]
    return found


def yaml_lines(tables: Mapping[str, object]) -> list[str]:
    """Scalars look the same in YAML as in JSON, but for exponents; one level of tables is enough here."""
    lines = []
    for key, value in tables.items():
        if isinstance(value, Mapping):
            lines += [f"{key}:", *(f"  {name}: {json.dumps(inner)}" for name, inner in value.items())]
        else:
            lines.append(f"{key}: {_exponent(value) if isinstance(value, float) else json.dumps(value)}")
    return lines


def _exponent(value: float) -> str:
    """With a point before the exponent: without one YAML 1.1 reads a word.

    >>> _exponent(2e-05), _exponent(0.0002)
    ('2.0e-05', '0.0002')
    """
    mantissa, mark, power = repr(value).partition("e")
    return mantissa + (".0" if mark and "." not in mantissa else "") + mark + power
