"""Starts Accelerate with a written file on two ranks of a CPU, as its launcher would on GPUs; prints what was trained.

The environment is what ``accelerate launch`` makes of the file; that FSDP goes with CPUs is stood in for.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import DistributedType, PartialState
from accelerate.utils.launch import prepare_multi_gpu_env
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointWrapper
from torch.distributed.fsdp import FSDPModule
from transformers import LlamaConfig, LlamaForCausalLM


def _environment(path: str) -> dict[str, str]:
    args = launch_command_parser().parse_args(["--config_file", path, "train.py"])
    args.nondefault = {}
    args, _, _ = _validate_launch_command(args)
    return prepare_multi_gpu_env(args)


def _model() -> LlamaForCausalLM:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, num_hidden_layers=4, max_position_embeddings=64, **sizes))


def _rank(rank: int, world: int, port: int, path: str, accumulation: int, micro_batch: int) -> None:
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ |= _environment(path)
    os.environ |= {name: str(value) for name, value in places.items()} | {"MASTER_ADDR": "127.0.0.1"}
    os.environ["ACCELERATE_USE_CPU"] = "true"
    state = PartialState(cpu=True)
    state.distributed_type = DistributedType.MULTI_GPU
    found = Accelerator(gradient_accumulation_steps=accumulation, cpu=True)
    kind = str(found.distributed_type)
    model = _model()
    whole = sum(each.numel() for each in model.parameters())
    model, optimizer = found.prepare(model, torch.optim.AdamW(model.parameters()))
    updates, seen = 0, 0
    for _ in range(2 * accumulation):
        tokens = torch.randint(0, 64, (micro_batch, 32))
        with found.accumulate(model):
            found.backward(model(input_ids=tokens, labels=tokens).loss)
            optimizer.step()
            updates += bool(found.sync_gradients)
            optimizer.zero_grad()
        seen += micro_batch
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    policies = {module._get_fsdp_state()._mp_policy for module in sharded}
    local = sum(getattr(each, "_local_tensor", each).numel() for each in model.parameters())
    wrapped = sum(isinstance(module, CheckpointWrapper) for module in model.modules())
    tallies = torch.tensor([local, seen, wrapped])
    dist.all_reduce(tallies)
    if rank == 0:
        report: dict[str, Any] = {
            "type": kind.rsplit(".", 1)[-1],
            "ranks": found.num_processes,
            "dtype": found.mixed_precision,
            "updates": updates,
            "sequences": int(tallies[1]),
            "whole_copies": round(int(tallies[0]) / whole, 1),
            "recomputed_layers": int(tallies[2]) // world,
            "sharded": sorted({type(module).__name__ for module in sharded}),
            "products": sorted({str(policy.param_dtype) for policy in policies}),
        }
        sys.stdout.write("\n" + json.dumps(report) + "\n")
        sys.stdout.flush()
    dist.barrier()
    os._exit(0)


def main() -> None:
    """FILE ACCUMULATION MICRO_BATCH."""
    path, accumulation, micro_batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = int(bound.getsockname()[1])
    forks = multiprocessing.get_context("fork")
    ranks = [forks.Process(target=_rank, args=(rank, 2, port, path, accumulation, micro_batch)) for rank in range(2)]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join(timeout=280)
    sys.exit(any(each.exitcode != 0 for each in ranks))


main()
