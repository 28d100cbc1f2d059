"""How is a plan told to Megatron-LM? A shell script that starts ``pretrain_gpt.py`` with its arguments.

Arguments and their meaning: NVIDIA/Megatron-LM, ``megatron/training/arguments.py``; the fields of the same names in
Megatron-Core 0.19.2, ``TransformerConfig`` and ``DistributedDataParallelConfig``.
"""

from __future__ import annotations

from hwprof.plan.settings.launch import Launch, Settings, told
from hwprof.plan.settings.megatron_model import arguments_of_model, missing_of_model
from hwprof.plan.settings.torchrun import launcher
from hwprof.specs.job.step import TrainingJob

FRAMEWORK = "Megatron-LM (core 0.17 to 0.19)"
FILE_NAME = "megatron.sh"

_FORMATS: dict[str, list[str]] = {
    "fp32": [],
    "bf16": ["--bf16"],
    "fp16": ["--fp16"],
    "fp8": ["--bf16"],
    "fp4": ["--bf16", "--fp4-format e2m1", "--fp4-recipe nvfp4"],
}
_OPTIMIZERS = {"adamw": "adam", "adam": "adam", "sgd": "sgd", "muon": "muon"}
_CONTEXT = {"ring": "p2p", "all-gather": "all_gather", "ulysses": "a2a"}
_ONE_QUEUE = frozenset({"volta", "turing", "ampere", "ada", "hopper"})
"""Before Blackwell Megatron asserts ``CUDA_DEVICE_MAX_CONNECTIONS=1`` under tensor and context parallelism, so that
communication is launched in order; its FSDP asserts the opposite (``validate_args``)."""

_RECIPES = {"tensorwise": "tensorwise", "delayed": "delayed", "blockwise": "blockwise", "mxfp8": "mxfp8"}
_OF_BLOCKS = frozenset({"blockwise", "mxfp8"})
"""Scales of so few numbers that gradients need no wider range (Megatron-Bridge's recipes)."""

_MODULES = frozenset({"core_attn", "layernorm", "mlp", "moe", "moe_act", "shared_experts", "mla_up_proj"})
"""What ``--recompute-modules`` knows."""

_SHARDING = {2: "optim_grads", 3: "optim_grads_params"}


def settings_for(launch: Launch) -> Settings:
    """The script, or what it can't say."""
    lacks = told([*missing(launch), *missing_of_model(launch.job.model)])
    if lacks:
        return Settings(framework=FRAMEWORK, file_name=FILE_NAME, lacks=lacks)
    arguments = [*arguments_of_model(launch.job.model), *arguments_of_job(launch)]
    iterations = "" if launch.steps else " --train-iters ..."
    lines = [
        "#!/bin/sh",
        *(f"# {line}" for line in launch.about),
        "# in a checkout of Megatron-LM, on each node:",
        f"# sh megatron.sh --data-path ... --tokenizer-type ... --lr ...{iterations}",
        *environment(launch),
        " \\\n    ".join(["exec " + " ".join(launcher(launch)), "pretrain_gpt.py", *arguments, '"$@"']),
    ]
    text = "\n".join(lines) + "\n"
    return Settings(framework=FRAMEWORK, file_name=FILE_NAME, text=text, besides=told(_besides(launch)))


def arguments_of_job(launch: Launch) -> list[str]:
    """All but the model's dimensions."""
    return [
        *_of_batch(launch),
        *_of_layout(launch.job),
        *_of_pipeline(launch.job),
        *_of_sharding(launch.job),
        *_of_recompute(launch.job),
        *_of_numbers(launch.job),
    ]


def environment(launch: Launch) -> list[str]:
    """Queues of the device, where the program asserts how many there are."""
    if launch.architecture is not None and launch.architecture not in _ONE_QUEUE:
        return []
    if _by_fsdp(launch.job):
        return ["unset CUDA_DEVICE_MAX_CONNECTIONS"]
    return ["export CUDA_DEVICE_MAX_CONNECTIONS=1"] if _in_groups(launch.job) else []


def _by_fsdp(job: TrainingJob) -> bool:
    return job.layout.zero_stage > 1


def _in_groups(job: TrainingJob) -> bool:
    return job.layout.tensor_parallel * job.layout.context_parallel > 1


