"""What does a device spend its time on? Pieces of one kind each: a GPU's kernels, the own time of a CPU's operators."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hwprof.specs.intervals import Intervals, union
from hwprof.specs.job.labels import runs_hooks
from hwprof.trace.calls import LOADER, Calls, Places, at, nearest
from hwprof.trace.read.columns import DeviceKind, HostKind, Ints, Numbers, Trace


class Kind(IntEnum):
    """What a piece does; the order is that in which one hides another."""

    COMPUTE = 0
    COMMUNICATION = 1
    COPY = 2


COMMUNICATION_KERNEL = re.compile(
    r"nccl|rccl|oneccl|hccl|nvshmem|msccl|deep_ep|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|"
    r"cross_device_reduce|multimem_|symm_mem",
    re.IGNORECASE,
)
"""Names of kernels that talk to other devices: the libraries', and those that serve small messages themselves."""
COMMUNICATION_CALL = re.compile(
    r"(record_param_comms$|_?c10d(_functional)?::|_dtensor::|(nccl|rccl|gloo|mpi|ucc|xccl|hccl):)"
)
"""Operators and annotations of torch.distributed."""
_ISSUES_COLLECTIVE = re.compile(r"record_param_comms$|(nccl|rccl|xccl|hccl):")
_COPY_WORD = re.compile(r"copy|cat|elementwise|fill|memset", re.IGNORECASE)
"""Kernels that prepare a collective's buffers; they run beside it, and are no communication."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Columns of pieces by start.

    Attributes:
        start_ns, end_ns: since the first event of the trace.
        kind: a ``Kind``.
        name: place in the names of the trace.
        host: the call that launched the kernel, or the operator itself; -1 if the trace has none.
        stream: of the kernel; of a CPU, the thread.
        collective: place of what a collective says of itself; -1 for none.
    """

    start_ns: Ints
    end_ns: Ints
    kind: NDArray[np.int8]
    name: Numbers
    host: Places
    stream: Numbers
    collective: Numbers

    def __len__(self) -> int:
        return len(self.start_ns)

    def where(self, chosen: NDArray[np.bool_]) -> Pieces:
        """Only the chosen pieces; these themselves if they are all."""
        if chosen.all():
            return self
        return Pieces(*(getattr(self, name)[chosen] for name in self.__slots__))

    def of(self, *kinds: Kind) -> Intervals:
        """When pieces of these kinds run."""
        chosen = np.isin(self.kind, kinds)
        return union(self.start_ns[chosen], self.end_ns[chosen])


def gpu_pieces(trace: Trace, calls: Calls, device: int) -> Pieces:
    """The kernels, copies and fills of one device.

    A kernel communicates by its own words, by its name, or by the call that it was launched in, whatever it is called.
    """
    events = trace.device.where(trace.device.device == device)
    host = _launches(trace, events.correlation)
    around = at(_communication_call(trace, calls), host)
    said = at(trace.host.collective, around)
    collective = np.where(events.collective >= 0, events.collective, said)
    by_name = _table(COMMUNICATION_KERNEL, trace.names)[events.name]
    prepares = _table(_COPY_WORD, trace.names)[events.name]
    kind = np.zeros(len(events), dtype=np.int8)
    kind[(collective >= 0) | by_name | (around >= 0) & ~prepares] = Kind.COMMUNICATION
    kind[events.kind != DeviceKind.KERNEL] = Kind.COPY
    return Pieces(events.start_ns, events.end_ns, kind, events.name, host, events.stream, collective)


def _launches(trace: Trace, correlation: Numbers) -> Places:
    """The call into the runtime with the same correlation id; that of a graph launch stands at all its kernels."""
    calls = np.flatnonzero((trace.host.kind == HostKind.RUNTIME) & (trace.host.correlation >= 0)).astype(np.int32)
    if not len(calls):
        return np.full(len(correlation), -1, dtype=np.int32)
    calls = calls[np.argsort(trace.host.correlation[calls], kind="stable")]
    known = trace.host.correlation[calls]
    place = np.minimum(np.searchsorted(known, correlation), len(known) - 1)
    return np.where(known[place] == correlation, calls[place], np.int32(-1))


