"""MFU, bound shares, exposed communication and step time, live in TensorBoard, W&B, MLflow, Prometheus, a page.

Run: python examples/live_logging.py [DIRECTORY]
"""

import os
import sys
from pathlib import Path

import mlflow
import torch
from torch import nn

import hwprof
from hwprof.loggers.mlflow import MLflowLogger
from hwprof.loggers.page import LivePage
from hwprof.loggers.prometheus import PrometheusFile
from hwprof.loggers.tensorboard import TensorBoardLogger
from hwprof.loggers.wandb import WandbLogger


def main(directory: str) -> None:
    torch.manual_seed(0)
    home = Path(directory)
    home.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder; a server or a database needs no such thing
    mlflow.set_tracking_uri((home / "mlflow").absolute().as_uri())
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
    optimizer = torch.optim.AdamW(model.parameters())
    loggers = [
        TensorBoardLogger(home / "tensorboard"),
        WandbLogger(project="hwprof", mode="offline", dir=str(home)),
        MLflowLogger(),
        PrometheusFile(home / "hwprof.prom", labels={"job": "example"}),
        LivePage(home / "live.html"),
    ]
    with hwprof.profile(model, optimizer, loggers=loggers, log_every=5) as prof:
        for _ in range(45):
            rows = torch.randn(32, 64)
            (model(rows) - rows).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            prof.step()
    print((home / "hwprof.prom").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "reports/live-logging")
