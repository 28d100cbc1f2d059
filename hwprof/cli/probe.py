"""``hwprof probe``: which ceilings does this machine have? Measures them and saves a calibration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwprof.cli.format_option import format_option
from hwprof.cli.numbers import FiniteRange
from hwprof.cli.progress import progress_on_stderr
from hwprof.errors import InputError
from hwprof.specs.files import write_atomically
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.run import Dtype
from hwprof.units import format_byte_per_s, format_flop_per_s, format_fraction, format_seconds

if TYPE_CHECKING:
    import torch

    from hwprof.specs.record.calibration import Calibration

_FORMATS = {"flop_per_s": format_flop_per_s, "byte_per_s": format_byte_per_s, "s": format_seconds}
_DTYPES: tuple[Dtype, ...] = ("fp32", "tf32", "bf16", "fp16")
_DEFAULT_DTYPES: dict[str, tuple[Dtype, ...]] = {"cpu": ("fp32", "bf16", "fp16"), "cuda": _DTYPES}


@click.command(short_help="Measure this machine's ceilings and save them.")
@click.option("--device", "device_text", default="auto", show_default=True, help="auto, cpu, cuda or cuda:<number>.")
@click.option(
    "--dtype", "dtypes", type=click.Choice(_DTYPES), multiple=True, help="May be repeated.  [default: all it has]"
)
@click.option("--quick/--full", default=False, help="About 15 s, or about 60 s on two CPU cores.  [default: full]")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The calibration file.  [default: hwprof-calibration-<device>.json here]",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=FiniteRange(min=10),
    default=300.0,
    show_default=True,
    help="Several ranks: seconds without progress after which the probe ends and says which rank hangs.",
)
@format_option
def command(
    *,
    device_text: str,
    dtypes: tuple[Dtype, ...],
    quick: bool,
    output: Path | None,
    timeout_s: float,
    output_format: str,
) -> None:
    """Measure this machine's ceilings: matrix multiplication, memory, transfers, latencies.

    They are saved as a calibration, with every sample and all that they depend on. Started as several ranks (torchrun
    --nproc-per-node 8 -m hwprof probe) it measures the links between them instead: collectives over sizes, pairs of
    ranks, and computation beside communication.
    """
    from hwprof.measure.host.environment import resolve_device
    from hwprof.measure.probes.calibration import default_file_name
    from hwprof.measure.world import launched

    if launched():
        from hwprof.cli.probe_ranks import probe_ranks, speaking_once

        with speaking_once():
            probe_ranks(
                device_text=device_text, quick=quick, output=output, output_format=output_format, timeout_s=timeout_s
            )
        return
    device = resolve_device(device_text)
    path = Path(default_file_name(device)) if output is None else output
    if not path.parent.is_dir():
        raise InputError(
            f"there is no folder {path.parent}", expectation="--output names a file in a folder", remedy="create it"
        )
    found = _measure(device, dtypes or _DEFAULT_DTYPES[device.type], quick=quick, path=path)
    click.echo(found.to_json() if output_format == "json" else _text(found, path), nl=False)


def _measure(device: torch.device, dtypes: tuple[Dtype, ...], *, quick: bool, path: Path) -> Calibration:
    """Measure and save; an interrupt saves what there is and goes on as an interrupt."""
    from hwprof.measure.probes.calibration import calibration
    from hwprof.measure.probes.device import ProbeResult, probe_device

    so_far = [ProbeResult()]
    try:
        with progress_on_stderr(quiet=False) as show:
            probe_device(device, dtypes=dtypes, quick=quick, report=show, on_result=so_far.append)
    except KeyboardInterrupt:
        if so_far[-1].ceilings:
            write_atomically(path, calibration(device, so_far[-1], quick=quick, complete=False).to_json())
            click.echo(f"hwprof: what was measured is in {path}", err=True)
        raise
    found = calibration(device, so_far[-1], quick=quick, complete=True)
    write_atomically(path, found.to_json())
    return found


def _text(found: Calibration, path: Path) -> str:
    width = max((len(ceiling.name) for ceiling in found.ceilings), default=0)
    lines = [f"Ceilings of {found.device}, torch {found.torch_version}", ""]
    lines += [_ceiling_line(ceiling, width) for ceiling in found.ceilings]
    if not all(ceiling.stable for ceiling in found.ceilings):
        lines += ["", "UNSTABLE: the samples differ, or other processes used the CPU; stop other work and probe again."]
    lines += ["", "Not measured"] if found.skipped else []
    lines += [f"  {skip.name}: {'; '.join(filter(None, (skip.reason, skip.remedy)))}" for skip in found.skipped]
    return "\n".join([*lines, "", f"Saved in {path}", ""])


def _ceiling_line(ceiling: Ceiling, width: int) -> str:
    spread = "unknown" if ceiling.spread is None else format_fraction(ceiling.spread)
    verdict = "stable" if ceiling.stable else "UNSTABLE"
    return f"  {ceiling.name:{width}}  {_FORMATS[ceiling.unit](ceiling.value):>14}  spread {spread:>7}  {verdict}"
