"""How is a plan told to Megatron-Bridge (NeMo)? A program that takes one of its recipes and says what is planned.

Fields: Megatron-Bridge 0.3.1, ``megatron/bridge/training/config.py``, ``training/mixed_precision.py`` and ``recipes``;
its model has the fields of Megatron-Core's ``TransformerConfig``, so what is said is what ``megatron.sh`` says.
"""

from __future__ import annotations

from hwprof.plan.settings import megatron
from hwprof.plan.settings.launch import Launch, Settings, told
from hwprof.plan.settings.torchrun import launcher
from hwprof.specs.job.step import TrainingJob

FRAMEWORK = "Megatron-Bridge 0.3 (NeMo)"
FILE_NAME = "megatron_bridge.py"

RECIPES: dict[str, tuple[str, str]] = {
    "llama-2-7b": ("llama", "llama2_7b"),
    "llama-3-8b": ("llama", "llama3_8b"),
    "llama-3-70b": ("llama", "llama3_70b"),
    "llama-3.1-8b": ("llama", "llama31_8b"),
    "llama-3.1-70b": ("llama", "llama31_70b"),
    "llama-3.1-405b": ("llama", "llama31_405b"),
    "llama-3.2-1b": ("llama", "llama32_1b"),
    "llama-3.2-3b": ("llama", "llama32_3b"),
    "deepseek-v2-lite": ("deepseek", "deepseek_v2_lite"),
    "deepseek-v2": ("deepseek", "deepseek_v2"),
    "deepseek-v3": ("deepseek", "deepseek_v3"),
    "gpt3-175b": ("gpt", "gpt3_175b"),
    "gpt-oss-20b": ("gpt_oss", "gpt_oss_20b"),
    "gpt-oss-120b": ("gpt_oss", "gpt_oss_120b"),
    "olmoe-1b-7b": ("olmoe", "olmoe_7b"),
    "qwen2-0.5b": ("qwen", "qwen2_500m"),
    "qwen2-7b": ("qwen", "qwen2_7b"),
    "qwen2-72b": ("qwen", "qwen2_72b"),
    "qwen2.5-7b": ("qwen", "qwen25_7b"),
    "qwen2.5-32b": ("qwen", "qwen25_32b"),
    "qwen2.5-72b": ("qwen", "qwen25_72b"),
    "qwen3-0.6b": ("qwen", "qwen3_600m"),
    "qwen3-1.7b": ("qwen", "qwen3_1p7b"),
    "qwen3-4b": ("qwen", "qwen3_4b"),
    "qwen3-8b": ("qwen", "qwen3_8b"),
    "qwen3-14b": ("qwen", "qwen3_14b"),
    "qwen3-32b": ("qwen", "qwen3_32b"),
    "qwen3-30b-a3b": ("qwen", "qwen3_30b_a3b"),
    "qwen3-235b-a22b": ("qwen", "qwen3_235b_a22b"),
}
"""Models of the catalogue -> package of ``megatron.bridge.recipes`` and the recipe without ``_pretrain_config``."""

_PRECISIONS = {
    "bf16": "bf16_mixed",
    "fp16": "fp16_mixed",
    "tensorwise": "bf16_with_fp8_current_scaling_mixed",
    "delayed": "bf16_with_fp8_delayed_scaling_mixed",
    "blockwise": "bf16_with_fp8_subchannel_scaling_mixed",
    "mxfp8": "bf16_with_mxfp8_mixed",
}

_PLACES = {
    "micro_batch_size": "train.micro_batch_size",
    "global_batch_size": "train.global_batch_size",
    "train_iters": "train.train_iters",
    "seq_length": "model.seq_length",
    "num_virtual_stages_per_pipeline_rank": "model.virtual_pipeline_model_parallel_size",
    "use_distributed_optimizer": "ddp.use_distributed_optimizer",
    "overlap_grad_reduce": "ddp.overlap_grad_reduce",
    "overlap_param_gather": "ddp.overlap_param_gather",
    "num_distributed_optimizer_instances": "ddp.num_distributed_optimizer_instances",
    "use_megatron_fsdp": "ddp.use_megatron_fsdp",
    "data_parallel_sharding_strategy": "ddp.data_parallel_sharding_strategy",
    "ckpt_format": "checkpoint.ckpt_format",
    "optimizer": "optimizer.optimizer",
    "optimizer_cpu_offload": "optimizer.optimizer_cpu_offload",
    "use_precision_aware_optimizer": "optimizer.use_precision_aware_optimizer",
}
"""Arguments of Megatron-LM that are fields elsewhere than in the model."""

_ELSEWHERE = frozenset(
    {
        *("bf16", "fp16", "fp8_format", "fp8_recipe", "fp8_param_gather", "grad_reduce_in_bf16", "attention_backend"),
        *("max_position_embeddings", "tp_comm_overlap", "no_gradient_accumulation_fusion"),
        *(
            "accumulate_allreduce_grads_in_fp32",
            "reuse_grad_buf_for_mxfp8_param_ag",
            "overlap_moe_expert_parallel_comm",
        ),
    }
)
"""Arguments that ``_besides_arguments`` says in the words of Megatron-Bridge."""


