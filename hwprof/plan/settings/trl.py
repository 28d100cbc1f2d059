"""How is a fine-tuning told to TRL? The YAML file of ``trl sft``, with PEFT's adapters and bitsandbytes.

Keys: TRL 0.24, ``trl/trainer/sft_config.py``, ``trl/trainer/model_config.py``; transformers, ``TrainingArguments``.
"""

from __future__ import annotations

from hwprof.plan.settings.accelerate import yaml_lines
from hwprof.plan.settings.launch import Launch, Settings, told
from hwprof.specs.job.step import LoraSpec
from hwprof.specs.job.switches import JobOptimizer, LoraTargets

FRAMEWORK = "TRL 0.24 (PEFT)"
FILE_NAME = "trl.yaml"

OPTIMIZERS: dict[JobOptimizer, str] = {
    "adamw": "adamw_torch_fused",
    "adamw-8bit": "adamw_bnb_8bit",
    "adafactor": "adafactor",
    "lion": "lion_32bit",
    "sgd": "sgd",
}
"""transformers' ``OptimizerNames``."""

TARGETS: dict[LoraTargets, tuple[str, ...]] = {
    "query-value": ("q_proj", "v_proj"),
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "ffn": ("gate_proj", "up_proj", "down_proj"),
    "all": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "linear": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"),
}
"""Modules of Llama and of most decoders of transformers; others have names of their own."""

KERNELS = {"flash-2": "flash_attention_2", "flash-3": "flash_attention_3", "materialised": "eager"}
"""``attn_implementation``; ``sdpa`` for the rest."""


def settings_for(launch: Launch) -> Settings:
    """The YAML file, or what it can't say."""
    lacks = told(missing(launch))
    if lacks:
        return Settings(framework=FRAMEWORK, file_name=FILE_NAME, lacks=lacks)
    text = "\n".join([*(f"# {line}" for line in launch.about), *yaml_lines(_keys(launch))]) + "\n"
    return Settings(framework=FRAMEWORK, file_name=FILE_NAME, text=text, besides=told(_besides(launch)))


def missing(launch: Launch) -> list[tuple[bool, str]]:
    """What no program of fine-tuning on transformers has a key for."""
    job, layout = launch.job, launch.job.layout
    spread = layout.tensor_parallel * layout.pipeline_parallel * layout.context_parallel * layout.expert_parallel
    partly = job.recompute_layers is not None and job.recompute_layers < job.model.layers
    return [
        (launch.backend == "other", f"device {launch.device}"),
        (spread > 1, "tensor, pipeline, context and expert parallel"),
        (layout.zero_stage in {1, 2}, f"ZeRO stage {layout.zero_stage}"),
        (job.recompute == "selective" or (job.recompute == "full" and partly), "recompute in just these layers"),
        (job.offload != "none", f"offload of {job.offload}"),
        (job.dtype not in {"bf16", "fp16", "fp32"}, f"{job.dtype} training"),
        (job.optimizer not in OPTIMIZERS, f"optimizer {job.optimizer}"),
        (job.storage in {"mixed", "narrowed"} and job.lora is None, f"{job.storage} storage"),
        (job.model.kind != "decoder", f"a model of kind {job.model.kind}"),
    ]


def _besides(launch: Launch) -> list[tuple[bool, str]]:
    return [
        (True, f"trl {launch.task} --config {FILE_NAME} --model_name_or_path MODEL --dataset_name DATA"),
        (launch.devices > 1, "accelerate launch with accelerate.yaml, around it"),
    ]


def _keys(launch: Launch) -> dict[str, object]:
    job = launch.job
    narrow = job.storage == "pure" or job.lora is not None
    found: dict[str, object] = {
        "dtype": {"bf16": "bfloat16", "fp16": "float16"}.get(job.dtype, "float32") if narrow else "float32",
        "attn_implementation": KERNELS.get(job.attention, "sdpa"),
        "bf16": job.dtype == "bf16",
        "fp16": job.dtype == "fp16",
        "max_length": job.seq_len,
        "per_device_train_batch_size": examples_of(launch),
        "gradient_accumulation_steps": job.micro_batches,
        "gradient_checkpointing": job.recompute == "full",
        "optim": OPTIMIZERS[job.optimizer],
        "torch_compile": job.compiled,
        "use_liger_kernel": job.loss == "fused-linear" and launch.stack != "trl",
    }
    if launch.task == "sft":
        found["packing"] = True
    if launch.steps is not None:
        found["max_steps"] = launch.steps
    return found | (_adapters(job.lora) if job.lora else {})


def examples_of(launch: Launch) -> int:
    """Examples at a time: of two sequences each, where answers are compared."""
    return max(launch.job.micro_batch // (1 if launch.task == "sft" else 2), 1)


def _adapters(lora: LoraSpec) -> dict[str, object]:
    quantized = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": True}
    return {
        "use_peft": True,
        "lora_r": lora.rank,
        "lora_target_modules": list(TARGETS[lora.targets]),
        **(quantized if lora.quantized else {}),
    }
