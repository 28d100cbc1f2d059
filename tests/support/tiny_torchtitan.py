"""Starts torchtitan's own trainer on CPUs with written files, of its models' kinds but tiny; prints what was trained.

What a CPU lacks is stood in for: counters of memory, and gloo's missing scaled sums.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import socket
import sys
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

torch._utils._get_available_device_type = lambda: "cpu"  # type: ignore[attr-defined]
torch.cpu.get_device_name = lambda *_: "cpu"  # type: ignore[attr-defined]
torch.cpu.get_device_properties = lambda *_: SimpleNamespace(total_memory=1 << 34)  # type: ignore[attr-defined]
torch.cpu.current_device = lambda: 0  # type: ignore[assignment,return-value]
for name in ("reset_peak_memory_stats", "empty_cache", "set_device"):
    setattr(torch.cpu, name, lambda *_: None)
torch.cpu.memory_stats = lambda *_: {}  # type: ignore[attr-defined]

from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointWrapper  # noqa: E402 (after that)
from torch.distributed.fsdp import FSDPModule  # noqa: E402
from torchtitan import train  # noqa: E402
from torchtitan.config import ConfigManager  # noqa: E402
from torchtitan.protocols import train_spec  # noqa: E402

VOCABULARY = 64
_TINY = {"dim": 64, "n_heads": 8, "n_kv_heads": 4, "vocab_size": VOCABULARY}
_scale = FSDPModule.set_gradient_divide_factor


def _summed(module: Any, factor: float) -> None:
    _scale(module, factor)
    module.set_force_sum_reduction_for_comms(True)


class Batches:
    """Random tokens, and how many of them were handed out."""

    def __init__(self, *, job_config: Any, **_: object) -> None:
        self.shape = job_config.training.local_batch_size, job_config.training.seq_len + 1

    def __iter__(self) -> Any:
        while True:
            tokens = torch.randint(0, VOCABULARY, self.shape)
            yield {"input": tokens[:, :-1]}, tokens[:, 1:]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def _tiny(found: Any) -> Any:
    """The same model with every flavor's layers but narrow."""

    def small(arguments: Any) -> Any:
        names = {field.name for field in dataclasses.fields(arguments)}
        changes = {name: value for name, value in _TINY.items() if name in names}
        changes |= {"head_dim": 16, "hidden_dim": 64} if "head_dim" in names else {"multiple_of": 16}
        return dataclasses.replace(arguments, **changes)

    return dataclasses.replace(
        found,
        build_tokenizer_fn=None,
        build_dataloader_fn=Batches,
        state_dict_adapter=None,
        model_args={name: small(arguments) for name, arguments in found.model_args.items()},
    )


def _read_back(trainer: Any) -> dict[str, Any]:
    dims, parts = trainer.parallel_dims, trainer.model_parts
    modules = [module for part in parts for module in part.modules()]
    sharded = [module for module in modules if isinstance(module, FSDPModule)]
    parameters = [parameter for part in parts for parameter in part.parameters()]
    local = sum(getattr(each, "_local_tensor", each).numel() for each in parameters)
    tallies = torch.tensor([sum(isinstance(each, CheckpointWrapper) for each in modules), local, trainer.ntokens_seen])
    dist.all_reduce(tallies)
    policies = {module._get_fsdp_state()._mp_policy for module in sharded}
    schedule = getattr(trainer, "pp_schedule", None)
    return {
        "degrees": [dims.dp_replicate, dims.dp_shard, dims.cp, dims.tp, dims.pp, dims.ep],
        "steps": trainer.step,
        "tokens": int(tallies[2]) // (dims.cp * dims.tp * dims.pp),
        "recomputed_layers": int(tallies[0]) // (dims.world_size // dims.pp),
        "whole_copies": round(int(tallies[1]) / sum(each.numel() for each in parameters), 2),
        "gradients": sorted({str(policy.reduce_dtype) for policy in policies}),
        "products": sorted({str(policy.param_dtype) for policy in policies}),
        "chunks": len(parts),
        "schedule": type(schedule).__name__ if schedule else "",
        "micro_batches": schedule._n_microbatches if schedule else trainer.gradient_accumulation_steps,
    }


def _rank(rank: int, world: int, port: int, path: str) -> None:
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in places.items()} | {"MASTER_ADDR": "127.0.0.1"}
    off = ["--compile.no-enable", "--metrics.log_freq=1000"]  # compiling is inductor's
    trainer = train.Trainer(ConfigManager().parse_args(["--job.config_file", path, *off]))
    trainer.train()
    found = _read_back(trainer)
    if rank == 0:
        sys.stdout.write("\n" + json.dumps({"file": path} | found) + "\n")
        sys.stdout.flush()
    dist.barrier()
    os._exit(0)


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def main() -> None:
    """Ranks are forks of this process, which has imported everything: WORLD FILE..."""
    FSDPModule.set_gradient_divide_factor = _summed
    of_name = train_spec.get_train_spec
    train_spec.get_train_spec = lambda name: _tiny(of_name(name))
    world, paths = int(sys.argv[1]), sys.argv[2:]
    forks = multiprocessing.get_context("fork")
    failed = False
    for path in paths:
        port = _free_port()
        ranks = [forks.Process(target=_rank, args=(rank, world, port, path)) for rank in range(world)]
        for each in ranks:
            each.start()
        for each in ranks:
            each.join(timeout=280)
            if each.exitcode != 0:
                failed = True
                each.kill()
    sys.exit(failed)


main()
