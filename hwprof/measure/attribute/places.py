"""To which label, phase and direction does each event of the host belong?

The recorder marks phases and modules as annotations. A forward operator belongs to the innermost module around it; a
backward operator to the module whose forward operator has the same autograd sequence number; gradient accumulation
follows the node before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from hwprof.measure.attribute.window import PHASES, Window
from hwprof.spans.collectives import LIBRARY, OPERATOR, PACKING
from hwprof.spans.columns import HostKind
from hwprof.spans.marks import MODULE
from hwprof.spans.nesting import Places, at, backward_nodes, named, nearest, node_labels, parents
from hwprof.specs.job.labels import COMMUNICATION_LABEL, MODEL_LABEL, PHASE_LABELS, label_of
from hwprof.specs.job.settings import Direction, PhaseName

_DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
_FORWARD, _BACKWARD, _RECOMPUTE, _UPDATE, _DECODE = range(len(_DIRECTIONS))
_BY_PHASE = {"backward": _BACKWARD, "clip": _UPDATE, "optimizer": _UPDATE, "decode": _DECODE}
"""Direction of what runs in a phase, forward in all others, unless its own name says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a piece of work belongs: label of the operation, phase and direction."""

    label: str
    phase: PhaseName
    direction: Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlaces:
    """Columns beside the host events of a trace: the event around each, and where it belongs.

    Attributes:
        label, phase, direction: places in ``labels``, in the names of phases (-1 for none) and of directions.
    """

    parent: Places
    label: Places
    phase: NDArray[np.int8]
    direction: NDArray[np.int8]
    labels: tuple[str, ...]

    def of(self, event: int) -> Place | None:
        """Where an event belongs; None where it is outside any phase, or is none (-1)."""
        if event < 0 or self.phase[event] < 0:
            return None
        return Place(
            label=self.labels[self.label[event]],
            phase=PHASES[self.phase[event]],
            direction=_DIRECTIONS[self.direction[event]],
        )


def places_of(window: Window) -> HostPlaces:
    """Where the events of a window belong.

    An event is where the nearest one around it is that speaks of places: a collective, a module, a node of backward;
    without one, where its phase is.
    """
    trace, host = window.trace, window.trace.host
    parent = parents(trace)
    phase = np.where(window.holds(host), window.phases_at(host.start_ns), np.int8(-1))
    operators = host.kind == HostKind.OPERATOR
    talks = named(trace, lambda name: name.startswith(PACKING) or LIBRARY.match(name))
    talks |= operators & named(trace, OPERATOR.match)
    modules = named(trace, lambda name: name.startswith(MODULE)) & ~talks
    nodes = backward_nodes(trace) & ~talks & ~modules & (phase >= 0)
    roots = at(phase, parent) != phase
    numbers = {MODEL_LABEL: 0}
    of_phase = np.array([numbers.setdefault(PHASE_LABELS[name], len(numbers)) for name in PHASES], dtype=np.int32)
    paths = (name.removeprefix(MODULE) if name.startswith(MODULE) else "" for name in trace.names)
    of_name = np.array(
        [numbers.setdefault(label_of(path), len(numbers)) if path else 0 for path in paths], dtype=np.int32
    )
    label = np.where(modules, of_name[host.name], of_phase[phase])
    label[talks] = numbers[COMMUNICATION_LABEL]
    direction = np.array([_BY_PHASE.get(name, _FORWARD) for name in PHASES], dtype=np.int8)[phase]
    again = {_BACKWARD: _RECOMPUTE, _DECODE: _DECODE}
    direction[modules] = [again.get(int(found), _FORWARD) for found in direction[modules]]
    direction[nodes] = _BACKWARD
    speaker = nearest(parent, (phase >= 0) & (talks | modules | nodes | roots))
    direction = at(direction, speaker)
    forward = np.flatnonzero(operators & (phase >= 0) & (direction == _FORWARD) & (host.sequence >= 0))
    # A collective makes no node, and carries the number of the next one that is made.
    makes_node = label[speaker[forward]] != numbers[COMMUNICATION_LABEL]
    forward = forward[np.lexsort((host.start_ns[forward], makes_node))]
    label[nodes] = node_labels(host, label[speaker], forward, np.flatnonzero(nodes))
    return HostPlaces(parent=parent, label=label[speaker], phase=phase, direction=direction, labels=tuple(numbers))
