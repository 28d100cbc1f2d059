"""How is a plan told to plain PyTorch? A program with FSDP2 or DDP around a model of transformers.

Calls: torch 2.13, ``torch.distributed.fsdp.fully_shard``; transformers 5, ``PreTrainedModel.initialize_weights``.
"""

from __future__ import annotations

from hwprof.plan.settings.launch import Launch, Settings, told
from hwprof.plan.settings.torchrun import launcher
from hwprof.specs.job.step import TrainingJob

FRAMEWORK = "PyTorch 2.13 (FSDP2)"
FILE_NAME = "fsdp2.py"

_FORMATS = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}
_OFFLOADS = {"none": False, "optimizer+weights": True}


def settings_for(launch: Launch) -> Settings:
    """The program, or what it can't say."""
    lacks = told(_missing(launch))
    if lacks:
        return Settings(framework=FRAMEWORK, file_name=FILE_NAME, lacks=lacks)
    start = " ".join([*launcher(launch), FILE_NAME, "--model config.json --tokens ids.bin"])
    head = [f"# {line}" for line in (*launch.about, start)]
    constants = [f"{name} = {value!r}" for name, value in _constants(launch).items()]
    text = "\n".join([*head, _IMPORTS, *constants, _PROGRAM])
    return Settings(framework=FRAMEWORK, file_name=FILE_NAME, text=text, besides=told(_besides(launch)))


def _missing(launch: Launch) -> list[tuple[bool, str]]:
    job, layout = launch.job, launch.job.layout
    spread = layout.tensor_parallel * layout.pipeline_parallel * layout.context_parallel * layout.expert_parallel
    wide_fp16 = job.dtype == "fp16" and job.storage != "pure"
    return [
        (launch.backend == "other", f"device {launch.device}"),
        (spread > 1, "tensor, pipeline, context and expert parallel: they are set in the model's code"),
        (layout.zero_stage == 1, "ZeRO stage 1: FSDP2 shards gradients with the optimizer state"),
        (job.dtype not in _FORMATS, f"{job.dtype} training"),
        (wide_fp16, "fp16 with wide weights: it takes a scaler of gradients"),
        (job.storage == "mixed" and job.dtype != "fp32", "16-bit weights beside fp32 masters"),
        (job.storage == "narrowed" and layout.zero_stage == 0 and job.dtype != "fp32", "narrow copies without FSDP"),
        (job.optimizer not in _OPTIMIZERS, f"optimizer {job.optimizer}"),
        (job.offload not in _OFFLOADS, f"offload of {job.offload}: FSDP2 offloads weights with the optimizer"),
        (job.offload != "none" and layout.zero_stage == 0, f"offload of {job.offload} without FSDP"),
        (job.recompute == "selective", "recompute of single operations"),
        (layout.zero_stage > 0 and not layout.overlap, "traffic that is not beside compute"),
        (job.lora is not None, "adapters"),
        (job.model.kind != "decoder", f"a model of kind {job.model.kind}"),
    ]


def _besides(launch: Launch) -> list[tuple[bool, str]]:
    kernel = launch.job.attention
    return [
        (True, "a config.json of transformers, and a file of token numbers (uint32)"),
        (kernel in {"flash-2", "flash-3"}, f'attn_implementation="{kernel.replace("flash-", "flash_attention_")}"'),
    ]


def _constants(launch: Launch) -> dict[str, object]:
    job, layout = launch.job, launch.job.layout
    return {
        "DEVICES": launch.devices,
        "SHARD_RANKS": layout.shards if layout.zero_stage else 1,
        "RESHARD_AFTER_FORWARD": layout.zero_stage == 3,
        "SEQ_LEN": job.seq_len,
        "MICRO_BATCH": job.micro_batch,
        "MICRO_BATCHES": job.micro_batches,
        "STEPS": launch.steps,
        "FORMAT": _FORMATS[job.dtype],
        "STORAGE": job.storage,
        "REDUCE_FORMAT": _FORMATS[job.dtype] if _narrow_gradients(job) else "float32",
        "OPTIMIZER": _OPTIMIZERS[job.optimizer],
        "RECOMPUTED_LAYERS": _recomputed(job),
        "COMPILE": job.compiled,
        "OFFLOAD": _OFFLOADS[job.offload],
        "ATTENTION": "eager" if job.attention == "materialised" else "sdpa",
    }


def _narrow_gradients(job: TrainingJob) -> bool:
    return job.storage == "pure" or job.gradient_bytes == 2