def _besides(launch: Launch) -> list[tuple[bool, str]]:
    job = launch.job
    block = VOCABULARY_BLOCK * job.layout.tensor_parallel
    padded = -(-job.model.vocab_size // block) * block
    rescaled = job.model.positions == "rope" and job.model.max_seq_len > LONG_POSITIONS
    return [
        (padded != job.model.vocab_size, f"vocabulary padded to {padded:,} (--make-vocab-size-divisible-by)"),
        (rescaled, "--use-rope-scaling, where the model's positions are rescaled (Llama 3.1 and later)"),
        (
            job.layout.tensor_parallel > 1 and job.layout.sequence_parallel and not job.async_tensor_parallel,
            "--tp-comm-overlap, where Transformer Engine has user buffers: a part of it is priced as hidden",
        ),
        (
            job.loss == "fused",
            "--cross-entropy-fusion-impl te, which keeps no fp32 logits, as priced, where it is taken (0.17, not 0.19)",
        ),
        (
            job.cuda_graphs,
            "--cuda-graph-impl, where the layers can be captured: launches are priced as of whole graphs",
        ),
        (
            job.expert_overlap and job.layout.expert_parallel > 1 and not beside_experts(job),
            "experts' traffic is priced as hidden, which Megatron does not do in this layout",
        ),
        (
            job.model.moe is not None and job.model.moe.router_bias != "none",
            "--moe-router-topk-scaling-factor and --moe-router-dtype, as the model was trained",
        ),
    ]


VOCABULARY_BLOCK = 128
"""Megatron pads the vocabulary to a multiple of so many rows a tensor rank."""

LONG_POSITIONS = 32768


def missing(launch: Launch) -> list[tuple[bool, str]]:
    """What of a job Megatron has no argument for."""
    job, layout = launch.job, launch.job.layout
    hybrid = layout.shards < layout.replicas
    return [
        (launch.backend != "cuda", f"device {launch.device}"),
        (job.lora is not None, "adapters"),
        (job.dtype not in _FORMATS, f"{job.dtype} training"),
        (job.dtype == "fp8" and job.narrow_recipe not in _RECIPES, f"fp8 by {job.narrow_recipe}"),
        (
            _by_fsdp(job) and _in_groups(job) and (launch.architecture or "hopper") in _ONE_QUEUE,
            f"ZeRO stage {layout.zero_stage} beside tensor or context parallel before Blackwell",
        ),
        (
            job.model.moe is not None and layout.tensor_parallel > 1 and not layout.sequence_parallel,
            "experts beside tensor parallel without sequence parallel",
        ),
        (
            job.dtype == "fp8" and job.fp8_all_gather and layout.zero_stage == 0,
            "weights kept in fp8 alone without the distributed optimizer",
        ),
        (job.storage == "pure" and job.dtype != "fp32", "weights in 16 bits without fp32 masters"),
        (job.optimizer not in _OPTIMIZERS, f"optimizer {job.optimizer}"),
        (layout.schedule not in {"1f1b", "interleaved"}, f"schedule {layout.schedule}"),
        (layout.zero_stage > 1 and layout.pipeline_parallel > 1, f"ZeRO stage {layout.zero_stage} in a pipeline"),
        (layout.zero_stage > 1 and hybrid, f"ZeRO stage {layout.zero_stage} over fewer than all replicas"),
        (job.offload not in {"none", "optimizer"}, f"offload of {job.offload} in all layers"),
        (job.offload == "optimizer" and layout.zero_stage == 0, "offload of the optimizer without ZeRO"),
        (job.optimizer == "muon" and layout.zero_stage > 0, f"muon with ZeRO stage {layout.zero_stage}"),
        (job.recompute == "selective" and job.recompute_layers is not None, "selective recompute in some layers"),
        (
            job.recompute == "selective" and not _MODULES.issuperset(job.selective),
            f"recompute of {', '.join(job.selective)}",
        ),
    ]


def _of_batch(launch: Launch) -> list[str]:
    job = launch.job
    length = [
        f"--seq-length {job.seq_len}",
        f"--max-position-embeddings {max(job.seq_len, job.model.max_seq_len)}",
        f"--micro-batch-size {job.micro_batch}",
        f"--global-batch-size {job.global_batch}",
    ]
    return length + ([] if launch.steps is None else [f"--train-iters {launch.steps}"])


def _of_layout(job: TrainingJob) -> list[str]:
    layout = job.layout
    found = [
        f"--tensor-model-parallel-size {layout.tensor_parallel}",
        f"--pipeline-model-parallel-size {layout.pipeline_parallel}",
    ]
    in_sequence = layout.tensor_parallel > 1 and layout.sequence_parallel
    found += ["--sequence-parallel"] if in_sequence else []
    found += ["--tp-comm-overlap"] if in_sequence and job.async_tensor_parallel else []
    if layout.context_parallel > 1:
        found += [
            f"--context-parallel-size {layout.context_parallel}",
            f"--cp-comm-type {_CONTEXT[layout.context_kind]}",
        ]
    if job.model.moe:
        found += [
            f"--expert-model-parallel-size {layout.expert_parallel}",
            f"--expert-tensor-parallel-size {layout.expert_tensor_parallel}",
        ]
    return [*found, "--overlap-moe-expert-parallel-comm"] if beside_experts(job) else found


def beside_experts(job: TrainingJob) -> bool:
    """Whether tokens travel to experts beside another micro-batch, by what Megatron asks of it."""
    layout = job.layout
    in_chunks = layout.pipeline_parallel == 1 or layout.schedule == "interleaved"
    whole = job.recompute != "full" and not (job.recompute == "selective" and "moe" in job.selective)
    narrow = job.dtype != "fp32" and job.model.mtp_layers < MTP_BESIDE
    return (
        job.expert_overlap
        and job.model.moe is not None
        and layout.expert_parallel > 1
        and in_chunks
        and whole
        and narrow
    )


MTP_BESIDE = 2
"""With so many layers for multi-token prediction experts' traffic is not hidden."""


def _of_pipeline(job: TrainingJob) -> list[str]:
    layout, layers = job.layout, job.model.layers
    if layout.pipeline_parallel == 1:
        return []
    chunks = layout.pipeline_parallel * layout.virtual_stages
    found = (
        [f"--num-virtual-stages-per-pipeline-rank {layout.virtual_stages}"] if layout.schedule == "interleaved" else []
    )
    if layers % chunks == 0:
        return found
    if job.model.pipeline_places % chunks == 0:
        return [*found, "--account-for-embedding-in-pipeline-split", "--account-for-loss-in-pipeline-split"]
    told_by_chunk = _uneven(layers, chunks, job.model.mtp_layers)  # which says how many chunks there are
    return [f"--pipeline-model-parallel-layout '{told_by_chunk}'"]


def _uneven(layers: int, chunks: int, ahead: int = 0) -> str:
    """Chunks written out; those with a layer less stand at both ends, where embedding and loss are.

    ``ahead`` layers for multi-token prediction stand before the loss.

    >>> _uneven(7, 4)
    'Et|t*2|t*2|t*2L'
    >>> _uneven(3, 2, 1)
    'Et|t*2mL'
    """
    least, more = divmod(layers, chunks)
    fewer = chunks - more
    sizes = [least] * ((fewer + 1) // 2) + [least + 1] * more + [least] * (fewer // 2)
    parts = ["t" if size == 1 else f"t*{size}" for size in sizes]
    return "E" + "|".join(parts) + "m" * ahead + "L"


def _of_sharding(job: TrainingJob) -> list[str]:
    layout = job.layout
    overlapped = layout.overlap and layout.replicas > 1 and job.optimizer != "muon"  # which core 0.17 refuses beside it
    overlap = ["--overlap-grad-reduce"] if overlapped else []
    if layout.zero_stage == 0:
        return overlap
    groups = layout.replicas // layout.shards
    found = ["--use-distributed-optimizer", *overlap, *(["--overlap-param-gather"] if overlap else [])]
    found += [f"--num-distributed-optimizer-instances {groups}"] if groups > 1 else []
    if layout.zero_stage > 1:
        found += [
            "--use-megatron-fsdp",
            f"--data-parallel-sharding-strategy {_SHARDING[layout.zero_stage]}",
            "--no-gradient-accumulation-fusion",
            "--ckpt-format fsdp_dtensor",
        ]
    return found


def _of_recompute(job: TrainingJob) -> list[str]:
    if job.recompute == "none":
        return []
    if job.recompute == "selective":
        return ["--recompute-granularity selective", f"--recompute-modules {' '.join(job.selective)}"]
    if job.recompute_layers is None or job.recompute_layers >= job.model.layers:
        return ["--recompute-granularity full", "--recompute-method uniform", "--recompute-num-layers 1"]
    each = -(-job.recompute_layers // (job.layout.pipeline_parallel * job.layout.virtual_stages))
    return ["--recompute-granularity full", "--recompute-method block", f"--recompute-num-layers {each}"]


def _of_numbers(job: TrainingJob) -> list[str]:
    attention = "unfused" if job.attention == "materialised" else "flash" if job.model.mla is None else "auto"
    narrow = []
    if job.dtype == "fp8" and job.narrow_recipe:
        form = "e4m3" if job.narrow_recipe in _OF_BLOCKS else "hybrid"
        narrow += [f"--fp8-format {form}", f"--fp8-recipe {_RECIPES[job.narrow_recipe]}"]
    narrow += ["--fp8-param-gather"] if narrow and job.fp8_all_gather else []
    narrow += ["--reuse-grad-buf-for-mxfp8-param-ag"] if len(narrow) > 2 and job.narrow_recipe == "mxfp8" else []
    found = [
        *_FORMATS[job.dtype],
        *narrow,
        f"--optimizer {_OPTIMIZERS[job.optimizer]}",
        f"--attention-backend {attention}",
    ]
    found += ["--cross-entropy-loss-fusion"] if job.loss == "fused" else []
    if job.gradient_bytes == 2 and job.dtype not in {"fp16", "fp32"}:
        found += ["--grad-reduce-in-bf16"]
    if job.gradient_bytes != 2 and job.dtype == "fp16":
        found += ["--accumulate-allreduce-grads-in-fp32"]  # bf16 has it by itself
    offloaded = ["--optimizer-cpu-offload", "--use-precision-aware-optimizer"]
    return found + (offloaded if job.offload == "optimizer" else [])
