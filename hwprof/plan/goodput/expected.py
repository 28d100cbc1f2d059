"""Which share of its time does a fleet train? Young's and Daly's formulas, with failures at any time."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NoReturn

from hwprof.errors import InputError
from hwprof.plan.goodput.checkpoint import checkpoint_of
from hwprof.plan.goodput.reliability import LOST_BESIDE, Reliability
from hwprof.predict.machine import Machine
from hwprof.specs.job.step import TrainingJob
from hwprof.units import format_seconds

DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """What becomes of the time of a long training.

    Attributes:
        fraction: share of it in steps that last.
        range_fraction: 10th and 90th percentile: how often fleets fail, and at the lower end what published ones lost
            beside failures.
        mtbf_s: between interruptions of the whole job.
        interval_s: training between two checkpoints.
        checkpoint_fraction: share in checkpoints that hold the job up.
        restart_fraction: share in detecting failures, restarting and loading.
        lost_fraction: share in steps that were taken twice.
        waiting_fraction: share in which more nodes are in repair than stood by.
        enough_spares: nodes standing by with which that is below a thousandth; None = nodes are replaced at once.
        checkpoint_bytes: size of a checkpoint.
        spare_devices: that stand by.
        basis: in words.
    """

    fraction: float
    range_fraction: tuple[float, float]
    mtbf_s: float
    interval_s: float
    checkpoint_fraction: float
    restart_fraction: float
    lost_fraction: float
    waiting_fraction: float
    enough_spares: int | None
    checkpoint_bytes: float
    spare_devices: int
    basis: tuple[str, ...]

    @property
    def failures_per_day(self) -> float:
        """Interruptions in a day of the whole job."""
        return DAY_S / self.mtbf_s


def best_interval_s(stall_s: float, mtbf_s: float) -> float:
    """Training between two checkpoints that wastes least (Daly 2006, equation 37; its first term is Young's of 1974).

    >>> round(best_interval_s(60, 86400))
    3179
    """
    ratio = stall_s / (2 * mtbf_s)
    if ratio >= 1:
        return mtbf_s
    return math.sqrt(2 * stall_s * mtbf_s) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - stall_s


def expected_fraction(*, interval_s: float, stall_s: float, lag_s: float, restart_s: float, mtbf_s: float) -> float:
    """Share of the time in steps that last, where failures come at any moment (Daly 2006, equation 20).

    Args:
        interval_s: training between two checkpoints.
        stall_s: that a checkpoint holds the job up.
        lag_s: from the end of that until the checkpoint is safe; a failure before then goes back to the one before.
        restart_s: from a failure to training again.
        mtbf_s: between failures.
    """
    whole = mtbf_s * math.exp((restart_s + lag_s) / mtbf_s) * math.expm1((interval_s + stall_s) / mtbf_s)
    return interval_s / whole


def waiting_share(spares: int, busy: float) -> float:
    """Share of the time in which more nodes are in repair than stood by, and the job waits.

    Nodes fail one after another while the job runs, and are repaired side by side: with ``spares`` + 1 of them in
    repair nothing runs and nothing fails. That is Erlang's loss formula (1917) of as many servers.

    Args:
        spares: nodes that stand by.
        busy: time of a repair over the time between failures.

    >>> round(waiting_share(0, 1.0), 3)  # half of the time the one node is in repair
    0.5
    """
    blocked = 1.0
    for server in range(1, spares + 2):
        blocked = busy * blocked / (server + busy * blocked)
    return blocked


def spares_for(share: float, busy: float) -> int:
    """The fewest nodes standing by with which the job waits for a smaller share of its time."""
    return next(spares for spares in itertools.count() if waiting_share(spares, busy) < share)


def goodput_of(job: TrainingJob, machine: Machine, reliability: Reliability) -> Goodput:
    """Of a job on all devices of a machine.

    Raises:
        InputError: the fleet fails before it has saved anything.
    """
    saved = checkpoint_of(job, machine, reliability)
    restart_s = reliability.restart_s + saved.load_s
    lag_s = saved.write_s - saved.stall_s

    def interval_at(mtbf_s: float) -> float:
        return reliability.checkpoint_interval_s or max(best_interval_s(saved.stall_s, mtbf_s), saved.write_s)

    def waiting_at(device_mtbf_s: float) -> float:
        if reliability.repair_s is None:
            return 0.0
        return waiting_share(reliability.spare_nodes, reliability.repair_s * machine.devices / device_mtbf_s)

    def fraction_at(device_mtbf_s: float) -> float:
        mtbf_s = device_mtbf_s / machine.devices
        if (restart_s + lag_s + interval_at(mtbf_s)) / mtbf_s > MOST_MTBFS:
            _refuse(machine.devices, mtbf_s, restart_s)
        found = expected_fraction(
            interval_s=interval_at(mtbf_s), stall_s=saved.stall_s, lag_s=lag_s, restart_s=restart_s, mtbf_s=mtbf_s
        )
        return found * (1 - waiting_at(device_mtbf_s))

    mtbf_s = reliability.mtbf_s / machine.devices
    fraction, interval_s = fraction_at(reliability.mtbf_s), interval_at(mtbf_s)
    if fraction < LEAST_GOODPUT:
        _refuse(machine.devices, mtbf_s, restart_s)
    stalled = fraction * saved.stall_s / interval_s
    waiting = waiting_at(reliability.mtbf_s)
    restarting = restart_s / mtbf_s * (1 - waiting)
    low_s, high_s = reliability.mtbf_range_s
    lost = math.hypot(math.log(fraction_at(low_s) / fraction), math.log(LOST_BESIDE))
    return Goodput(
        fraction=fraction,
        range_fraction=(fraction * math.exp(-lost), fraction_at(high_s)),
        mtbf_s=mtbf_s,
        interval_s=interval_s,
        checkpoint_fraction=stalled,
        restart_fraction=min(restarting, 1 - fraction - stalled - waiting),
        lost_fraction=max(1 - fraction - stalled - restarting - waiting, 0.0),
        waiting_fraction=waiting,
        enough_spares=None if reliability.repair_s is None else spares_for(1e-3, reliability.repair_s / mtbf_s),
        checkpoint_bytes=saved.size_bytes,
        spare_devices=reliability.spare_nodes * min(machine.device.node.devices, machine.devices),
        basis=reliability.basis,
    )


def _refuse(devices: int, mtbf_s: float, restart_s: float) -> NoReturn:
    raise InputError(
        f"{devices:,} devices of which one fails each {format_seconds(mtbf_s)} lose almost all their work: a restart "
        f"takes {format_seconds(restart_s)}",
        remedy="give a longer --mtbf (of one device), a shorter --restart-time, faster storage or fewer devices",
    )


LEAST_GOODPUT = 0.01
"""With less of its time in steps that last, no training is run: a hundred times the days would be no answer."""
MOST_MTBFS = 30.0
"""An interval and a restart of more than so many times the mean between failures never end."""
