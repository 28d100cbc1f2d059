"""How is a fine-tuning told to TRL? The YAML file of ``trl sft``, with PEFT's adapters and bitsandbytes.

Keys: TRL 1.16, ``trl/trainer/sft_config.py``, ``trl/trainer/model_config.py``; transformers 5, ``TrainingArguments``.
"""

from __future__ import annotations

from hwprof.plan.settings.accelerate import yaml_lines
from hwprof.plan.settings.launch import Launch, Settings, told
from hwprof.specs.job.step import LoraSpec, TrainingJob
from hwprof.specs.job.switches import JobOptimizer, LoraTargets

FRAMEWORK = "TRL 1.16 (PEFT)"
FILE_NAME = "trl.yaml"

OPTIMIZERS: dict[JobOptimizer, str] = {
    "adamw": "adamw_torch_fused",
    "adamw-8bit": "adamw_bnb_8bit",
    "adafactor": "adafactor",
    "lion": "lion_32bit",
    "sgd": "sgd",
}
"""transformers' ``OptimizerNames``."""

_PAGED = {"adamw": "paged_adamw_32bit", "adamw-8bit": "paged_adamw_8bit", "lion": "paged_lion_32bit"}

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
        (layout.zero_stage == 1, "ZeRO stage 1"),
        (job.recompute == "selective" or (job.recompute == "full" and partly), "recompute in just these layers"),
        (job.offload != "none", f"offload of {job.offload}"),
        (job.dtype not in {"bf16", "fp16", "fp32"}, f"{job.dtype} training"),
        (job.optimizer not in OPTIMIZERS, f"optimizer {job.optimizer}"),
        (
            job.optimizer_paged and (job.optimizer not in _PAGED or layout.zero_stage > 0),
            "state of this optimizer in pages",
        ),
        (job.storage in {"mixed", "narrowed"} and job.lora is None, f"{job.storage} storage"),
        (job.model.kind != "decoder", f"a model of kind {job.model.kind}"),
    ]


def _besides(launch: Launch) -> list[tuple[bool, str]]:
    job = launch.job
    return [
        (True, f"trl {launch.task} --config {FILE_NAME} --model_name_or_path MODEL --dataset_name DATA"),
        (launch.devices > 1, "accelerate launch with accelerate.yaml, around it"),
        (
            launch.task == "sft" and job.loss not in {"fused-linear", "chunked-head"},
            "TRL before 1.16, for logits as priced: from then on its loss never holds them whole",
        ),
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
        "gradient_checkpointing": job.recompute == "full" and not job.layout.zero_stage,  # FSDP's is accelerate.yaml's
        "optim": optimizer_of(job),
        "torch_compile": job.compiled,
        "use_liger_kernel": job.loss == "fused-linear" and launch.stack != "trl",
    }
    if launch.task == "sft":  # "bfd" makes one row of all, for kernels that take its parts apart
        found |= {"packing": True, "packing_strategy": "bfd" if job.attention in _VARYING else "wrapped"}
    if launch.steps is not None:
        found["max_steps"] = launch.steps
    if launch.backend == "cpu":
        found["use_cpu"] = True
    return found | (_adapters(job.lora) if job.lora else {})


_VARYING = frozenset({"flash-2", "flash-3"})
"""Kernels that attend within each part of a row."""


def optimizer_of(job: TrainingJob) -> str:
    """Its name; bitsandbytes' 8 bits do not go with FSDP2's sharded weights, torchao's do."""
    if job.optimizer_paged:
        return _PAGED[job.optimizer]
    if job.optimizer == "adamw-8bit" and job.layout.zero_stage:
        return "adamw_torch_8bit"
    looped = job.optimizer == "adamw" and job.optimizer_implementation != "fused"
    return "adamw_torch" if looped else OPTIMIZERS[job.optimizer]


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
