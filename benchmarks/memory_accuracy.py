"""How near is the predicted peak memory of a training step to what torch's own memory tracker sees?

Steps of the real model and optimizer run on fake tensors (shapes without data), so that models of any size fit; torch's
``MemTracker`` follows every storage. Prints a line for each setting, then median and worst error.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from typing import get_args

import torch
import torch.nn.functional as F  # noqa: N812 (the name that torch's own documentation uses)
from torch._subclasses import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from hwprof.count.memory.step import training_memory
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import Recompute, RunSettings
from hwprof.train.decoder import Decoder
from hwprof.train.optimizers import build_optimizer

MATRIX = (
    # model, sequence length, micro-batches, formats, optimizers
    ("gpt2-124m", 1024, (1, 8), ("fp32", "bf16"), (("adamw", "foreach"),)),
    ("gpt2-124m", 128, (2,), ("fp32",), (("adamw", "for-loop"), ("adam", "fused"), ("sgd", "foreach"))),
    ("1b", 2048, (1, 4), ("bf16",), (("adamw", "foreach"),)),
    ("pythia-1.4b", 2048, (4,), ("fp32", "bf16"), (("adamw", "for-loop"),)),
    ("8b", 4096, (1, 2), ("bf16",), (("adamw", "fused"),)),
)
"""Each with every kind of recompute. Adafactor asks for values, which fake tensors have not; the tests take it."""


def take_step(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: list[torch.Tensor], settings: RunSettings
) -> None:
    def accumulate() -> None:  # logits live as long as one micro-batch, as in the training loop
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.dtype == "bf16"):
            logits = model(batch[0])
        loss = F.cross_entropy(logits.float().view(-1, logits.shape[-1]), batch[1].view(-1))
        torch.autograd.backward(loss / settings.gradient_accumulation)

    for _ in range(settings.gradient_accumulation):
        accumulate()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def tracked_peak_bytes(spec: ModelSpec, settings: RunSettings) -> int:
    if spec.positions == "rope":  # tables as long as the sequences, as in the training loop
        spec = spec.model_copy(update={"max_seq_len": settings.seq_len})
    with FakeTensorMode():
        model = Decoder(spec, recompute=settings.recompute)
        optimizer = build_optimizer(
            model, settings.optimizer, settings.optimizer_implementation, learning_rate=settings.learning_rate
        )
        shape = (settings.micro_batch, settings.seq_len)
        batch = [torch.zeros(shape, dtype=torch.int64) for _ in range(2)]
        take_step(model, optimizer, batch, settings)
        tracker = MemTracker()
        tracker.track_external(model, optimizer, *batch)
        with tracker:
            take_step(model, optimizer, batch, settings)
        return max(device["Total"] for device in tracker.get_tracker_snapshot("peak").values())


def settings_of_all(only: str | None) -> list[tuple[ModelSpec, RunSettings]]:
    return [
        (
            load_model(name),
            RunSettings(
                model=name,
                device="cpu",
                dtype=dtype,
                micro_batch=batch,
                seq_len=seq_len,
                recompute=recompute,
                optimizer=optimizer,
                optimizer_implementation=implementation,
                clip_norm=None,
            ),
        )
        for name, seq_len, batches, dtypes, optimizers in MATRIX
        if only in {None, name}
        for batch, dtype, (optimizer, implementation) in itertools.product(batches, dtypes, optimizers)
        for recompute in get_args(Recompute)
    ]


def main() -> None:
    errors = []
    for spec, settings in settings_of_all(sys.argv[1] if len(sys.argv) > 1 else None):
        start = time.perf_counter()
        measured, need = tracked_peak_bytes(spec, settings), training_memory(spec, settings)
        error = need.peak_bytes / measured - 1
        errors.append(abs(error))
        print(
            f"{spec.name:14} {settings.micro_batch}x{settings.seq_len} {settings.dtype} {settings.recompute:9} "
            f"{settings.optimizer:9} {settings.optimizer_implementation:8} tracked {measured / 2**30:8.3f} GiB "
            f"predicted {need.peak_bytes / 2**30:8.3f} GiB {error:+.2%}  {need.moment} "
            f"({time.perf_counter() - start:.1f} s)",
            flush=True,
        )
    print(f"{len(errors)} settings: median {statistics.median(errors):.2%}, worst {max(errors):.2%}")


if __name__ == "__main__":
    main()
