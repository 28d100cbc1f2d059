"""How is a plan told to torchtitan? The TOML file of its releases 0.2.x; later ones take the same keys as options.

Keys and their meaning: torchtitan 0.2.2, ``torchtitan/config/job_config.py``, ``distributed/pipeline_parallel.py``,
``models/llama3/infra/parallelize.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from hwprof.plan.settings.launch import Launch, Settings, told
from hwprof.specs.job.step import TrainingJob

FRAMEWORK = "torchtitan 0.2"
FILE_NAME = "torchtitan.toml"

FLAVORS: dict[str, tuple[str, str, int, int]] = {
    "llama-3-8b": ("llama3", "8B", 32, 4096),
    "llama-3.1-8b": ("llama3", "8B", 32, 4096),
    "llama-3-70b": ("llama3", "70B", 80, 8192),
    "llama-3.1-70b": ("llama3", "70B", 80, 8192),
    "llama-3.1-405b": ("llama3", "405B", 126, 16384),
    "deepseek-v2-lite": ("deepseek_v3", "16B", 27, 2048),
    "deepseek-v2": ("deepseek_v3", "236B", 60, 5120),
    "deepseek-v3": ("deepseek_v3", "671B", 61, 7168),
    "deepseek-r1": ("deepseek_v3", "671B", 61, 7168),
    "qwen3-0.6b": ("qwen3", "0.6B", 28, 1024),
    "qwen3-1.7b": ("qwen3", "1.7B", 28, 2048),
    "qwen3-4b": ("qwen3", "4B", 36, 2560),
    "qwen3-8b": ("qwen3", "8B", 36, 4096),
    "qwen3-14b": ("qwen3", "14B", 40, 5120),
    "qwen3-32b": ("qwen3", "32B", 64, 5120),
    "qwen3-30b-a3b": ("qwen3", "30B-A3B", 48, 2048),
    "qwen3-235b-a22b": ("qwen3", "235B-A22B", 94, 4096),
}
"""Models of the catalogue -> model and flavor of torchtitan, and the layers and width that both have."""

_SCHEDULES = {"gpipe": "GPipe", "1f1b": "1F1B", "interleaved": "Interleaved1F1B", "zb-v": "ZBVZeroBubble"}
_DTYPES = {"bf16": "bfloat16", "fp8": "bfloat16", "fp32": "float32"}
_OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam"}
_RECIPES = {"tensorwise": "tensorwise", "rowwise": "rowwise"}
_PIPELINED = frozenset({"llama3", "deepseek_v3"})
"""Models with a ``pipelining_fn``; others raise an error in a pipeline."""

_ROTATIONS = {"all-gather": "allgather", "ring": "alltoall"}

Tables = Mapping[str, Mapping[str, object]]


def settings_for(launch: Launch) -> Settings:
    """The TOML file, or what it can't say."""
    lacks = told(_missing(launch))
    if lacks:
        return Settings(framework=FRAMEWORK, file_name=FILE_NAME, lacks=lacks)
    head = [*launch.about, "torchrun ... -m torchtitan.train --job.config_file torchtitan.toml"]
    lines = [f"# {line}" for line in head] + ["", *_toml(_tables(launch))]
    return Settings(framework=FRAMEWORK, file_name=FILE_NAME, text="\n".join(lines))


def _missing(launch: Launch) -> list[tuple[bool, str]]:
    job, layout = launch.job, launch.job.layout
    beyond_data = layout.tensor_parallel * layout.pipeline_parallel * layout.context_parallel > 1
    return [
        (launch.backend != "cuda", f"device {launch.device}"),
        (job.lora is not None, "adapters"),
        (not _known(job), f"model {job.model.name}: none of its flavors"),
        (layout.zero_stage == 1, "ZeRO stage 1: FSDP2 shards gradients with the optimizer state"),
        (layout.zero_stage == 0 and layout.replicas > 1 and beyond_data, "ZeRO stage 0 beside other parallel ranks"),
        (layout.shards % layout.context_parallel != 0, "shards over part of a context group"),
        (layout.pipeline_parallel > 1 and not _pipelined(job), f"{job.model.name} in a pipeline"),
        (_shared_oddly(job), f"{layout.expert_tensor_parallel} devices an expert: 1 or all tensor ranks"),
        (layout.schedule not in _SCHEDULES, f"schedule {layout.schedule}"),
        (layout.pipeline_parallel > 1 and not _even(job), f"{job.model.layers} layers over {_chunks(job)} chunks"),
        (layout.context_kind not in _ROTATIONS, f"context parallel by {layout.context_kind}"),
        (layout.tensor_parallel > 1 and not layout.sequence_parallel, "tensor without sequence parallel"),
        (layout.schedule == "zb-v" and job.fused, "schedule zb-v with compiled kernels"),
        (layout.context_parallel > 1 and job.model.mla is not None, "context parallel with its flex attention"),
        (job.dtype not in _DTYPES, f"{job.dtype} training"),
        (job.dtype == "fp8" and job.narrow_recipe not in _RECIPES, f"fp8 by {job.narrow_recipe}"),
        (_narrow(job) and job.storage == "mixed", "16-bit weights beside fp32 masters"),
        (
            _narrow(job) and job.storage != "pure" and job.gradient_bytes == _NARROW_BYTES,
            "gradients reduced in 16 bits",
        ),
        (job.optimizer not in _OPTIMIZERS, f"optimizer {job.optimizer}"),
        (job.offload != "none", f"offload of {job.offload} alone"),
        (layout.zero_stage > 0 and not layout.overlap, "traffic that is not beside compute"),
        (
            layout.tensor_parallel > 1 and job.async_tensor_parallel and not job.fused,
            "async tensor parallel, not compiled",
        ),
        (job.recompute != "none" and _recompute(job) is None, "recompute in just these layers"),
    ]


