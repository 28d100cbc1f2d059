"""A small decoder trained in one of the usual parallel styles, on whatever device there is: --style, --steps, --width.

Plain PyTorch as people write it; it knows nothing of hwprof. `benchmarks/emulate_here.py` runs it and emulates it.
"""

import argparse
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed._functional_collectives import all_to_all_single_autograd
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

STYLES = ("ddp", "fsdp2", "tp2", "pp2", "fsdp2-tp2", "moe", "accumulation", "checkpointing")
parser = argparse.ArgumentParser()
parser.add_argument("--style", choices=STYLES, required=True)
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--width", type=int, default=384)
parser.add_argument("--layers", type=int, default=4)
parser.add_argument("--tokens", type=int, default=128)
args = parser.parse_args()
WIDTH, HEADS, LAYERS, WORDS, TOKENS, BATCH = args.width, args.width // 64, args.layers, 2000, args.tokens, 4


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))

    def forward(self, x):
        batch, tokens, _ = x.shape
        q, k, v = (each(x).view(batch, tokens, -1, WIDTH // HEADS).transpose(1, 2) for each in (self.q, self.k, self.v))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(mixed.transpose(1, 2).reshape(batch, tokens, -1))


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.up = (nn.Linear(WIDTH, 4 * WIDTH, bias=False) for _ in range(2))
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """One expert a rank; each token goes to one of them, as many to each."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(WIDTH, dist.get_world_size(), bias=False)
        self.expert = FeedForward()

    def forward(self, x):
        flat = x.flatten(0, 1)
        ranks, share = dist.get_world_size(), flat.shape[0] // dist.get_world_size()
        scores = self.router(flat).softmax(-1)
        _, order = scores[:, 0].sort()  # the first share of them to the first expert, and so on
        sizes = [share] * ranks
        sent = all_to_all_single_autograd(flat[order], sizes, sizes, dist.group.WORLD)
        back = all_to_all_single_autograd(self.expert(sent), sizes, sizes, dist.group.WORLD)
        return (torch.zeros_like(flat).index_copy(0, order, back) * scores.amax(-1, keepdim=True)).view_as(x)


class Block(nn.Module):
    def __init__(self, *, experts=False):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.feed_forward = Experts() if experts else FeedForward()

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class Decoder(nn.Module):
    def __init__(self, *, layers=LAYERS, first=True, last=True, experts=False, recompute=False):
        super().__init__()
        self.recompute = recompute
        self.embedding = nn.Embedding(WORDS, WIDTH) if first else None
        self.blocks = nn.ModuleList(Block(experts=experts) for _ in range(layers))
        self.norm, self.head = (nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)) if last else (None, None)

    def forward(self, x):
        if self.embedding is not None:
            x = self.embedding(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.recompute else block(x)
        return x if self.head is None else self.head(self.norm(x))


def split_over_ranks(model, mesh):
    plan = {f"attention.{name}": ColwiseParallel() for name in "qkv"}
    plan |= {"attention.o": RowwiseParallel(), "feed_forward.down": RowwiseParallel()}
    plan |= {"feed_forward.gate": ColwiseParallel(), "feed_forward.up": ColwiseParallel()}
    for block in model.blocks:
        parallelize_module(block, mesh, plan)


def shard(model, mesh):
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def build(style, device):
    ranks = dist.get_world_size()
    if style == "pp2":
        stage = dist.get_rank()
        part = Decoder(layers=LAYERS // ranks, first=stage == 0, last=stage == ranks - 1).to(device)
        return part, PipelineStage(part, stage, ranks, device)
    model = Decoder(experts=style == "moe", recompute=style == "checkpointing").to(device)
    if style == "tp2":
        split_over_ranks(model, dist.init_device_mesh(device.type, (ranks,)))
    elif style == "fsdp2-tp2":
        mesh = dist.init_device_mesh(device.type, (ranks // 2, 2), mesh_dim_names=("dp", "tp"))
        split_over_ranks(model, mesh["tp"])
        shard(model, mesh["dp"])
    elif style in {"fsdp2", "checkpointing"}:
        shard(model, dist.init_device_mesh(device.type, (ranks,)))
    elif style in {"ddp", "accumulation"}:
        model = DistributedDataParallel(model)
    return model, None


def loss_of(scores, targets):
    return functional.cross_entropy(scores.flatten(0, 1), targets.flatten())


def step(style, model, schedule, batch, device):
    if schedule is not None:
        tokens = batch.to(device)
        if dist.get_rank() == 0:
            schedule.step(tokens[:, :-1].contiguous())
        else:
            schedule.step(target=tokens[:, 1:].contiguous())
        return
    parts = batch.chunk(4) if style == "accumulation" else [batch]
    for place, part in enumerate(parts):
        tokens = part.to(device)
        if style == "accumulation":
            model.require_backward_grad_sync = place == len(parts) - 1
        loss = loss_of(model(tokens[:, :-1]), tokens[:, 1:]) / len(parts)
        loss.backward()
    if style == "moe":  # what all ranks hold alike
        for name, parameter in model.named_parameters():
            if ".expert." not in name:
                dist.all_reduce(parameter.grad)


def main():
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    torch.manual_seed(0)
    model, stage = build(args.style, device)
    schedule = Schedule1F1B(stage, 4, loss_fn=loss_of) if stage is not None else None
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    for _ in range(args.steps):
        step(args.style, model, schedule, torch.randint(0, WORDS, (BATCH, TOKENS + 1)), device)
        optimizer.step()
        optimizer.zero_grad()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
