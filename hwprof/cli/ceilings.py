"""Whose roofs does a person mean? A catalogue name (datasheet), a calibration file (measured), or none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import TypeAdapter, ValidationError

from hwprof.errors import InputError
from hwprof.specs.measurement import Ceiling

Function = TypeVar("Function", bound=Callable[..., Any])


def ceiling_options(function: Function) -> Function:
    """Options ``--hardware`` and ``--calibration``."""
    named = click.option("--hardware", help="Device of the catalogue, or a TOML file: its datasheet's roofs.")
    measured = click.option(
        "--calibration",
        type=click.Path(path_type=Path),
        help="File that `hwprof probe` saved: measured roofs, which go before the datasheet's.",
    )
    return named(measured(function))


def chosen_ceilings(hardware: str | None, calibration: Path | None) -> tuple[Ceiling, ...]:
    """The ceilings of both; empty where neither is given.

    Raises:
        InputError: there is no such device, its datasheet has no ceilings, or the file is no calibration.
    """
    return (*_of_device(hardware), *_of_file(calibration))


def _of_device(hardware: str | None) -> tuple[Ceiling, ...]:
    if hardware is None:
        return ()
    from hwprof.predict.ceilings.datasheet import datasheet_ceilings
    from hwprof.specs.catalogue.lookup import load_device

    device = load_device(hardware)
    ceilings = datasheet_ceilings(device)
    if not ceilings:
        raise InputError(
            f"the datasheet of {device.id} gives no roofs for a part of a processor",
            remedy="measure them on the machine with `hwprof probe`, and give the file with --calibration",
        )
    return ceilings


def _of_file(path: Path | None) -> tuple[Ceiling, ...]:
    if path is None:
        return ()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = TypeAdapter(tuple[Ceiling, ...]).validate_python(content["ceilings"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError, ValidationError) as error:
        raise InputError(
            f"{path} is no calibration ({str(error).splitlines()[0]})",
            expectation="expected the file that `hwprof probe` saves",
            remedy="run `hwprof probe` on the machine that recorded the trace",
        ) from error
    return tuple(ceiling.model_copy(update={"origin": "calibrated"}) for ceiling in found)
