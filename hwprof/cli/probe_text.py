"""What does ``hwprof probe`` say to people? The ceilings of a device, or the links between ranks."""

from __future__ import annotations

from pathlib import Path

from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.calibration import Calibration
from hwprof.specs.record.collective import CollectiveCurve
from hwprof.units import format_byte_per_s, format_bytes, format_flop_per_s, format_fraction, format_seconds, number

_FORMATS = {"flop_per_s": format_flop_per_s, "byte_per_s": format_byte_per_s, "s": format_seconds}


def device_text(found: Calibration, path: Path) -> str:
    """Each ceiling with its spread and verdict, and what could not be measured."""
    width = max((len(ceiling.name) for ceiling in found.ceilings), default=0)
    lines = [f"Ceilings of {found.device}, torch {found.torch_version}", ""]
    lines += [_ceiling_line(ceiling, width) for ceiling in found.ceilings]
    if not all(ceiling.stable for ceiling in found.ceilings):
        lines += ["", "UNSTABLE: the samples differ, or other processes used the CPU; stop other work and probe again."]
    return "\n".join([*lines, "", *_closing(found, path)])


def _ceiling_line(ceiling: Ceiling, width: int) -> str:
    spread = "unknown" if ceiling.spread is None else format_fraction(ceiling.spread)
    verdict = "stable" if ceiling.stable else "UNSTABLE"
    return f"  {ceiling.name:{width}}  {_FORMATS[ceiling.unit](ceiling.value):>14}  spread {spread:>7}  {verdict}"


def links_text(found: Calibration, path: Path) -> str:
    """Curves of the collectives with their fits, pairs of ranks, and what work and communication cost each other."""
    lines = [
        f"Links between {found.world_size} ranks on {found.device}, {found.backend}, torch {found.torch_version}",
        "",
        *(line for curve in found.collectives for line in _curve_lines(curve)),
        *_pair_lines(found),
        *_slowdown_lines(found),
    ]
    if not all(curve.stable for curve in found.collectives):
        lines += ["UNSTABLE: the samples differ; stop other work on these machines and probe again.", ""]
    return "\n".join([*lines, *_closing(found, path)])


def _closing(found: Calibration, path: Path) -> list[str]:
    """What could not be measured and why, and where the rest is."""
    missing = [f"  {skip.name}: {'; '.join(filter(None, (skip.reason, skip.remedy)))}" for skip in found.skipped]
    return [*(["Not measured", *missing, ""] if missing else []), f"Saved in {path}", ""]


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
            f"  {slow.work}: {number(slow.work_factor)} x as long beside {slow.beside}",
            f"  {slow.beside}: {number(slow.beside_factor)} x as long beside products",
            "",
        )
    ]
