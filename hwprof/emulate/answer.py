"""What does an emulated step take, hold and wait for on a machine? A recording priced and played."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwprof.emulate.here import Here
from hwprof.emulate.order import Played, play
from hwprof.emulate.prices import Prices, prices_of
from hwprof.emulate.recording import Recording, Refusal
from hwprof.emulate.tape import COLLECTIVE, KERNEL
from hwprof.predict.machine import Machine
from hwprof.predict.parameters import Parameters, parameters_for
from hwprof.predict.stacks import stack_named
from hwprof.simulate.error_model import UNKNOWN, interval, known_of
from hwprof.specs.catalogue.simulator import SimulatorParameters
from hwprof.specs.record.run import BoundClass, Interval

ALREADY_BESIDE = 8
"""Devices up to which published steps tell no straggler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulation:
    """One optimizer step of a script on a machine.

    Attributes:
        hardware: id of the device.
        recording: what the rank did that was asked for.
        others: what ranks did with which it exchanges messages: the other stages of its pipeline.
        step_s: time of the step.
        interval_s: 90 % of comparable runs lie inside; wider by what assumed prices may be off.
        assumed_share: share of the step's device time on calls whose price nobody measured.
        breakdown_s: ``compute``, ``exposed_communication``, ``contention``, ``stragglers``, ``idle`` and ``fixed``
            (data, logging and synchronisation of such programs); adds up to ``step_s``.
        bound: what takes most of the step.
        capacity_bytes: memory of the device.
        slowest: kinds of calls by seconds, the longest first.
        basis: in words, what the prices rest on.
        played: every kernel and message of the rank that was asked for.
        prices: of its calls and collectives.
        machine: what it is priced on.
    """

    hardware: str
    recording: Recording
    others: tuple[Recording, ...]
    step_s: float
    interval_s: Interval
    assumed_share: float
    breakdown_s: dict[str, float]
    bound: BoundClass
    capacity_bytes: float
    slowest: tuple[tuple[str, str, float], ...]
    basis: tuple[str, ...]
    played: Played
    prices: Prices
    machine: Machine

    @property
    def refusal(self) -> Refusal | None:
        """The first allocation that did not fit, on a device with as much memory as the one that was emulated."""
        memory = self.recording.memory
        return memory.refusal if memory.capacity_bytes == int(self.capacity_bytes) else None

    @property
    def fits(self) -> bool:
        """Whether the device holds what the allocator does."""
        return self.recording.memory.reserved_bytes <= self.capacity_bytes


def emulation(
    recordings: Sequence[Recording],
    machine: Machine,
    table: SimulatorParameters,
    notes: tuple[str, ...] = (),
    here: Here | None = None,
) -> Emulation:
    """Price what ranks did on a machine and play it.

    Args:
        recordings: of the rank that is asked for first, then of those that it exchanges messages with.
        machine: the machine.
        table: parameters of devices and software.
        notes: in words, what ``table`` holds beside the fitted parameters.
        here: what was measured on the machine itself.

    Raises:
        SpecError: the machine lacks a number that is needed.
    """
    stack = stack_named(recordings[0].software)
    parameters, basis = parameters_for(table, machine, stack)
    if here is not None:
        parameters = here.of_software(parameters, recordings[0].devices)
    all_prices = [prices_of(one, machine, parameters, here) for one in recordings]
    ranks = play(recordings, all_prices, synchronous=machine.device.kind == "cpu")
    slowest = max(range(len(ranks)), key=lambda place: ranks[place].step_s)
    recording, prices, played = recordings[slowest], all_prices[slowest], ranks[slowest]
    breakdown = _breakdown(played, parameters, machine)
    step_s = sum(breakdown.values())
    assumed_s, busy_s = _assumed_s(recording, prices)
    names = tuple(_circumstances(recording, machine, table))
    low_s, high_s = interval(step_s, table.step_time, names)
    return Emulation(
        hardware=machine.device.id,
        recording=recordings[0],
        others=tuple(recordings[1:]),
        step_s=step_s,
        interval_s=(low_s - assumed_s / 2, high_s + assumed_s),
        assumed_share=assumed_s / busy_s if busy_s else 0.0,
        breakdown_s=breakdown,
        bound=_bound(breakdown, recording, prices),
        capacity_bytes=machine.capacity_bytes,
        slowest=tuple(_slowest(recording, prices)),
        basis=(
            "emulated: the script ran as one rank, nothing was computed; other ranks are taken to do the same",
            *(f"parameters {each}" for each in basis),
            *(f"kernels: {each}" for each in prices.basis),
            *notes,
            *machine.assumptions("bf16"),
            *_own_basis(recordings, parameters),
            "interval: published runs as of `hwprof simulate`, and half to twice the time of calls that nobody measured"
            + "".join(f"; {name}: wider" for name in names if name in UNKNOWN),
        ),
        played=ranks[0],
        prices=all_prices[0],
        machine=machine,
    )