def _communication_call(trace: Trace, calls: Calls) -> Places:
    """The call around each host event that issues a collective, and nothing else; -1 for none."""
    is_call = _table(_ISSUES_COLLECTIVE, trace.names)[trace.host.name]
    return nearest(calls.parent, is_call)


def _table(pattern: re.Pattern[str], names: tuple[str, ...]) -> NDArray[np.bool_]:
    return np.array([pattern.search(name) is not None for name in names], dtype=np.bool_)


def cpu_pieces(trace: Trace, calls: Calls) -> Pieces:
    """The own time of every operator outside the input pipeline, and the spans of collectives on their threads.

    What the autograd engine does around an operator is none: hooks run there, and may wait.
    """
    host = trace.host
    is_call = np.array([COMMUNICATION_CALL.match(name) is not None for name in trace.names], dtype=np.bool_)[host.name]
    loads = np.array([LOADER.match(name) is not None for name in trace.names], dtype=np.bool_)[host.name]
    is_input = nearest(calls.parent, loads) >= 0
    is_hook = np.array([runs_hooks(name) for name in trace.names], dtype=np.bool_)[host.name]
    is_operator = (host.kind == HostKind.OPERATOR) & ~is_input & ~is_hook
    annotated = np.flatnonzero((host.kind == HostKind.ANNOTATION) & is_call)
    spans = (host.start_ns[annotated], host.end_ns[annotated], annotated)
    segments = [*own_segments(trace, calls, is_operator), spans]
    start, end, place = (np.concatenate(column) for column in zip(*segments, strict=True))
    within_call = nearest(calls.parent, is_call) >= 0
    kind = np.where(within_call[place], Kind.COMMUNICATION, Kind.COMPUTE).astype(np.int8)
    order = np.argsort(start, kind="stable")
    place = place[order]
    return Pieces(
        start[order], end[order], kind[order], host.name[place], place, host.thread[place], host.collective[place]
    )


def own_segments(trace: Trace, calls: Calls, chosen: NDArray[np.bool_]) -> Iterator[tuple[Ints, Ints, Places]]:
    """Start, end and event of every stretch in which a chosen event runs itself and no chosen event inside it does.

    They come in portions of whole calls, so that they need not all stand in memory.
    """
    above = at(nearest(calls.parent, chosen), calls.parent)
    ends = np.flatnonzero(chosen)[_PORTION::_PORTION].copy()
    outermost = np.flatnonzero(chosen & (above < 0)).astype(np.int32)
    cuts = np.unique(outermost[np.searchsorted(outermost, ends, side="right") - 1]).tolist()
    del outermost
    for low, high in itertools.pairwise([0, *(cut for cut in cuts if cut > 0), len(chosen)]):
        places = np.flatnonzero(chosen[low:high]).astype(np.int32) + np.int32(low)
        yield _segments(trace, places, above[places])


_PORTION = 1 << 16


def _segments(trace: Trace, places: Places, above: Places) -> tuple[Ints, Ints, Places]:
    """Before each of the events in a parent, back to the last one or to the parent's start; and after the last one."""
    start, end = trace.host.start_ns[places], trace.host.end_ns[places]
    inner = above >= 0
    parent = np.searchsorted(places, above[inner])
    child_end = np.minimum(end[inner], end[parent])
    family = np.lexsort((start[inner], parent))
    parent, child_start, child_end = parent[family], start[inner][family], child_end[family]
    opens = np.concatenate([[True], parent[1:] != parent[:-1]])[: len(parent)]
    before = np.where(opens, start[parent], np.concatenate([[0], child_end[:-1]])[: len(parent)])
    closes = np.concatenate([opens[1:], [True]])[: len(parent)]
    after = start.copy()
    after[parent[closes]] = child_end[closes]
    first, last = np.concatenate([before, after]), np.concatenate([child_start, end])
    place = np.concatenate([places[parent], places])
    long = last > first
    return first[long], last[long], place[long]