def _recomputed(job: TrainingJob) -> int:
    if job.recompute == "none":
        return 0
    return job.model.layers if job.recompute_layers is None else job.recompute_layers


_IMPORTS = """
import argparse
import contextlib
import os

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoConfig, AutoModelForCausalLM
"""

_PROGRAM = '''

def decoder_layers(model):
    """The longest list of modules: a decoder's layers."""
    return max((m for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=len)


def distributed(model, device):
    """Recompute, compilation and sharding or replicas, as planned; weights are made where they stay."""
    layers = decoder_layers(model)
    for index in range(RECOMPUTED_LAYERS):
        layers[index] = checkpoint_wrapper(layers[index])
    if COMPILE:
        for layer in layers:
            layer.compile()
    sharded = RESHARD_AFTER_FORWARD or SHARD_RANKS > 1
    if sharded:
        replicas = DEVICES // SHARD_RANKS
        names, sizes = ("replicate", "shard"), (replicas, SHARD_RANKS)
        if replicas == 1:
            names, sizes = ("shard",), (SHARD_RANKS,)
        narrow = getattr(torch, FORMAT) if STORAGE == "narrowed" else None
        how = {
            "mesh": init_device_mesh(device.type, sizes, mesh_dim_names=names),
            "mp_policy": MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=getattr(torch, REDUCE_FORMAT)),
            "offload_policy": CPUOffloadPolicy() if OFFLOAD else OffloadPolicy(),
        }
        for layer in layers:
            fully_shard(layer, reshard_after_forward=RESHARD_AFTER_FORWARD, **how)
        fully_shard(model, reshard_after_forward=RESHARD_AFTER_FORWARD, **how)
    model.to_empty(device="cpu" if OFFLOAD else device)
    model.initialize_weights()
    return model if DEVICES == 1 or sharded else DistributedDataParallel(model)


def batches(path, device):
    """Windows of the file at random places, others on each rank."""
    ids = np.memmap(path, dtype=np.uint32, mode="r")
    chosen = np.random.default_rng(dist.get_rank())
    while True:
        starts = chosen.integers(0, len(ids) - SEQ_LEN, size=MICRO_BATCH)
        yield torch.tensor(np.stack([ids[at : at + SEQ_LEN] for at in starts]).astype(np.int64), device=device)


def train(model, optimizer, data, device, steps):
    """Optimizer steps; gradients of replicas meet once a step, shards of gradients after each micro-batch."""
    narrow = STORAGE == "autocast" and FORMAT != "float32"
    for step in range(steps):
        for micro_batch in range(MICRO_BATCHES):
            alone = isinstance(model, DistributedDataParallel) and micro_batch < MICRO_BATCHES - 1
            tokens = next(data)
            with (
                model.no_sync() if alone else contextlib.nullcontext(),
                torch.autocast(device.type, dtype=getattr(torch, FORMAT), enabled=narrow),
            ):
                loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss / MICRO_BATCHES
                loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if dist.get_rank() == 0:
            print(f"step {step + 1}: loss {loss.item() * MICRO_BATCHES:.4f}", flush=True)


def main(arguments=None):
    options = argparse.ArgumentParser()
    options.add_argument("--model", required=True, help="config.json of transformers, or a name of its hub")
    options.add_argument("--tokens", required=True, help="file of token numbers, uint32")
    options.add_argument("--lr", type=float, default=3e-4)
    options.add_argument("--steps", type=int, default=STEPS, required=STEPS is None)
    given = options.parse_args(arguments)
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(kind, int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if OFFLOAD and kind == "cuda" else None)
    if dist.get_world_size() != DEVICES:
        raise SystemExit(f"{dist.get_world_size()} processes; the plan has {DEVICES}")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(given.model), attn_implementation=ATTENTION)
    model = model.to(getattr(torch, FORMAT) if STORAGE == "pure" else torch.float32)
    model = distributed(model, device)
    fused = {} if OFFLOAD else {"fused": True}
    optimizer = getattr(torch.optim, OPTIMIZER)(model.parameters(), lr=given.lr, **fused)
    train(model, optimizer, batches(given.tokens, device), device, given.steps)
    return model, optimizer


if __name__ == "__main__":
    main()
    if dist.get_backend() == "nccl":
        dist.destroy_process_group()
    else:
        dist.barrier()
        os._exit(0)  # all is trained; gloo's threads may abort a process that takes its group apart (torch 2.13)
'''
