"""How is a fine-tuning told to axolotl? Its YAML file.

Keys: axolotl 0.19, ``src/axolotl/utils/schemas/config.py`` and ``peft.py``, ``integrations/liger/args.py``.
"""

from __future__ import annotations

from hwprof.plan.settings import trl
from hwprof.plan.settings.accelerate import yaml_lines
from hwprof.plan.settings.launch import Launch, Settings, told
from hwprof.specs.job.step import LoraSpec

FRAMEWORK = "axolotl 0.19"
FILE_NAME = "axolotl.yaml"

_DATA = {"sft": "alpaca", "dpo": "chat_template.default", "reward": "bradley_terry.chat_template"}
"""How axolotl reads the user's data, for each task."""


def settings_for(launch: Launch) -> Settings:
    """The YAML file, or what it can't say; axolotl loads weights in the format that it multiplies in."""
    job = launch.job
    wide = job.lora is None and job.storage != "pure" and job.dtype in {"bf16", "fp16"}
    lacks = told([*trl.missing(launch), (wide, "weights in fp32 beside products in 16 bits")])
    if lacks:
        return Settings(framework=FRAMEWORK, file_name=FILE_NAME, lacks=lacks)
    text = "\n".join([*(f"# {line}" for line in launch.about), *yaml_lines(_keys(launch))]) + "\n"
    besides = told([(True, "axolotl train axolotl.yaml, with MODEL and DATA filled in")])
    return Settings(framework=FRAMEWORK, file_name=FILE_NAME, text=text, besides=besides)


def _keys(launch: Launch) -> dict[str, object]:
    job, layout = launch.job, launch.job.layout
    found: dict[str, object] = {
        "base_model": "MODEL",
        "datasets": [{"path": "DATA", "type": _DATA[launch.task]}],
        "output_dir": "./outputs",
        "sequence_len": job.seq_len,
        "sample_packing": launch.task == "sft",
        "micro_batch_size": trl.examples_of(launch),
        "gradient_accumulation_steps": job.micro_batches,
        "gradient_checkpointing": job.recompute == "full",
        "optimizer": trl.optimizer_of(job),
        "learning_rate": 2e-4 if job.lora else 2e-5,
        "bf16": job.dtype == "bf16",
        "fp16": job.dtype == "fp16",
        "attn_implementation": _kernel(launch),
        "torch_compile": job.compiled,
    }
    if launch.task == "dpo":
        found["rl"] = "dpo"
    if launch.task == "reward":
        found |= {"reward_model": True, "model_type": "AutoModelForSequenceClassification"}
    if launch.steps is not None:
        found["max_steps"] = launch.steps
    if job.loss == "fused-linear":
        found |= {
            "plugins": ["axolotl.integrations.liger.LigerPlugin"],
            "liger_fused_linear_cross_entropy": True,
        }
    if layout.zero_stage:
        wrapped = {"auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "reshard_after_forward": layout.zero_stage == 3}
        found |= {"fsdp_version": 2, "fsdp_config": wrapped}
    if layout.zero_stage and layout.shards < layout.replicas:
        found |= {"dp_replicate_size": layout.replicas // layout.shards, "dp_shard_size": layout.shards}
    return found | (_adapters(job.lora, fused=job.fused and not job.compiled) if job.lora else {})


def _kernel(launch: Launch) -> str:
    """FlashAttention-2 stands for flash attention on GPUs, in the formats that it has."""
    job = launch.job
    if job.attention == "flash" and launch.backend == "cuda" and job.dtype != "fp32":
        return trl.KERNELS["flash-2"]
    return trl.KERNELS.get(job.attention, "sdpa")


def _adapters(lora: LoraSpec, *, fused: bool) -> dict[str, object]:
    """Its kernels for adapters are on where nothing is said."""
    return {
        **dict.fromkeys(("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel"), fused),
        "adapter": "qlora" if lora.quantized else "lora",
        "load_in_4bit": lora.quantized,
        "lora_r": lora.rank,
        "lora_alpha": 2 * lora.rank,
        "lora_target_modules": list(trl.TARGETS[lora.targets]),
    }