def settings_for(launch: Launch) -> Settings:
    """The program, or what it can't say."""
    name = launch.job.model.name
    lacks = told(
        [
            *megatron.missing(launch),
            (launch.job.attention == "materialised", "attention that writes its scores"),
            (name not in RECIPES, f"model {name}: none of its recipes"),
            (launch.job.dtype in {"fp4", "fp32"}, f"{launch.job.dtype} training: no recipe of its precision"),
        ]
    )
    if lacks:
        return Settings(framework=FRAMEWORK, file_name=FILE_NAME, lacks=lacks)
    package, recipe = RECIPES[name]
    start = " ".join([*launcher(launch), FILE_NAME])
    lines = [
        *(f"# {line}" for line in (*launch.about, start, *megatron.environment(launch))),
        "import torch",
        f"from megatron.bridge.recipes.{package} import {recipe}_pretrain_config",
        "from megatron.bridge.training.comm_overlap import CommOverlapConfig",
        "from megatron.bridge.training.gpt_step import forward_step",
        "from megatron.bridge.training.mixed_precision import get_mixed_precision_config",
        "from megatron.bridge.training.pretrain import pretrain",
        "",
        f"config = {recipe}_pretrain_config()",
        *(f"config.{place} = {value}" for place, value in fields_of(launch).items()),
        "",
        'if __name__ == "__main__":',
        "    pretrain(config=config, forward_step_func=forward_step)",
    ]
    besides = ("config.dataset.blend, tokenizer and learning rate: the recipe has synthetic data",)
    return Settings(framework=FRAMEWORK, file_name=FILE_NAME, text="\n".join(lines) + "\n", besides=besides)


def fields_of(launch: Launch) -> dict[str, str]:
    """Place in the recipe's configuration -> value, as Python writes it."""
    found = dict(_undone(launch.job))
    for argument in megatron.arguments_of_job(launch):
        name, _, value = argument.removeprefix("--").partition(" ")
        key = name.replace("-", "_")
        if key not in _ELSEWHERE:
            found[_PLACES.get(key, f"model.{key}")] = repr(value.split()) if key in _LISTS else _written(value)
    return found | _besides_arguments(launch)


_LISTS = frozenset({"recompute_modules"})


def _written(value: str) -> str:
    """A switch is True; numbers stay numbers, words get quotes."""
    if not value:
        return "True"
    plain = value.strip("'")
    return plain if plain.replace(".", "", 1).isdigit() else repr(plain)


def _undone(job: TrainingJob) -> dict[str, str]:
    """What a recipe may have switched on that no argument switches off."""
    return {
        "model.virtual_pipeline_model_parallel_size": "None",
        "model.pipeline_model_parallel_layout": "None",
        "model.context_parallel_size": "1",
        "model.sequence_parallel": "False",
        "model.recompute_granularity": "None",
        "model.recompute_method": "None",
        "model.recompute_num_layers": "None",
        "ddp.use_distributed_optimizer": "False",
        "ddp.overlap_grad_reduce": "False",
        "ddp.overlap_param_gather": "False",
        "ddp.use_megatron_fsdp": "False",
        "model.cross_entropy_loss_fusion": "False",
        **({} if job.model.mla is None else {"model.mtp_num_layers": str(job.model.mtp_layers or None)}),
        **_PLAIN_STATE,
        "comm_overlap": f"CommOverlapConfig(tp_comm_overlap={_overlapped(job)}, {_hidden(job)})",
    }


_PLAIN_STATE = {
    "optimizer.use_precision_aware_optimizer": "False",
    **dict.fromkeys(
        (f"optimizer.{name}_dtype" for name in ("main_grads", "main_params", "exp_avg", "exp_avg_sq")), "torch.float32"
    ),
}
"""DeepSeek's recipes keep the optimizer's state in 16 bits."""


def _hidden(job: TrainingJob) -> str:
    return f"overlap_moe_expert_parallel_comm={megatron.beside_experts(job)}"


def _overlapped(job: TrainingJob) -> bool:
    return job.layout.tensor_parallel > 1 and job.layout.sequence_parallel and job.async_tensor_parallel


def _besides_arguments(launch: Launch) -> dict[str, str]:
    job = launch.job
    by_fsdp = job.layout.zero_stage > 1
    narrow = job.narrow_recipe if job.dtype == "fp8" else job.dtype
    found = {
        "dataset.seq_length": str(job.seq_len),
        "mixed_precision": f"get_mixed_precision_config({_PRECISIONS[narrow or '']!r})",
        "mixed_precision.grad_reduce_in_fp32": str(job.gradient_bytes != 2),
        "optimizer.use_distributed_optimizer": str(job.layout.zero_stage > 0),
        "dist.use_megatron_fsdp": str(by_fsdp),
    }
    if job.layout.schedule == "interleaved":  # beside a layout of chunks, too
        found["model.virtual_pipeline_model_parallel_size"] = str(job.layout.virtual_stages)
    if job.loss == "fused":
        found["model.cross_entropy_fusion_impl"] = "'te'"
    if job.dtype == "fp8":
        found["mixed_precision.fp8_param_gather"] = str(job.fp8_all_gather)
    return found | ({"model.gradient_accumulation_fusion": "False"} if by_fsdp else {})
