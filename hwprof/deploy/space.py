"""Which servers could serve a model on a device, and what do their users see? Layouts times numbers of users, at once.

A server has up to so many devices: tensor ranks, groups with sequences of their own where experts join them, experts
over all ranks or each shared by them, pipeline stages. Beside servers that do both there are those with prompts apart:
as many for prompts as keep up with one that generates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hwprof.deploy.engine import EngineFile, EngineName
from hwprof.deploy.kernels import Floats, Share
from hwprof.deploy.memory import most_sequences, room_bytes, weights_bytes
from hwprof.deploy.passes import Deployment
from hwprof.deploy.server import Fleet, Load, Passes, Served, passes_of, served
from hwprof.errors import InputError

PROMPT_LOAD = 0.7
"""Load at which servers for prompts are kept: there a prompt waits for 1.2 times its own time (M/D/1)."""

USERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What servers are asked for.

    Attributes:
        prompt, new: tokens of a request.
        reused: share of a prompt that is in the cache already.
        users: requests under way at one server, each tried.
        accepted: tokens that a pass gives where tokens are drafted ahead; None = none are.
        apart: whether prompts may have servers of their own.
    """

    prompt: int
    new: int
    reused: float = 0.0
    users: tuple[int, ...] = USERS
    accepted: float | None = None
    apart: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One kind of server at one number of users, and what they see.

    Attributes:
        deployment: what runs on what.
        engine: by which engine.
        tp, dp, ep, moe_tp, pp: its degrees, as in ``Share``.
        apart: whether prompts have servers of their own; ``prefillers`` of the same layout then stand beside it.
        devices: of all these servers.
        users: requests under way.
        room: sequences that its cache holds.
        weights_bytes, room_bytes: on each device.
        ttft_s, tpot_s, ttft_interval_s, tpot_interval_s: seconds, and 90 % intervals.
        request_per_s: that it answers.
        new: tokens of an answer.
    """

    deployment: Deployment
    engine: EngineName
    tp: int
    dp: int
    ep: int
    moe_tp: int
    pp: int
    apart: bool
    prefillers: int
    devices: int
    users: int
    room: int
    weights_bytes: float
    room_bytes: float
    ttft_s: float
    tpot_s: float
    ttft_interval_s: tuple[float, float]
    tpot_interval_s: tuple[float, float]
    request_per_s: float
    new: int

    @property
    def token_per_s(self) -> float:
        """New tokens of all users."""
        return self.request_per_s * self.new

    @property
    def token_per_s_per_user(self) -> float:
        """How fast one answer grows."""
        return 1 / self.tpot_s

    @property
    def token_per_s_per_device(self) -> float:
        """New tokens over devices."""
        return self.token_per_s / self.devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """All servers of one device that fit, and why the others do not.

    Attributes:
        offers: those that fit.
        refused: reason -> how many.
        evaluated: how many were looked at.
    """

    offers: tuple[Offer, ...]
    refused: dict[str, int]
    evaluated: int


def layouts(deployment: Deployment, most_devices: int, fixed: dict[str, int]) -> list[tuple[int, int, int, int, int]]:
    """Tensor, data, expert, expert-tensor and pipeline degrees of servers with up to so many devices.

    Only powers of two, as engines want heads and experts to divide; ``fixed`` degrees by their names.
    """
    sizes = [2**power for power in range(most_devices.bit_length()) if 2**power <= most_devices]
    heads = min(mixing.heads for mixing in deployment.model.mixing)
    experts = max(feed.experts for feed in deployment.model.feed)
    found = []
    for pp in (1, 2, 4, 8):
        for tp in sizes:
            for dp in sizes:
                ranks = tp * dp
                if ranks * pp > most_devices or heads % tp or pp > deployment.model.layers:
                    continue
                if dp > 1 and not experts:
                    continue
                for ep in {1, ranks} if experts and experts % ranks == 0 else {1}:
                    degrees = {"tp": tp, "dp": dp, "ep": ep, "pp": pp}
                    if all(degrees[name] == value for name, value in fixed.items()) and (dp == 1 or ep > 1):
                        found.append((tp, dp, ep, ranks // ep, pp))
    return sorted(found)


def offers_of(
    deployment: Deployment,
    engine: EngineName,
    demand: Demand,
    file: EngineFile,
    *,
    most_devices: int,
    fixed: dict[str, int] | None = None,
) -> Offers:
    """Every layout at every number of users, on one sort of device.

    Raises:
        InputError: no layout has these degrees.
        SpecError: a rate or the memory of the device is not known.
    """
    degrees = layouts(deployment, most_devices, fixed or {})
    if not degrees:
        raise InputError(
            f"no server of up to {most_devices} {deployment.device.id} has these degrees",
            expectation=f"heads of {deployment.model.name} over tensor ranks without rest, powers of two",
        )
    share = _share(degrees)
    longest = np.full(len(degrees), float(demand.prompt + demand.new))
    room = most_sequences(deployment, share, longest)
    fits = room > 0
    refused = Counter(_why(deployment, share, place) for place in np.flatnonzero(~fits).tolist())
    chosen = [degrees[place] for place in np.flatnonzero(fits).tolist()]
    modes = (False, True) if demand.apart else (False,)
    rows = [(layout, users, apart) for layout in chosen for users in demand.users for apart in modes]
    beyond = sum(users > room[degrees.index(layout)] for layout, users, _ in rows)
    if beyond:
        refused["more users than the cache has room for"] = int(beyond)
    rows = [row for row in rows if row[1] <= room[degrees.index(row[0])]]
    count = len(degrees) * len(demand.users) * len(modes)
    if not rows:
        return Offers(offers=(), refused=dict(refused), evaluated=count)
    offers = _offered(deployment, engine, demand, file, rows)
    return Offers(offers=tuple(offers), refused=dict(refused), evaluated=count)


def _why(deployment: Deployment, share: Share, place: int) -> str:
    if room_bytes(deployment, share)[place] <= 0:
        return f"the weights do not fit {deployment.device.id}"
    return f"not one sequence fits beside the weights on {deployment.device.id}"


def _share(degrees: Iterable[tuple[int, int, int, int, int]]) -> Share:
    tp, dp, ep, moe_tp, pp = np.array(list(degrees), dtype=np.float64).T
    return Share(tp=tp, dp=dp, ep=ep, moe_tp=moe_tp, pp=pp)


Row = tuple[tuple[int, int, int, int, int], int, bool]


def _offered(
    deployment: Deployment, engine: EngineName, demand: Demand, file: EngineFile, rows: Sequence[Row]
) -> list[Offer]:
    """What users see of each row; servers for prompts are counted from how many requests are answered with one."""
    share = _share(row[0] for row in rows)
    one = np.ones(len(rows))
    load = Load(
        prompt=demand.prompt * one,
        new=demand.new * one,
        users=np.array([float(users) for _, users, _ in rows]),
        reused=demand.reused * one,
        drafts=np.full(len(rows), demand.accepted is not None),
        perhaps=np.zeros(len(rows), dtype=bool),
        accepted=np.full(len(rows), demand.accepted or np.nan),
    )
    apart = np.array([apart for _, _, apart in rows])
    fleet = Fleet(
        decode=share, decoders=one, prefill=share, prefillers=one, apart=apart, stated=np.ones(len(rows), dtype=bool)
    )
    passes = passes_of(deployment, fleet, load)
    engines = [engine] * len(rows)
    fleet = replace(fleet, prefillers=_prefillers(fleet, load, served(passes, fleet, load, engines, file)))
    running = served(passes, fleet, load, engines, file).running
    passes = passes_of(deployment, fleet, load, running)
    found = served(passes, fleet, load, engines, file)
    columns = _Columns(passes, fleet, found, weights_bytes(deployment, share), room_bytes(deployment, share))
    cells = (_cells(row, columns, place) for place, row in enumerate(rows))
    return [Offer(deployment=deployment, engine=engine, new=demand.new, **each) for each in cells]


def _prefillers(fleet: Fleet, load: Load, alone: Served) -> Floats:
    """Servers for prompts that keep up: requests of users who never wait for a prompt's server, over what one does."""
    most_request_per_s = load.users / (load.new * alone.tpot_s)
    one_request_per_s = PROMPT_LOAD * fleet.prefill.dp / alone.prompt_s
    many: Floats = np.where(fleet.apart, np.ceil(most_request_per_s / one_request_per_s), 1.0)
    return many


@dataclass(frozen=True, slots=True)
class _Columns:
    passes: Passes
    fleet: Fleet
    found: Served
    weights_bytes: Floats
    room_bytes: Floats


def _cells(row: Row, columns: _Columns, place: int) -> dict[str, Any]:
    """Fields of the offer of one row."""
    (tp, dp, ep, moe_tp, pp), users, apart = row
    found = columns.found
    return {
        "tp": tp,
        "dp": dp,
        "ep": ep,
        "moe_tp": moe_tp,
        "pp": pp,
        "apart": apart,
        "prefillers": int(columns.fleet.prefillers[place]) if apart else 0,
        "devices": int(columns.fleet.devices[place]),
        "users": users,
        "room": int(columns.passes.room[place]),
        "weights_bytes": float(columns.weights_bytes[place]),
        "room_bytes": float(columns.room_bytes[place]),
        "ttft_s": float(found.ttft_s[place]),
        "tpot_s": float(found.tpot_s[place]),
        "ttft_interval_s": (float(found.ttft_lo_s[place]), float(found.ttft_hi_s[place])),
        "tpot_interval_s": (float(found.tpot_lo_s[place]), float(found.tpot_hi_s[place])),
        "request_per_s": float(found.request_per_s[place]),
    }
