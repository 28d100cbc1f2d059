"""What does the catalogue hold, and is a user's file right?"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from hwprof.cli.examples import examples
from hwprof.cli.format_option import format_option, say
from hwprof.cli.options import Word
from hwprof.errors import SpecError, UnknownNameError
from hwprof.report.folding import folded
from hwprof.specs.catalogue.check import check_catalogue, check_file
from hwprof.specs.catalogue.lookup import (
    counted,
    find_any,
    list_captured,
    list_clusters,
    list_devices,
    list_links,
    list_models,
    load_cluster,
    load_device,
    load_link,
    load_model,
)
from hwprof.specs.catalogue.released import Released
from hwprof.specs.catalogue.shelves import SORTS, claims_of, files_of, find_file
from hwprof.specs.frozen import Record
from hwprof.specs.hardware.spec import ClusterSpec, DeviceSpec, LinkSpec
from hwprof.specs.model.spec import ModelSpec
from hwprof.units import format_byte_per_s, format_bytes, format_count, format_flop_per_s, format_seconds

Rows = list[tuple[str, ...]]


@click.group(epilog=examples("hwprof specs list models", "hwprof specs show h100-sxm"))
def command() -> None:
    """List, show and check the catalogue of models and hardware."""


class _Sorts(Word):
    """``models``, ``devices`` ..., also as others call them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The sort, or a usage error."""
        typed = str(value).lower()
        typed = "devices" if typed.rstrip("s") in {"gpu", "card", "accelerator", "hardware"} else typed
        return super().convert(typed if typed.endswith("s") else f"{typed}s", param, ctx)


@command.command("list", epilog=examples("hwprof specs list", "hwprof specs list devices --format json"))
@click.argument("sort", type=_Sorts([f"{sort}s" for sort in SORTS]), required=False)
@format_option
def list_command(sort: str | None, output_format: str) -> None:
    """List the catalogue, or one SORT of it."""
    sorts = [sort] if sort else list(_LISTS)
    specs: dict[str, Sequence[Record]] = {name: _LISTS[name][0]() for name in sorts}
    captured = list_captured() if "models" in sorts else {}
    if output_format == "json":
        found = {name: [spec.model_dump(mode="json") for spec in specs[name]] for name in sorts}
        kept = [{"name": name, "kind": "captured", **about.model_dump(mode="json")} for name, about in captured.items()]
        say(json.dumps(found | ({"captured_models": kept} if captured else {})))
        return
    for name in sorts:
        rows = [_LISTS[name][2](spec) for spec in specs[name]]
        rows += [_captured_row(*each) for each in captured.items()] if name == "models" else []
        _print_table(name, _LISTS[name][1], rows)


@command.command("show", epilog=examples("hwprof specs show 7b", "hwprof specs show 8xh100-sxm"))
@click.argument("name")
@format_option
def show_command(name: str, output_format: str) -> None:
    """Print the spec that NAME stands for: a model, device, link or cluster (also 8xh100-sxm)."""
    _, path = find_any(name) or (None, None)
    if path is not None and path.suffix == ".json":  # a released configuration, in either format
        say(path.read_text().removesuffix("\n"))
        return
    if path is not None and output_format == "text":
        say(f"# {path}\n{path.read_bytes().decode(errors='replace')}".removesuffix("\n"))
        return
    spec = _load_any(name)
    if output_format == "json":
        say(json.dumps(spec.model_dump(mode="json")))
    elif isinstance(spec, ClusterSpec):
        _print_table(spec.id, _CLUSTER_COLUMNS, [_cluster_row(spec)])


@command.command("check", epilog=examples("hwprof specs check", "hwprof specs check my-device.toml my-models"))
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.pass_context
def check_command(ctx: click.Context, paths: tuple[Path, ...]) -> None:
    """Check the spec files PATHS (files or folders), or the whole catalogue with the folders of HWPROF_PATH."""
    if paths:
        files = [file for path in paths for file in (sorted(path.rglob("*.toml")) if path.is_dir() else [path])]
        count, problems = len(files), [problem for file in files for problem in check_file(file)]
    else:
        count, problems = check_catalogue()
    if count == 0:
        problems = [SpecError(f"no TOML file is in {', '.join(map(str, paths))}", remedy="name files or other folders")]
    for problem in problems:
        say(f"hwprof: {problem}", err=True)
    if problems:
        ctx.exit(SpecError.exit_code)
    say(f"{count} files are right")


def _load_any(name: str) -> Record:
    if counted(name)[0] is not None and find_file("model", name) is None:
        return load_cluster(name)
    loaders: dict[str, Callable[[str], Record]] = {
        "model": load_model,
        "device": load_device,
        "link": load_link,
        "cluster": load_cluster,
    }
    found = find_any(name)
    if found is not None:
        return loaders[found[0]](name)
    known = {claim for sort in SORTS for path in files_of(sort) for claim in claims_of(path, sort)}
    raise UnknownNameError(kind="name", name=name, known=known, remedy="`hwprof specs list` shows every name")


def _print_table(title: str, columns: tuple[str, ...], rows: Rows) -> None:
    """Rows in columns; the last cell of each, what else is to be said, stands below it."""
    widths = [max(len(row[column]) for row in (columns, *rows)) for column in range(len(columns))]
    say(title)
    for row in (columns, *rows):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())
        if len(row) > len(columns) and row[-1]:
            say(folded(f"    {row[-1]}"))
    say("")


def _also(aliases: Sequence[str], *more: str) -> str:
    """What else a row stands for."""
    return "; ".join([*([f"also {', '.join(aliases)}"] if aliases else []), *more])


def _or_dash(value: float | None, formatted: Callable[[float], str]) -> str:
    return "-" if value is None else formatted(value)


def _model_row(spec: Any) -> tuple[str, ...]:
    assert isinstance(spec, ModelSpec)
    shape = f"{spec.layers} x {spec.d_model}"
    stated = _or_dash(spec.stated_parameters, format_count)
    return (spec.name, spec.kind, stated, shape, str(spec.max_seq_len), _also(spec.aliases, spec.family))


def _captured_row(name: str, about: Released) -> tuple[str, ...]:
    stated = format_count(about.stated_parameters or about.parameters)
    return (name, "captured", stated, "-", "-", _also(about.aliases, about.family))


def _device_row(spec: Any) -> tuple[str, ...]:
    assert isinstance(spec, DeviceSpec)
    return (
        spec.id,
        _or_dash(spec.matmul_flop_per_s("bf16"), format_flop_per_s),
        _or_dash(spec.memory.capacity_bytes, format_bytes),
        format_byte_per_s(spec.memory.bandwidth_byte_per_s),
        _or_dash(spec.link.per_device_byte_per_s if spec.link else None, format_byte_per_s),
        _also(spec.aliases, spec.vendor, f"confidence {spec.confidence}"),
    )


def _link_row(spec: Any) -> tuple[str, ...]:
    assert isinstance(spec, LinkSpec)
    latency = f"{format_seconds(spec.latency_s)} ({spec.latency_origin})"
    return (spec.id, spec.kind, format_byte_per_s(spec.bandwidth_byte_per_s), latency)


def _cluster_row(spec: Any) -> tuple[str, ...]:
    assert isinstance(spec, ClusterSpec)
    network = _or_dash(spec.inter_node_byte_per_s, format_byte_per_s)
    sizes = (str(spec.devices), str(spec.devices_per_node), str(spec.scale_up_domain))
    return (spec.id, spec.device.id, *sizes, network, spec.network or "-")


_CLUSTER_COLUMNS = ("cluster", "device", "size", "node", "domain", "network", "link")
_LISTS: dict[str, tuple[Callable[[], Sequence[Record]], tuple[str, ...], Callable[[Any], tuple[str, ...]]]] = {
    "models": (
        list_models,
        ("model", "kind", "parameters", "shape", "tokens"),
        _model_row,
    ),
    "devices": (
        list_devices,
        ("device", "bf16 dense", "memory", "bandwidth", "links"),
        _device_row,
    ),
    "links": (list_links, ("link", "kind", "one link one way", "latency"), _link_row),
    "clusters": (list_clusters, _CLUSTER_COLUMNS, _cluster_row),
}
