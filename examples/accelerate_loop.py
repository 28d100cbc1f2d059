"""Accelerate: accumulation, trackers. Run: python examples/accelerate_loop.py [DIRECTORY]."""

import sys

import torch
from accelerate import Accelerator
from torch import nn

from hwprof.adapters.accelerate import profile


def main(directory: str) -> None:
    torch.manual_seed(0)
    accelerator = Accelerator(gradient_accumulation_steps=2, cpu=not torch.cuda.is_available())
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
    optimizer = torch.optim.AdamW(model.parameters())
    data = torch.utils.data.TensorDataset(torch.randn(640, 64))
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    with profile(accelerator, model, optimizer, output=directory) as prof:
        for (rows,) in loader:
            with accelerator.accumulate(model):
                accelerator.backward((model(rows) - rows).square().mean())
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                prof.step()

    print(prof.summary())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "reports/accelerate-loop")
