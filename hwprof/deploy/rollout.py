"""How should a fleet be split between answers and training in reinforcement learning? The split that wastes least.

An iteration generates a batch of answers and trains on it. *Synchronous*: all devices generate, then all train; while
the longest answers run, devices that have none left are idle. *Apart*: some devices generate and the others train, one
after the other, so that each part idles while the other works. *Asynchronous*: both at once, the trainer one batch
behind; only the faster part idles, for the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hwprof.deploy.engine import Policy
from hwprof.deploy.kernels import Floats
from hwprof.deploy.requests.events import PassCosts, Requests, simulated
from hwprof.errors import InputError

LONGEST = 8.0
"""Answers are cut off at so many times their mean length."""

Way = Literal["synchronous", "apart", "asynchronous"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The answers of one iteration.

    Attributes:
        prompt: tokens of each prompt.
        answers: tokens of each answer.
    """

    prompt: float
    answers: Floats

    @property
    def tokens(self) -> float:
        """What the trainer reads."""
        return float(self.answers.sum()) + self.prompt * len(self.answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One batch on some servers.

    Attributes:
        time_s: until the last answer.
        busy: share of that time in which a server has answers left, in the mean of the servers.
    """

    time_s: float
    busy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One way to share a fleet.

    Attributes:
        way: how the parts take turns.
        generating, training: devices of each part; all of them in ``synchronous``.
        iteration_s: from batch to batch.
        generate_s, train_s: of each part.
        idle_generating, idle_training: share of the iteration in which devices of each part have nothing to do; in
            ``synchronous`` the first of the two, of all devices.
        token_per_s: trained on.
    """

    way: Way
    generating: int
    training: int
    iteration_s: float
    generate_s: float
    train_s: float
    idle_generating: float
    idle_training: float
    token_per_s: float


def long_tailed(count: int, mean: float, spread: float, most: float, seed: int) -> Floats:
    """Lengths of answers: lognormal with this mean and this standard deviation of the logarithm, at most ``most``."""
    draw = np.random.default_rng(seed).lognormal(np.log(mean) - spread**2 / 2, spread, count)
    lengths: Floats = np.clip(np.round(draw), 1, most)
    return lengths


def generated(batch: Batch, servers: int, costs: PassCosts, policy: Policy) -> Generation:
    """A batch dealt out to servers in turn, all at once; each answers its part."""
    ends = []
    for server in range(servers):
        mine = batch.answers[server::servers]
        if not len(mine):
            ends.append(0.0)
            continue
        requests = Requests(arrival_s=np.zeros(len(mine)), prompt=np.full(len(mine), batch.prompt), new=mine)
        ends.append(float(simulated(requests, costs, policy).end_s.max()))
    time_s = max(ends)
    return Generation(time_s=time_s, busy=float(np.mean(ends)) / time_s)


def splits(
    batch: Batch, devices: int, server_devices: int, costs: PassCosts, policy: Policy, *, train_device_s: float
) -> list[Split]:
    """Every way to share the fleet in whole servers, the one with the most tokens a second first.

    Args:
        batch: of one iteration.
        devices: of the whole fleet.
        server_devices: of one server that generates.
        costs: of its passes.
        policy: how prompts join.
        train_device_s: device seconds that training on the batch takes; with twice the devices half as long.

    Raises:
        InputError: the fleet has not one server.
    """
    if devices < server_devices:
        raise InputError(
            f"{devices} devices hold no server of {server_devices}", expectation="at least one server that generates"
        )
    whole = generated(batch, devices // server_devices, costs, policy)
    found = [_synchronous(batch, devices, whole, train_device_s)]
    for servers in range(1, (devices - 1) // server_devices + 1):
        some = generated(batch, servers, costs, policy)
        mine = servers * server_devices
        found += [_two_parts(way, batch, (mine, devices - mine), some, train_device_s) for way in TWO_PARTS]
    return sorted(found, key=lambda split: -split.token_per_s)


TWO_PARTS: tuple[Way, ...] = ("apart", "asynchronous")


def _synchronous(batch: Batch, devices: int, generation: Generation, train_device_s: float) -> Split:
    train_s = train_device_s / devices
    iteration_s = generation.time_s + train_s
    return Split(
        way="synchronous",
        generating=devices,
        training=devices,
        iteration_s=iteration_s,
        generate_s=generation.time_s,
        train_s=train_s,
        idle_generating=generation.time_s * (1 - generation.busy) / iteration_s,
        idle_training=0.0,
        token_per_s=batch.tokens / iteration_s,
    )


def _two_parts(way: Way, batch: Batch, parts: tuple[int, int], generation: Generation, train_device_s: float) -> Split:
    train_s = train_device_s / parts[1]
    both_s = (generation.time_s, train_s)
    iteration_s = max(both_s) if way == "asynchronous" else sum(both_s)
    return Split(
        way=way,
        generating=parts[0],
        training=parts[1],
        iteration_s=iteration_s,
        generate_s=generation.time_s,
        train_s=train_s,
        idle_generating=1 - generation.time_s * generation.busy / iteration_s,
        idle_training=1 - train_s / iteration_s,
        token_per_s=batch.tokens / iteration_s,
    )


def best_of_each(found: Sequence[Split]) -> list[Split]:
    """The fastest of each way, in the order of ``found``."""
    first = {split.way: split for split in reversed(found)}
    return [split for split in found if first[split.way] is split]
