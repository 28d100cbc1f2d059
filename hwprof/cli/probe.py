"""``hwprof probe``: which ceilings does this machine have? Measures them and saves a calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option, say
from hwprof.cli.options import options_of
from hwprof.cli.progress import caller
from hwprof.session.request import ProbeRequest
from hwprof.specs.parsing import checked


@click.command(
    epilog=examples(
        "hwprof probe --device cuda --quick",
        "hwprof probe --dtype bf16 --dtype fp32 --output calibration.json",
        "torchrun --nproc-per-node 8 -m hwprof probe --output links.json",
    )
)
@options_of(
    ProbeRequest,
    {"dtypes": ("--dtype",), "emulations": ("--emulation",), "quick": ("--quick/--full",)},
    emulations={"metavar": "DIR"},
    output={"type": click.Path(dir_okay=False, path_type=Path)},
)
@format_option
def command(*, output_format: str, **asked: Any) -> None:
    """Measure this machine's ceilings: matrix multiplication, memory, transfers, latencies.

    They are saved as a calibration, with every sample and all that they depend on. Started as several ranks (torchrun
    --nproc-per-node 8 -m hwprof probe) it measures the links between them instead: collectives over sizes, pairs of
    ranks, and computation beside communication.
    """
    from hwprof.measure.world import launched
    from hwprof.session.probe import probe_alone, probe_ranks

    several = launched()
    with caller(quiet=False) as told:
        request = checked(ProbeRequest, **asked)
        probed = probe_ranks(request, told) if several else probe_alone(request, told)
    if probed is None:
        return
    if output_format == "json":
        click.echo(probed.calibration.to_json(), nl=False)
        return
    from hwprof.cli.probe_text import device_text, links_text

    say((links_text if several else device_text)(probed.calibration, probed.path).removesuffix("\n"))
