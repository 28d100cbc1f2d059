"""DistributedDataParallel or FSDP2 in a plain loop; each rank measures, rank 0 reports.

Run: torchrun --nproc-per-node 2 examples/data_parallel.py ddp|fsdp2 [DIRECTORY]
"""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import hwprof


def main(kind: str, directory: str) -> None:
    cuda = torch.cuda.is_available()
    dist.init_process_group("nccl" if cuda else "gloo")
    rank = dist.get_rank()
    device = torch.device("cuda", rank) if cuda else torch.device("cpu")
    torch.manual_seed(0)
    blocks = (nn.Sequential(nn.Linear(256, 256), nn.GELU()) for _ in range(4))
    model: nn.Module = nn.Sequential(*blocks, nn.Linear(256, 256)).to(device)
    if kind == "ddp":
        model = DistributedDataParallel(model)
    else:
        for block in model:
            fully_shard(block)
        fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters())

    with hwprof.profile(model, optimizer, output=directory) as prof:
        for _ in range(40):
            rows = torch.randn(64, 256, device=device)
            model(rows).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            prof.step()

    if rank == 0:
        print(prof.summary())
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else f"reports/data-parallel-{sys.argv[1]}")
