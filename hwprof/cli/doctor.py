"""``hwprof doctor``: what works on this machine, and what to do about what does not."""

from __future__ import annotations

import sys
import time

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option
from hwprof.specs.record.doctor import DoctorReport
from hwprof.version import __version__


@click.command(epilog=examples("hwprof doctor", "hwprof doctor --format json"))
@format_option
def command(*, output_format: str) -> None:
    """Look at what is installed, visible and permitted; say what each missing piece would add, and how to get it."""
    begun_s = time.perf_counter()
    from hwprof.measure.doctor.checks import examine
    from hwprof.measure.doctor.machine import Machine

    checks = examine(Machine())
    report = DoctorReport(hwprof_version=__version__, checks=checks, duration_s=time.perf_counter() - begun_s)
    if output_format == "json":
        click.echo(report.model_dump_json(indent=1))
    else:
        from hwprof.report.doctor_text import print_doctor

        print_doctor(report, sys.stdout)