def _shared_oddly(job: TrainingJob) -> bool:
    """Without expert parallelism experts are split like all else."""
    layout = job.layout
    can = {layout.tensor_parallel, 1} if layout.expert_parallel > 1 else {layout.tensor_parallel}
    return job.model.moe is not None and layout.expert_tensor_parallel not in can


def _known(job: TrainingJob) -> bool:
    return FLAVORS.get(job.model.name, ())[2:] == (job.model.layers, job.model.d_model)


def _pipelined(job: TrainingJob) -> bool:
    return FLAVORS.get(job.model.name, ("",))[0] in _PIPELINED


def _narrow(job: TrainingJob) -> bool:
    return job.dtype != "fp32"


_NARROW_BYTES = 2


def _chunks(job: TrainingJob) -> int:
    return job.layout.pipeline_parallel * job.layout.chunks


def _even(job: TrainingJob) -> bool:
    """Chunks are equal, or would be with embedding and head as a layer each."""
    return job.model.layers % _chunks(job) == 0 or job.model.pipeline_places % _chunks(job) == 0


def _recompute(job: TrainingJob) -> dict[str, object] | None:
    """Full recompute in all layers, or in every n-th; selective is that of single operations."""
    layers, again = job.model.layers, job.recompute_layers
    if job.recompute == "none":
        return {"mode": "none"}
    if job.recompute == "selective" and job.selective != ("op-list",):
        return None
    if job.recompute == "selective":
        return {"mode": "selective", "selective_ac_option": "op"}
    if again is None or again >= layers:
        return {"mode": "full"}
    return {"mode": "selective", "selective_ac_option": str(layers // again)} if layers % again == 0 else None


def _tables(launch: Launch) -> Tables:
    job = launch.job
    name, flavor, _, _ = FLAVORS[job.model.name]
    narrow = {"quantize.linear.float8": _recipe(job)} if job.dtype == "fp8" else {}
    return {
        "model": {"name": name, "flavor": flavor, "converters": list(narrow)},
        "optimizer": {"name": _OPTIMIZERS[job.optimizer]},
        "training": _training(launch),
        "parallelism": _parallelism(job),
        "activation_checkpoint": _recompute(job) or {},
        "compile": {"enable": job.fused},
        **narrow,
    }


def _recipe(job: TrainingJob) -> dict[str, object]:
    """Scales; the tables of tensor scales may be gathered in 8 bits. The head stays as it is, as in the plan."""
    recipe = _RECIPES[job.narrow_recipe or ""]
    gathered = {"enable_fsdp_float8_all_gather": job.fp8_all_gather} if recipe == "tensorwise" else {}
    return {"recipe_name": recipe, "filter_fqns": ["output"], **gathered}


def _training(launch: Launch) -> dict[str, object]:
    """Without a pipeline torchtitan accumulates over local batches; a pipeline splits one local batch itself."""
    job = launch.job
    piped = job.layout.pipeline_parallel > 1
    return {
        "local_batch_size": job.micro_batch * (job.micro_batches if piped else 1),
        "global_batch_size": job.global_batch,
        "seq_len": job.seq_len,
        "dtype": _DTYPES[job.dtype] if job.storage == "pure" else "float32",
        "mixed_precision_param": _DTYPES[job.dtype],
    } | ({} if launch.steps is None else {"steps": launch.steps})


def _parallelism(job: TrainingJob) -> dict[str, object]:
    layout = job.layout
    shard = layout.shards // layout.context_parallel if layout.zero_stage else 1
    table: dict[str, object] = {
        "data_parallel_replicate_degree": layout.data_parallel // shard,
        "data_parallel_shard_degree": shard,
        "fsdp_reshard_after_forward": "never" if layout.zero_stage == 2 else "always",
        "tensor_parallel_degree": layout.tensor_parallel,
        "context_parallel_degree": layout.context_parallel,
        "context_parallel_rotate_method": _ROTATIONS[layout.context_kind],
        "pipeline_parallel_degree": layout.pipeline_parallel,
    }
    if layout.tensor_parallel > 1 and job.async_tensor_parallel:
        table["enable_async_tensor_parallel"] = True
    if layout.pipeline_parallel > 1:
        table |= _pipeline(job)
    if job.model.moe:
        table["expert_parallel_degree"] = layout.expert_parallel
        table["expert_tensor_parallel_degree"] = layout.expert_tensor_parallel if layout.expert_parallel > 1 else 1
    return table


def _pipeline(job: TrainingJob) -> dict[str, object]:
    chunks = _chunks(job)
    ends = 0 if job.model.layers % chunks == 0 else 1
    return {
        "pipeline_parallel_schedule": _SCHEDULES[job.layout.schedule],
        "pipeline_parallel_microbatch_size": job.micro_batch,
        "pipeline_parallel_layers_per_stage": (job.model.layers + 2 * ends) // chunks,
        "pipeline_parallel_first_stage_less_layers": ends,
        "pipeline_parallel_last_stage_less_layers": ends,
    }


def _toml(tables: Tables) -> list[str]:
    """Strings, numbers, truth values and lists of strings look the same in TOML as in JSON."""
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items()), ""]
    return lines
