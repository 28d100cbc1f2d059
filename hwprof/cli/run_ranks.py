"""``torchrun ... -m hwprof run --parallel LAYOUT``: what do all ranks settle before, and print after the run?"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from hwprof.cli.progress import progress_on_stderr
from hwprof.errors import HwprofError, WorkError
from hwprof.measure.host.identity import identify
from hwprof.measure.world import World, close_world, open_world
from hwprof.report.run.text import print_summary
from hwprof.session.ranks import RankSession
from hwprof.session.request import RunRequest, default_directory, request_of
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import RunSettings
from hwprof.train.parallel.loop import check_layout
from hwprof.train.parallel.mesh import check_trainable_layout

_POLL_S = 0.02


def run_ranks(
    options: dict[str, Any], *, output: Path | None, output_format: str, quiet: bool, timeout_s: float
) -> None:
    """Run the main job on all ranks; rank 0 writes the report and prints.

    Raises:
        InputError: something that was asked for can't be.
        WorkError: the ranks did not find each other, or the report can't be written.
    """
    world = open_world(options["device"], timeout_s=timeout_s)
    request, directory = _settled(world, options, output, timeout_s=timeout_s)
    with progress_on_stderr(quiet=quiet or world.rank > 0) as progress:
        session = RankSession(world, request, directory, timeout_s=timeout_s, progress=progress)
        record = session.execute()
    close_world()
    if record is None:
        return
    if output_format == "json":
        click.echo(record.model_dump_json(indent=1))
    else:
        print_summary(record, sys.stdout, directory)
    if session.report_error:
        raise session.report_error


def _settled(
    world: World, options: dict[str, Any], output: Path | None, *, timeout_s: float
) -> tuple[RunRequest, Path]:
    """What rank 0 makes of the options holds for all: another rank may see less free memory, or a later second."""
    if world.rank:
        return _received(world, options, timeout_s=timeout_s)
    neighbours = world.nodes_of.count(world.node)
    try:
        request = request_of(**options | {"device": str(world.device)}, ranks=world.size, sharing_memory=neighbours)
        check_trainable_layout(request.settings.layout)
        check_layout(request.model, request.settings)
    except HwprofError as error:
        world.store.set("refused", str(error.exit_code))
        raise
    directory = output or default_directory(request.settings.model, request.settings.device)
    settled = {
        "settings": request.settings.model_dump(mode="json"),
        "model": request.model.model_dump(mode="json"),
        "directory": str(directory),
    }
    world.store.set("settled", json.dumps(settled))
    return request, directory


def _received(world: World, options: dict[str, Any], *, timeout_s: float) -> tuple[RunRequest, Path]:
    until_s = time.monotonic() + timeout_s
    while not world.store.check(["settled"]):
        if world.store.check(["refused"]):
            sys.exit(int(world.store.get("refused")))
        if time.monotonic() > until_s:
            raise WorkError(f"rank {world.rank} heard nothing from rank 0 for {timeout_s:.0f} s")
        time.sleep(_POLL_S)
    settled = json.loads(world.store.get("settled"))
    identity, device_spec = identify(world.device, sharing_memory=world.nodes_of.count(world.node))
    request = RunRequest(
        model=ModelSpec.model_validate(settled["model"]),
        settings=RunSettings.model_validate(settled["settings"]),
        device=world.device,
        identity=identity,
        device_spec=device_spec,
        cluster=None,
        data_path=options["data"],
        full_probes=options["full_probes"],
        time_budget_s=options["time_budget"],
    )
    return request, Path(settled["directory"])
