"""How long do collectives of many jobs take, each on its machine? Looked up between neighbours, by the form beyond."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hwprof.predict.collectives.form import OPERATIONS, Operation, form_s, pass_s
from hwprof.predict.collectives.measured import domain_of, inside_time
from hwprof.predict.collectives.ways import Ways, ways_of
from hwprof.predict.machine import Machine

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

LOWEST_OCTAVE, HIGHEST_OCTAVE, PER_OCTAVE = 9, 34, 2
"""Knots from 512 bytes, below which nothing gets faster, to 16 GiB, beyond which time grows with the bytes."""

MOST_RANKS = 72
"""Larger groups of neighbours are timed by the form: of an NVL72 every number of ranks has its table."""


@dataclass(frozen=True, slots=True, eq=False)
class Clock:
    """Times of collectives of many jobs, arrays of one for each, or of one for all.

    Attributes:
        ways: of each job's machine.
        table: natural logarithms of seconds [machines, operations, ranks, sizes].
        machine: which of the machines of the table.
        near_share: measured over modelled rate between neighbours, where the machine itself was measured.
        listed: whether the table holds for every group of neighbours, 1 for contiguous ones only, 0 for none.
    """

    ways: Ways
    table: Floats
    machine: Integers
    listed: Floats
    near_share: Floats | float = 1.0

    def at_share(self, share: Floats | float) -> Clock:
        """With collectives between neighbours at a share of these rates, as measured on the machine itself."""
        return replace(self, near_share=share)

    def seconds(self, op: Operation, size_bytes: Floats, ranks: Floats, stride: Floats) -> Floats:
        """Of every ``stride``-th device, ``ranks`` of them; of a message, to the device ``stride`` further on."""
        together = stride < self.ways.domain if op == "send_recv" else ranks * stride <= self.ways.domain
        near = together & (ranks <= MOST_RANKS) & ((self.listed == ANY) | (self.listed >= stride))
        if near.all():
            return np.where(ranks > 1, self._looked_up(op, size_bytes, ranks) / self.near_share, 0.0)
        shape = np.broadcast_shapes(np.shape(size_bytes), near.shape)
        size_bytes, ranks, stride, near = (np.broadcast_to(one, shape) for one in (size_bytes, ranks, stride, near))
        seconds = np.zeros(shape)
        far = ~near
        ways = self.ways if len(self.machine) == 1 else self.ways.at(far)
        seconds[far] = form_s(op, size_bytes[far], ranks[far], stride[far], ways)
        near = near & (ranks > 1)
        if near.any():
            share = np.broadcast_to(self.near_share, shape)[near]
            seconds[near] = self._looked_up(op, size_bytes[near], ranks[near], near) / share
        return seconds

    def pass_s(self, size_bytes: Floats, ranks: Floats, stride: Floats) -> Floats:
        """Of a message of each rank to the next of its ring."""
        return np.where(ranks > 1, pass_s(size_bytes, ranks, stride, self.ways), 0.0)

    def _looked_up(self, op: Operation, size_bytes: Floats, ranks: Floats, of: Flags | None = None) -> Floats:
        """Of groups of neighbours; ``of``: the jobs that they belong to, where not all."""
        machine = self.machine if of is None or len(self.machine) == 1 else self.machine[of]
        last = self.table.shape[-1] - 1
        octave = np.log2(np.maximum(size_bytes, 2.0**LOWEST_OCTAVE)) - LOWEST_OCTAVE
        place = octave * PER_OCTAVE
        cell = np.minimum(place.astype(np.int64), last - 1)
        row = (machine * len(OPERATIONS) + OPERATIONS.index(op)) * self.table.shape[2] + ranks.astype(np.int64)
        first = row * (last + 1) + cell
        flat = self.table.ravel()
        low = flat[first]
        share = np.minimum(place, last) - cell
        beyond = np.maximum(place - last, 0.0) * (np.log(2.0) / PER_OCTAVE)
        seconds: Floats = np.exp(low + share * (flat[first + 1] - low) + beyond)
        return seconds


NONE, CONTIGUOUS, ANY = 0.0, 1.0, 2.0


def clock_of(machines: Sequence[Machine]) -> Clock:
    """The clock of each job's machine."""
    places = {machine: place for place, machine in enumerate(dict.fromkeys(machines))}
    tables, listed = zip(*(_table(domain_of(machine)) for machine in places), strict=True)
    ranks = max(table.shape[1] for table in tables)
    wide = [np.pad(table, ((0, 0), (0, ranks - table.shape[1]), (0, 0))) for table in tables]
    index = np.array([places[machine] for machine in machines], dtype=np.int64)
    return Clock(ways_of(machines), np.stack(wide), index, np.array(listed)[index])


@functools.lru_cache(maxsize=256)
def _table(machine: Machine) -> tuple[Floats, float]:
    """Ln seconds [operations, ranks, sizes] between neighbours of a machine, and for which groups they hold.

    In a torus the place of a group counts, too; where bridges join pairs, only neighbours in a row meet over them.
    """
    ways = ways_of([machine])
    most = int(min(ways.domain[0], MOST_RANKS))
    listed = NONE if machine.torus_axes else CONTIGUOUS if ways.bridged[0] > 1 else ANY
    octaves = np.arange((HIGHEST_OCTAVE - LOWEST_OCTAVE) * PER_OCTAVE + 1) / PER_OCTAVE + LOWEST_OCTAVE
    ranks, sizes = (axis.ravel() for axis in np.meshgrid(np.arange(2.0, most + 1), 2.0**octaves, indexing="ij"))
    table = np.zeros((len(OPERATIONS), most + 1, len(octaves)))
    if listed != NONE and most > 1:
        for place, op in enumerate(OPERATIONS):
            table[place, 2:] = np.log(inside_time(op, machine, sizes, ranks).seconds).reshape(most - 1, len(octaves))
    return table, listed
