"""On what do all ranks of a run settle? What rank 0 makes of the request holds for all of them."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path

from hwprof.errors import HwprofError, InputError, WorkError
from hwprof.measure.host.identity import identify
from hwprof.measure.world import World
from hwprof.session.outcome import claimed
from hwprof.session.request import RunRequest
from hwprof.session.settle import SettledRun, settle
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import RunSettings
from hwprof.train.parallel.loop import check_layout
from hwprof.train.parallel.mesh import check_trainable_layout
from hwprof.units import format_seconds

_POLL_S = 0.02


def agreed(world: World, request: RunRequest, claim: ExitStack) -> SettledRun:
    """The run that all ranks take part in: another rank may see less free memory, or a later second.

    Args:
        world: all ranks.
        request: what is asked for.
        claim: holds the run directory on rank 0, until it is closed.

    Raises:
        InputError: something that was asked for can't be.
        WorkError: nothing was heard from rank 0, or the run directory can't be had.
    """
    if world.rank:
        return _received(world, request)
    try:
        run = settle(request, device=world.device, ranks=world.size, sharing_memory=_neighbours(world))
        check_trainable_layout(run.settings.layout)
        check_layout(run.model, run.settings)
        claim.enter_context(claimed(run.directory))
    except HwprofError as error:
        world.store.set("refused", json.dumps({"text": str(error), "exit_code": error.exit_code}))
        raise
    settled = {
        "settings": run.settings.model_dump(mode="json"),
        "model": run.model.model_dump(mode="json"),
        "directory": str(run.directory),
    }
    world.store.set("settled", json.dumps(settled))
    return run


def _received(world: World, request: RunRequest) -> SettledRun:
    until_s = time.monotonic() + request.timeout_s
    while not world.store.check(["settled"]):
        if world.store.check(["refused"]):
            refused = json.loads(world.store.get("refused"))
            raise (InputError if refused["exit_code"] == InputError.exit_code else WorkError)(refused["text"])
        if time.monotonic() > until_s:
            raise WorkError(f"rank {world.rank} heard nothing from rank 0 for {format_seconds(request.timeout_s)}")
        time.sleep(_POLL_S)
    settled = json.loads(world.store.get("settled"))
    identity, device_spec = identify(world.device, sharing_memory=_neighbours(world))
    return SettledRun(
        request=request,
        model=ModelSpec.model_validate(settled["model"]),
        settings=RunSettings.model_validate(settled["settings"]),
        device=world.device,
        identity=identity,
        device_spec=device_spec,
        cluster=None,
        directory=Path(settled["directory"]),
    )


def _neighbours(world: World) -> int:
    """Ranks on this machine."""
    return world.nodes_of.count(world.node)