def _own_basis(recordings: Sequence[Recording], parameters: Parameters) -> Iterator[str]:
    recording = recordings[0]
    host_us = float(np.asarray(parameters.kernel_host_s)) * 1e6
    yield f"host: {host_us:.0f} us a call that launches, a quarter of that a view (assumed)"
    if recording.device == "cpu":
        yield "the script trains on the CPU: its tensors and calls are counted as those of the device"
    if recording.peers:
        alone = "; what other ranks make it wait is not in its time" if len(recordings) == 1 else ""
        yield f"messages: {len(recordings)} ranks that exchange them were emulated, the slowest counts{alone}"
    yield from (f"made up: {rule} ({times} times)" for rule, times in recording.made_up.items())
    yield from recording.notes


def _breakdown(played: Played, parameters: Parameters, machine: Machine) -> dict[str, float]:
    """Hidden traffic slows compute, and the slowest of many devices is waited for, as in published steps."""
    contention_s = float(np.asarray(parameters.contention)) * played.hidden_s
    doublings = math.log2(max(machine.devices / ALREADY_BESIDE, 1.0))
    straggling = float(np.asarray(parameters.straggler_share)) * doublings
    parts = {
        "compute": played.compute_s,
        "exposed_communication": played.exposed_s,
        "contention": contention_s,
        "stragglers": straggling * (played.step_s + contention_s),
        "idle": played.idle_s,
    }
    fixed_s = float(np.asarray(parameters.step_fixed_s))
    return parts | {"fixed": min(fixed_s, MOST_FIXED * sum(parts.values()))}


MOST_FIXED = 0.1
"""Share of the rest of a step up to which something is fixed: what published steps say of it, they say of seconds."""


def _bound(breakdown: dict[str, float], recording: Recording, prices: Prices) -> BoundClass:
    times = recording.count(KERNEL)
    moved_s = sum(prices.device_s[place] * times[place] for place in times if prices.memory_bound[place])
    total_s = sum(prices.device_s[place] * times[place] for place in times) or 1.0
    share = moved_s / total_s
    sums: dict[BoundClass, float] = {
        "compute": breakdown["compute"] * (1 - share),
        "memory": breakdown["compute"] * share,
        "communication": breakdown["exposed_communication"] + breakdown["contention"],
        "host": breakdown["idle"] + breakdown["fixed"],
    }
    return max(sums, key=lambda name: sums[name])


def _assumed_s(recording: Recording, prices: Prices) -> tuple[float, float]:
    """Device time of the step on assumed prices, and all of it."""
    times = recording.count(KERNEL)
    sent = recording.count(COLLECTIVE)
    busy_s = sum(prices.device_s[place] * number for place, number in times.items())
    busy_s += sum(prices.collective_s[place] * number for place, number in sent.items())
    assumed_s = sum(prices.device_s[place] * number for place, number in times.items() if prices.assumed[place])
    return float(assumed_s), float(busy_s)


