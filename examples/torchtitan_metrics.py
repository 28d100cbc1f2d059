"""A loop with a torchtitan-style metrics logger: hwprof's metrics join those of the loop.

Run: python examples/torchtitan_metrics.py [DIRECTORY]
"""

import sys
from collections.abc import Mapping

import torch
from torch import nn

import hwprof
from hwprof.adapters.torchtitan import MetricsHook


class PrintLogger:
    """The shape of torchtitan's ``BaseLogger``; there it is ``trainer.metrics_processor.logger``."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        print(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))

    def close(self) -> None:
        print("logger closed")


def main(directory: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
    optimizer = torch.optim.AdamW(model.parameters())
    with hwprof.profile(model, optimizer, output=directory) as prof:
        logger = MetricsHook(prof, PrintLogger())
        for step in range(1, 41):
            rows = torch.randn(32, 64)
            loss = (model(rows) - rows).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            prof.step()
            if step % 10 == 0:
                logger.log({"loss_metrics/global_avg_loss": loss.item()}, step)
        logger.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "reports/torchtitan-metrics")
