"""How is a fine-tuning told to axolotl? Its YAML file.

Keys: axolotl 0.13, ``src/axolotl/utils/schemas/config.py`` and ``peft.py``, ``integrations/liger/args.py``.
"""

from __future__ import annotations

from hwprof.plan.settings import trl
from hwprof.plan.settings.accelerate import yaml_lines
from hwprof.plan.settings.launch import Launch, Settings, told
from hwprof.specs.job.step import LoraSpec

FRAMEWORK = "axolotl 0.13"
FILE_NAME = "axolotl.yaml"


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
        "datasets": [{"path": "DATA", "type": "alpaca"}],
        "output_dir": "./outputs",
        "sequence_len": job.seq_len,
        "sample_packing": launch.task == "sft",
        "micro_batch_size": trl.examples_of(launch),
        "gradient_accumulation_steps": job.micro_batches,
        "gradient_checkpointing": job.recompute == "full",
        "optimizer": trl.OPTIMIZERS[job.optimizer],
        "learning_rate": 2e-4 if job.lora else 2e-5,
        "bf16": job.dtype == "bf16",
        "fp16": job.dtype == "fp16",
        "flash_attention": job.attention in {"flash", "flash-2"},
        "torch_compile": job.compiled,
    }
    if launch.task == "dpo":
        found["rl"] = "dpo"
    if launch.task == "reward":
        found["reward_model"] = True
    if launch.steps is not None:
        found["max_steps"] = launch.steps
    if job.loss == "fused-linear":
        found |= {
            "plugins": ["axolotl.integrations.liger.LigerPlugin"],
            "liger_fused_linear_cross_entropy": True,
        }
    if layout.zero_stage == 3:
        found |= {"fsdp_version": 2, "fsdp_config": {"reshard_after_forward": True}}
    return found | (_adapters(job.lora) if job.lora else {})


def _adapters(lora: LoraSpec) -> dict[str, object]:
    return {
        "adapter": "qlora" if lora.quantized else "lora",
        "load_in_4bit": lora.quantized,
        "lora_r": lora.rank,
        "lora_alpha": 2 * lora.rank,
        "lora_target_modules": list(trl.TARGETS[lora.targets]),
    }
