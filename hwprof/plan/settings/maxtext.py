"""How is a plan told to MaxText? A shell script that starts its training with settings of ``base.yml``.

Keys: MaxText 0.2.5, ``maxtext/configs/base.yml``, ``types.py`` and ``configs/models``. Compare https://maxtext.readthedocs.io.
"""

from __future__ import annotations

from hwprof.plan.settings.launch import Launch, Settings, told
from hwprof.specs.job.step import TrainingJob
from hwprof.specs.job.switches import Selective

FRAMEWORK = "MaxText 0.2.5"
FILE_NAME = "maxtext.sh"

MODELS = {
    "llama-2-7b": "llama2-7b",
    "llama-2-70b": "llama2-70b",
    "llama-3.1-8b": "llama3.1-8b",
    "llama-3.1-70b": "llama3.1-70b",
    "llama-3.1-405b": "llama3.1-405b",
    "qwen3-8b": "qwen3-8b",
    "mixtral-8x7b": "mixtral-8x7b",
    "deepseek-v2-lite": "deepseek2-16b",
    "deepseek-v2": "deepseek2-236b",
    "deepseek-v3": "deepseek3-671b",
    "gemma-2b": "gemma-2b",
    "gemma-7b": "gemma-7b",
    "gemma-2-2b": "gemma2-2b",
    "gemma-2-9b": "gemma2-9b",
    "gemma-2-27b": "gemma2-27b",
    "gpt3-175b": "gpt3-175b",
    "gpt-oss-20b": "gpt-oss-20b",
    "gpt-oss-120b": "gpt-oss-120b",
}
"""Models of the catalogue -> ``model_name``: files of ``configs/models``."""

_OPTIMIZERS = {"adamw": "adamw", "sgd": "sgd", "muon": "muon"}
_POLICIES: dict[tuple[Selective, ...], str] = {
    ("products",): "minimal_with_context",
    ("products-without-attention",): "minimal",
}
"""What is kept -> ``remat_policy``."""

_STRATEGIES = {"all-gather": "all_gather", "ring": "ring"}


def settings_for(launch: Launch) -> Settings:
    """The script, or what it can't say."""
    lacks = told(_missing(launch))
    if lacks:
        return Settings(framework=FRAMEWORK, file_name=FILE_NAME, lacks=lacks)
    keys = [f"{name}={value}" for name, value in _keys(launch).items()]
    program = "exec python3 -m maxtext.trainers.pre_train.train src/maxtext/configs/base.yml"
    lines = [
        "#!/bin/sh",
        *(f"# {line}" for line in launch.about),
        "# in a checkout of MaxText, on each host:",
        "# sh maxtext.sh run_name=... base_output_directory=gs://... dataset_path=gs://...",
        " \\\n    ".join([program, *keys, '"$@"']),
    ]
    besides = told([(launch.steps is None, "steps=..., 150,001 where it is not said")])
    return Settings(framework=FRAMEWORK, file_name=FILE_NAME, text="\n".join(lines) + "\n", besides=besides)


def _missing(launch: Launch) -> list[tuple[bool, str]]:
    job, layout = launch.job, launch.job.layout
    partly = job.recompute == "full" and (job.recompute_layers or job.model.layers) < job.model.layers
    return [
        (not launch.device.startswith("tpu"), f"device {launch.device}: the file is for TPUs"),
        (job.model.name not in MODELS, f"model {job.model.name}: none of its files"),
        (layout.pipeline_parallel > 1, "pipeline parallel: it divides stages and repeats in a way of its own"),
        (layout.zero_stage in {1, 2}, f"ZeRO stage {layout.zero_stage}: its fsdp axis shards everything"),
        (
            layout.context_parallel > 1 and layout.context_kind not in _STRATEGIES,
            f"context parallel by {layout.context_kind}",
        ),
        (layout.zero_stage == 3 and layout.context_parallel > 1, "shards over context ranks alone"),
        (layout.expert_parallel > 1 and layout.zero_stage == 0, "expert ranks among replicas"),
        (_whole_experts(job), "experts that tensor ranks do not share"),
        (job.dtype not in {"bf16", "fp32"}, f"{job.dtype} training on TPUs"),
        (job.optimizer not in _OPTIMIZERS, f"optimizer {job.optimizer}"),
        (job.storage not in {"narrowed", "pure"} and job.dtype != "fp32", f"{job.storage} storage"),
        (job.offload not in {"none", "optimizer"}, f"offload of {job.offload}"),
        (partly, "recompute in just these layers"),
        (job.recompute == "selective" and _policy(job) is None, "this selective recompute"),
        (job.lora is not None, "adapters"),
    ]


