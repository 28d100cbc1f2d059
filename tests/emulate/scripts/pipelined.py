"""A pipeline of torch's own on whatever device there is, a stage a rank; --steps N."""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.nn import functional

WIDTH, WORDS = 256, 500


class Part(nn.Module):
    def __init__(self, *, first, last):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH) if first else None
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)) for _ in range(2)
        )
        self.head = nn.Linear(WIDTH, WORDS) if last else None

    def forward(self, x):
        if self.embedding is not None:
            x = self.embedding(x)
        for block in self.blocks:
            x = x + block(x)
        return x if self.head is None else self.head(x)


def loss(scores, targets):
    return functional.cross_entropy(scores.flatten(0, 1), targets.flatten())


def main(steps):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    part = Part(first=rank == 0, last=rank == ranks - 1).to(device)
    schedule = Schedule1F1B(PipelineStage(part, rank, ranks, device), 4, loss_fn=loss)
    optimizer = torch.optim.AdamW(part.parameters(), foreach=False)
    for _ in range(steps):
        tokens = torch.randint(0, WORDS, (8, 65)).to(device)
        if rank == 0:
            schedule.step(tokens[:, :-1].contiguous())
        else:
            schedule.step(target=tokens[:, 1:].contiguous())
        optimizer.step()
        optimizer.zero_grad()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[sys.argv.index("--steps") + 1]))
