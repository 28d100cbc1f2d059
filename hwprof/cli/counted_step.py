"""What does a counter's profiler run? One training step of a recorded run: ``python -m hwprof.cli.counted_step DIR``.

Nsight Compute repeats each kernel for each group of counters, and torch's profiler can't run beside it; so the run is
recorded first, and this takes the same step again without a profiler. Only the step itself lies between
cudaProfilerStart and cudaProfilerStop (``ncu --profile-from-start off``).
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from hwprof.errors import HwprofError, InputError
from hwprof.report.files.run import read_run

WARMUP_STEPS = 2
"""Steps in which libraries choose their kernels and optimizers make their state."""


def counted_step(directory: Path) -> float:
    """Take the step of a run again, after warm-ups; returns its loss.

    Raises:
        InputError: there is no such run, its device is not here, or its data are gone.
    """
    from hwprof.measure.host.environment import resolve_device
    from hwprof.train.loop import Trainer

    record = read_run(directory)
    settings = record.run_settings.changed(workers=0)
    if settings.new_tokens:
        raise InputError(
            f"{directory} generated, and counters are read of a training step", remedy="count a training run"
        )
    data = Path(settings.data)
    index = record.environment.get("device.index", "")
    device = resolve_device(f"{settings.device}:{index}" if index else settings.device)
    trainer = Trainer(record.spec, settings, data_path=data if data.is_file() else None, device=device)
    try:
        for _ in range(WARMUP_STEPS):
            trainer.step()
        with _counted(device.type):
            loss = float(trainer.step())
    finally:
        trainer.close()
    return loss


def _counted(kind: str) -> AbstractContextManager[object]:
    import torch

    return torch.cuda.profiler.profile() if kind == "cuda" else nullcontext()


def main() -> None:
    """Take the step; an error is one line."""
    if len(sys.argv) != 2:
        click.echo("usage: python -m hwprof.cli.counted_step DIR", err=True)
        sys.exit(2)
    try:
        click.echo(f"step taken, loss {counted_step(Path(sys.argv[1])):.4g}", err=True)
    except HwprofError as error:
        click.echo(f"hwprof: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
