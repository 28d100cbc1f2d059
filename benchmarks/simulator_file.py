"""Write the simulator's parameters as TOML: fitted values, assumed ones with their sources, and the error model."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwprof.predict.parameters import DEVICE_NAMES, FITTED_NAMES, STACK_NAMES
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.catalogue.simulator import HeldOut, simulator_file, simulator_parameters
from hwprof.specs.files import write_atomically

METHOD = (
    "least squares of ln(predicted / measured), soft L1 beyond 6 %, with priors; devices drawn to their architecture "
    "and stacks to their family; error model from runs held out by configuration and by source"
)

ASSUMED: dict[str, tuple[str, dict[str, float]]] = {
    "other": (
        "no published run was fitted: between the devices that were; kernels and links as modelled",
        {"sustained_share": 0.85, "narrow_share": 0.9, "memory_share": 0.88, "kernel_share": 1.0, "link_share": 1.0},
    ),
    "cpu": (
        "vector units throttle under load; `hwprof probe` measures the machine at hand",
        {"sustained_share": 0.8, "memory_share": 0.75},
    ),
    "apple": ("no run known", {"sustained_share": 0.75}),
}


def write_parameters(
    path: Path,
    layout: Any,
    vector: np.ndarray,
    *,
    rows: int,
    errors: Mapping[str, Any] | None,
    held_out: Mapping[str, HeldOut],
    date: dt.date,
) -> None:
    """The whole file; without ``errors`` the error models and the figures of held-out runs stay as they were."""
    lines = [f'fitted_on = "{date}"', f'method = "{METHOD}"', f"rows = {rows}", ""]
    scale, exponent = np.exp(vector[layout.law_slice])
    lines += ["[throttle]", f"scale = {scale:.4g}", f"exponent = {exponent:.4g}", ""]
    for kind, section, group_section, names in (
        ("device", "device", "architecture", [name for name in DEVICE_NAMES if name in FITTED_NAMES]),
        ("stack", "stack", "family", STACK_NAMES),
    ):
        for number, group in enumerate(layout.groups[kind]):
            values = {name: layout.groups_of(name, vector)[number] for name in names}
            if kind == "device" and not np.isnan(layout.power[layout.parent[kind] == number]).any():
                del values["sustained_share"]  # the law of power has it
            lines += _table(f"{group_section}.{group}", values)
        for number, member in enumerate(layout.members[kind]):
            if kind == "device" and load_device(member).compute.same_chip_as:
                continue  # fitted apart, so that its few runs move no other device, and not kept
            values = {name: layout.members_of(name, vector)[number] for name in names}
            lines += _table(f'{section}."{member}"', values)
    for name, (source, values) in ASSUMED.items():
        if name not in layout.groups["device"]:
            lines += _table(f"architecture.{name}", values, basis="assumed", source=source)
    for section in ("step_time", "memory"):
        lines += _errors(section, errors if section == "step_time" and errors else _kept(section))
    lines += ["[held_out]", *(_figures(name, each) for name, each in (held_out or _kept_figures()).items()), ""]
    write_atomically(path, "\n".join(lines))


def _table(name: str, values: Mapping[str, float], *, basis: str = "fitted", source: str = "") -> list[str]:
    head = [f"[{name}]", f'basis = "{basis}"', *([f'source = "{source}"'] if source else []), f"[{name}.values]"]
    return [*head, *(f"{key} = {float(value):.4g}" for key, value in values.items()), ""]


def _kept(section: str) -> Mapping[str, Any]:
    if not simulator_file().exists():
        return {"coefficients": {"base": -2.5}, "low": -2.5, "high": 2.5}
    model = getattr(simulator_parameters(), section)
    return {"coefficients": model.coefficients, "low": model.low, "high": model.high}


def _kept_figures() -> Mapping[str, HeldOut]:
    return simulator_parameters().held_out if simulator_file().exists() else {}


def _figures(name: str, each: HeldOut) -> str:
    return f"{name} = {{ runs = {each.runs}, median_pct = {each.median_pct:.1f}, p90_pct = {each.p90_pct:.1f} }}"


def _errors(section: str, errors: Mapping[str, Any]) -> list[str]:
    coefficients = [f'"{key}" = {value:.4f}' for key, value in errors["coefficients"].items()]
    head = [f"[{section}]", f"low = {errors['low']:.4f}", f"high = {errors['high']:.4f}"]
    return [*head, f"[{section}.coefficients]", *coefficients, ""]