def _whole_experts(job: TrainingJob) -> bool:
    layout = job.layout
    return job.model.moe is not None and layout.expert_tensor_parallel != layout.tensor_parallel


def _policy(job: TrainingJob) -> str | None:
    if job.recompute == "full":
        return "full"
    return _POLICIES.get(tuple(job.selective))


def _keys(launch: Launch) -> dict[str, object]:
    """``per_device_batch_size`` counts the sequences of a step over all devices, accumulation apart."""
    job = launch.job
    formats = {"bf16": "bfloat16", "fp32": "float32"}
    batch = job.global_batch / (job.micro_batches * launch.devices)
    found: dict[str, object] = {
        "model_name": MODELS[job.model.name],
        "per_device_batch_size": f"{batch:g}",
        "gradient_accumulation_steps": job.micro_batches,
        "max_target_length": job.seq_len,
        "dtype": formats[job.dtype],
        "weight_dtype": formats[job.dtype] if job.storage == "pure" else "float32",
        "grad_dtype": "bfloat16" if job.storage == "pure" or job.gradient_bytes == 2 else "float32",
        "opt_type": _OPTIMIZERS[job.optimizer],
        "override_model_config": "true",  # gpt3-175b's file has an optimizer, which is refused beside another
        "attention": "flash" if job.flash else "dot_product",
        **_axes(job),
        "remat_policy": "custom" if job.recompute == "none" else _policy(job),
    }
    if job.recompute == "none":
        found |= dict.fromkeys((*_KEPT, *(_KEPT_OF_EXPERTS if job.model.moe else ())), "device")
        found |= dict.fromkeys(_KEPT_OF_LATENTS, "device") if job.model.mla else {}
    if job.offload == "optimizer":
        found["optimizer_memory_host_offload"] = "true"
    if launch.steps is not None:
        found["steps"] = launch.steps
    return found


_KEPT = ("context", "mlpwi", "mlpwi_0", "mlpwi_1", "mlpwo", "query_proj", "key_proj", "value_proj", "out_proj")
"""Tensors that ``custom`` may keep on the device; without recompute it keeps them all."""

_KEPT_OF_EXPERTS = ("moe_mlpwi_0", "moe_mlpwi_1", "moe_mlpwo")
_KEPT_OF_LATENTS = ("query_wa_proj", "kv_wa_proj")


def _axes(job: TrainingJob) -> dict[str, object]:
    layout = job.layout
    experts = layout.expert_parallel
    shards = layout.shards // experts if layout.zero_stage else 1
    axes: dict[str, object] = {
        "dcn_data_parallelism": 1,
        "ici_data_parallelism": layout.data_parallel // (shards * experts),
        "ici_fsdp_parallelism": shards,
        "ici_tensor_parallelism": layout.tensor_parallel,
        "ici_context_parallelism": layout.context_parallel,
        "ici_expert_parallelism": experts,
    }
    if layout.context_parallel > 1:
        axes["context_parallel_strategy"] = _STRATEGIES[layout.context_kind]
        axes |= {"use_tokamax_splash": "true"} if layout.context_kind == "ring" else {}
    return axes