def _slowest(recording: Recording, prices: Prices) -> Iterator[tuple[str, str, float]]:
    """Name, a line of the script and seconds of the kinds of operators and collectives that take most."""
    sums: dict[tuple[str, str], float] = defaultdict(float)
    for place, number in recording.count(KERNEL).items():
        call = recording.calls[place]
        sums[call.name, call.line] += float(prices.device_s[place]) * number
    for place, number in recording.count(COLLECTIVE).items():
        each = recording.collectives[place]
        sums[f"{each.op} over {len(each.ranks)} ranks", ""] += float(prices.collective_s[place]) * number
    longest = sorted(sums.items(), key=lambda item: -item[1])[:MOST_SHOWN]
    yield from ((name, line, seconds) for (name, line), seconds in longest if seconds)


MOST_SHOWN = 12


def _circumstances(recording: Recording, machine: Machine, table: SimulatorParameters) -> Iterator[str]:
    """What makes the prediction less sure, by the names of the simulator's error model."""
    known = known_of(machine, stack_named(recording.software), table)
    sent = [recording.collectives[place] for place in recording.count(COLLECTIVE)]
    several = machine.devices > machine.domain
    holds = {
        "experts": any(each.op == "all_to_all" for each in sent),
        "pipeline": any(each.peer >= 0 for each in sent),
        "several domains": several,
        UNKNOWN[0]: not known.software,
        UNKNOWN[1]: not known.device,
        UNKNOWN[2]: not known.kernels,
        UNKNOWN[4]: several and not known.network,
    }
    yield from (name for name, held in holds.items() if held)


def emulation_json(found: Emulation) -> dict[str, Any]:
    """An emulation with the fields of the JSON contract."""
    recording = found.recording
    refusal = found.refusal
    return {
        "hardware": found.hardware,
        "devices": recording.devices,
        "rank": recording.rank,
        "steps": recording.steps,
        "provenance": "emulated",
        "step_s": found.step_s,
        "interval_s": list(found.interval_s),
        "flop": {"total": recording.flop},
        "collectives": collective_rows(recording, found.played),
        "memory": {
            "peak_bytes": recording.memory.peak_bytes,
            "reserved_bytes": recording.memory.reserved_bytes,
            "capacity_bytes": found.capacity_bytes,
            "fits": found.fits,
            "breakdown": dict(recording.memory.kinds),
            "out_of_memory": None
            if refusal is None
            else {
                "line": refusal.line,
                "asked_bytes": refusal.asked_bytes,
                "allocated_bytes": refusal.allocated_bytes,
                "reserved_bytes": refusal.reserved_bytes,
            },
        },
        "ranks": [
            {
                "rank": one.rank,
                "flop": one.flop,
                "peak_bytes": one.memory.peak_bytes,
                "reserved_bytes": one.memory.reserved_bytes,
            }
            for one in (recording, *found.others)
        ],
        "calls": recording.call_count,
        "assumed_share": found.assumed_share,
        "breakdown_s": found.breakdown_s,
        "bound": found.bound,
        "slowest": [{"name": name, "line": line, "seconds": seconds} for name, line, seconds in found.slowest],
        "basis": list(found.basis),
    }


def collective_rows(recording: Recording, played: Played) -> list[dict[str, Any]]:
    """Collectives of the last step, those alike in one row, in the order in which they come first.

    ``exposed_s`` is the part of ``duration_s`` in which no kernel runs.
    """
    rows: dict[tuple[str, int, int], list[float]] = {}
    messages = played.messages
    for place, start_s, end_s, bare_s in zip(
        messages.kinds, messages.starts, messages.ends, played.bare_s, strict=True
    ):
        each = recording.collectives[place]
        row = rows.setdefault((each.op, len(each.ranks), each.size_bytes), [0, 0.0, 0.0])
        row[0] += 1
        row[1] += end_s - start_s
        row[2] += bare_s
    return [
        {"op": op, "ranks": ranks, "bytes": size, "count": count, "duration_s": duration_s, "exposed_s": exposed_s}
        for (op, ranks, size), (count, duration_s, exposed_s) in rows.items()
    ]
