"""``torchrun ... -m hwprof probe``: what do the links between the ranks give? Measures and saves a calibration."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwprof.cli.progress import progress_on_stderr
from hwprof.errors import HwprofError
from hwprof.specs.files import write_atomically
from hwprof.specs.record.calibration import Calibration
from hwprof.specs.record.collective import CollectiveCurve
from hwprof.units import format_byte_per_s, format_bytes, format_fraction, format_seconds

if TYPE_CHECKING:
    from hwprof.measure.lifeline import Blame


@contextmanager
def speaking_once() -> Iterator[None]:
    """Errors that all ranks run into alike are told by rank 0 alone; the others leave with the same exit code."""
    from hwprof.measure.world import rank_of_environment

    try:
        yield
    except HwprofError as error:
        if rank_of_environment():
            sys.exit(error.exit_code)
        raise


def probe_ranks(*, device_text: str, quick: bool, output: Path | None, output_format: str, timeout_s: float) -> None:
    """Measure the links between all ranks; rank 0 saves and prints.

    Raises:
        InputError: the device can't be had, or the folder is not there.
        WorkError: the ranks did not find each other.
    """
    from hwprof.measure.lifeline import Lifeline
    from hwprof.measure.links.link_probe import LinkResult, probe_links
    from hwprof.measure.probes.calibration import default_file_name, link_calibration
    from hwprof.measure.timing import timer_for
    from hwprof.measure.world import close_world, open_world

    world = open_world(device_text, timeout_s=timeout_s)
    path = output or Path(default_file_name(world.device, ranks=world.size, nodes=world.nodes))
    so_far = [LinkResult()]

    def report(blame: Blame, _handed_in: Mapping[int, str]) -> None:
        kept = ""
        if so_far[-1].collectives:
            found = link_calibration(world, so_far[-1], quick=quick, status="failed", note=blame.text)
            write_atomically(path, found.to_json())
            kept = f"; what was measured is in {path}"
        click.echo(f"hwprof: {blame.text}{kept}", err=True)

    lifeline = Lifeline(world, salvage=lambda: "", report=report, stuck_s=timeout_s)
    lifeline.start()
    try:
        with progress_on_stderr(quiet=world.rank > 0) as show:

            def said(text: str) -> None:
                lifeline.stage(text)
                show(text)

            result = probe_links(world, timer_for(world.device), quick=quick, report=said, on_result=so_far.append)
    except BaseException as error:  # noqa: BLE001 (whatever ends this rank ends the others, who must be told)
        lifeline.fail(error)
    lifeline.finish()
    if world.rank == 0:
        found = link_calibration(world, result, quick=quick, status="complete")
        write_atomically(path, found.to_json())
        click.echo(found.to_json() if output_format == "json" else _text(found, path), nl=False)
    close_world()


def _text(found: Calibration, path: Path) -> str:
    lines = [
        f"Links between {found.world_size} ranks on {found.device}, {found.backend}, torch {found.torch_version}",
        "",
        *(line for curve in found.collectives for line in _curve_lines(curve)),
        *_pair_lines(found),
        *_slowdown_lines(found),
    ]
    if not all(curve.stable for curve in found.collectives):
        lines += ["UNSTABLE: the samples differ; stop other work on these machines and probe again.", ""]
    lines += ["Not measured"] if found.skipped else []
    lines += [f"  {skip.name}: {'; '.join(filter(None, (skip.reason, skip.remedy)))}" for skip in found.skipped]
    return "\n".join([*lines, "", f"Saved in {path}", ""])


def _curve_lines(curve: CollectiveCurve) -> list[str]:
    verdict = "stable" if curve.stable else "UNSTABLE"
    lines = [f"{curve.collective}, {curve.ranks} ranks, {curve.scope}, {verdict}"]
    lines += [
        f"  {format_bytes(point.size_bytes):>10}  {format_seconds(point.time_s):>10}"
        f"  algbw {format_byte_per_s(point.algorithm_byte_per_s):>10}"
        f"  busbw {format_byte_per_s(point.bus_byte_per_s):>10}"
        f"  spread {format_fraction(point.spread):>7}"
        for point in curve.points
    ]
    if curve.fit is not None:
        fit = curve.fit
        lines.append(
            f"  fit: {format_seconds(fit.latency_s)} ± {format_seconds(fit.latency_error_s)} + size / "
            f"({format_byte_per_s(fit.byte_per_s)} ± {format_byte_per_s(fit.byte_per_s_error)}); off by "
            f"{format_fraction(fit.typical_error)}, at worst {format_fraction(fit.worst_error)} "
            f"at {format_bytes(fit.worst_size_bytes)}"
        )
    return [*lines, ""]


def _pair_lines(found: Calibration) -> list[str]:
    lines = [
        f"  {pair.source} to {pair.target}"
        f"  {format_byte_per_s(pair.byte_per_s):>10}  {format_seconds(pair.latency_s):>10}"
        for pair in found.pairs
    ]
    return ["One rank to another, all others silent: bandwidth, latency", *lines, ""] if lines else []


def _slowdown_lines(found: Calibration) -> list[str]:
    return [
        line
        for slow in found.slowdowns
        for line in (
            "At the same time",
            f"  {slow.work}: {slow.work_factor:.2f} x as long beside {slow.beside}",
            f"  {slow.beside}: {slow.beside_factor:.2f} x as long beside products",
            "",
        )
    ]
