"""`hwprof run`: probe, train, record, classify, predict, recommend, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from hwprof.cli.format_option import format_option
from hwprof.cli.numbers import FiniteRange

_DTYPES = ("fp32", "tf32", "bf16", "fp16")


@click.command("run", help="Measure one Transformer training step on this machine and say what holds it back.")
@click.option("--model", default="tiny", show_default=True, help="Catalogue name, alias or TOML file.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--dtype", type=click.Choice(_DTYPES), help="Precision; default bf16 on GPUs that have it, else fp32.")
@click.option("--micro-batch", "--batch-size", type=click.IntRange(min=1), help="Sequences a micro-step; default fits.")
@click.option("--seq-len", type=click.IntRange(min=2), help="Tokens a sequence; default 256 on a CPU, 2048 on a GPU.")
@click.option(
    "--gradient-accumulation",
    type=click.IntRange(min=1),
    help="Micro-batches a step; default 1, in a pipeline 2 for each stage.",
)
@click.option(
    "--optimizer", type=click.Choice(("adamw", "adam", "sgd", "adafactor")), default="adamw", show_default=True
)
@click.option(
    "--optimizer-implementation",
    type=click.Choice(("for-loop", "foreach", "fused")),
    help="Default: foreach on a GPU, fused where its temporaries would fill the memory; for-loop on a CPU.",
)
@click.option("--learning-rate", type=FiniteRange(min=0, min_open=True), default=1e-3, show_default=True)
@click.option("--clip-norm", type=FiniteRange(min=0), default=1.0, show_default=True, help="0 turns clipping off.")
@click.option("--recompute", type=click.Choice(("none", "selective", "full")), default="none", show_default=True)
@click.option("--compile", "compiled", is_flag=True, help="torch.compile the model.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Text file, or token file (.bin, .npy); default: a novel."
)
@click.option("--tokenizer", default="bytes", show_default=True, help="bytes, bpe:<vocabulary> or a tokenizer.json.")
@click.option("--workers", type=click.IntRange(min=0), default=1, show_default=True, help="DataLoader workers.")
@click.option("--warmup-steps", type=click.IntRange(min=0), default=3, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Timed steps at most.")
@click.option(
    "--time-budget",
    type=FiniteRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds of timed steps at most.",
)
@click.option("--profiled-steps", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--eval-batches", type=click.IntRange(min=0), default=2, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option(
    "--parallel",
    metavar="LAYOUT",
    help="Several ranks (torchrun ... -m hwprof run): ddp, zero2 or fsdp; tp<N>, sp; pp<N>, vp<N>; joined by dashes.",
)
@click.option(
    "--schedule", type=click.Choice(("gpipe", "1f1b")), default="1f1b", show_default=True, help="Of the pipeline."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=10),
    default=300.0,
    show_default=True,
    help="Several ranks: seconds without progress after which the run ends and says which rank hangs.",
)
@click.option("--full-probes", is_flag=True, help="Probe longer, more shapes and sizes.")
@click.option("--cluster", help="Also plan layouts for it: 8xh100-sxm, a cluster name or TOML file.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Run directory; default under reports/."
)
@format_option
@click.option("--quiet", is_flag=True, help="No progress, only the summary.")
def command(output_format: str, output: Path | None, *, quiet: bool, timeout_s: float, **options: Any) -> None:
    """Run the main job."""
    from hwprof.cli.progress import progress_on_stderr
    from hwprof.measure.world import launched
    from hwprof.report.run.text import print_summary
    from hwprof.session.request import default_directory, request_of
    from hwprof.session.run import Session

    if launched():
        from hwprof.cli.probe_ranks import speaking_once
        from hwprof.cli.run_ranks import run_ranks

        with speaking_once():
            run_ranks(options, output=output, output_format=output_format, quiet=quiet, timeout_s=timeout_s)
        return
    request = request_of(**options)
    directory = output or default_directory(request.settings.model, request.settings.device)
    with progress_on_stderr(quiet=quiet) as progress:
        session = Session(request, directory, progress)
        record = session.execute()
    if output_format == "json":
        click.echo(record.model_dump_json(indent=1))
    else:
        print_summary(record, sys.stdout, directory)
    if session.report_error:
        raise session.report_error
