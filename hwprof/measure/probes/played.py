"""How long does each call of a recorded step take in its place? Played again in order, on memory that lies as it did.

A call that is repeated alone finds its operands, and its own code, in the caches of a processor; in a step it finds
what the calls before it left there. So all calls of a step run in their order: what a call makes is used by those that
use it, and is freed after the last of them. Numbers stay small, as those of a model do; what collectives bring is 0.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hwprof.measure.host.memory import available_memory_bytes
from hwprof.measure.probes.bench import Bench, CannotRunError
from hwprof.measure.probes.calls import arguments_of, bound_of, operator_of, tensor_like
from hwprof.measure.probes.sampling import Samples, Work
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.captured import AtenCall, TensorView
from hwprof.specs.record.saved_calls import Layout, Step, call_name

LEAST_PLAYS, PLAY_S = 3, 10.0
"""A step is played so often, and longer until this time is over."""
MOST_OF_MEMORY = 0.8
"""Share of what is free that the storages of a step may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One call of a step, ready to be made.

    Attributes:
        name: of its kind.
        call: its shapes.
        layouts: where its tensors lie.
        operator: of torch; None where there is none.
        dead: storages that no later call uses.
    """

    name: str
    call: AtenCall
    layouts: tuple[Layout, ...]
    operator: Any
    dead: tuple[int, ...]


class _Memory:
    """Storages of a step by their numbers. Mutable: they come and go.

    Args:
        sizes: number -> bytes of the furthest element that any call touches.
        device: where they are.
    """

    def __init__(self, sizes: Mapping[int, int], device: torch.device) -> None:
        self._sizes, self._device = sizes, device
        self._live: dict[int, torch.UntypedStorage] = {}

    def view(self, view: TensorView, layout: Layout, bound: int) -> torch.Tensor:
        """A tensor where it lies; its storage is made, with numbers of that type, where it is not there yet."""
        number, offset, strides = layout
        held = self._live.get(number)
        if held is None:
            elements = -(-self._sizes[number] // view.element_bytes)
            flat = TensorView((elements,), view.dtype, view.element_bytes, elements, number)
            held = self._live[number] = tensor_like(flat, self._device, bound, most=SMALL).untyped_storage()
        return torch.empty(0, dtype=getattr(torch, view.dtype), device=self._device).set_(
            held, offset, view.shape, strides
        )

    def take(self, made: Sequence[torch.Tensor], layouts: Sequence[Layout]) -> None:
        """What a call gave, where it is as large as in the step; otherwise others find memory of their own."""
        for tensor, (number, _, _) in zip(made, layouts, strict=False):
            storage = tensor.untyped_storage()
            if number not in self._live and storage.nbytes() >= self._sizes[number]:
                self._live[number] = storage

    def drop(self, numbers: Sequence[int]) -> None:
        """They are used no more."""
        for number in numbers:
            self._live.pop(number, None)


SMALL = 0.04
"""Numbers lie between 0 and this, about as large as weights: products of products stay within what a type can hold."""


def played(bench: Bench, steps: Sequence[Step]) -> dict[str, Ceiling]:
    """``call.<operator>.<digest>`` -> seconds of a call of this kind, in the mean over its places in the steps.

    Calls of a step whose memory is more than there is are left out, and those that can't be made.
    """
    sums: dict[str, list[list[float]]] = defaultdict(list)
    with torch.inference_mode(mode=False), torch.no_grad():
        for step in steps:
            for name, seconds in _of_step(bench, step).items():
                sums[name] += seconds
    found = {}
    for name, each in sums.items():
        plays = min(map(len, each))
        means = tuple(statistics.fmean(one[play] for one in each) for play in range(plays))
        timed = Samples(seconds=means, warmups=1, repeats=len(each), discarded=0)
        found[name] = bench.ceiling(
            name, "latency", timed, conditions={"call": name.split(".")[1], "played": "in place"}
        )
    return found


def _of_step(bench: Bench, step: Step) -> dict[str, list[list[float]]]:
    """Name -> of each call of that kind, its seconds in each play."""
    sizes = _sizes(step)
    free_bytes, _ = available_memory_bytes(bench.device)
    if free_bytes is not None and sum(sizes.values()) > MOST_OF_MEMORY * free_bytes:
        return {}
    calls = tuple(_ready(step))
    memory = _Memory(sizes, bench.device)
    _keep_what_is_freed()
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    clock_s = _clock_s(clock)
    stop_s = time.perf_counter() + PLAY_S
    times: list[list[float]] = [[] for _ in calls]
    plays = -1  # the first one warms
    while plays < LEAST_PLAYS or (plays < bench.samples and time.perf_counter() < stop_s):
        for own, call in zip(times, calls, strict=True):
            seconds = _play(call, memory, clock)
            if plays >= 0 and seconds is not None:
                own.append(max(seconds - 2 * clock_s, 0.0))
        plays += 1
    found: dict[str, list[list[float]]] = defaultdict(list)
    for own, call in zip(times, calls, strict=True):
        if len(own) == plays:
            found[call.name].append(own)
    return found


def _keep_what_is_freed() -> None:
    """Free a large block, as a training does before its first steps are over.

    From then on glibc takes blocks of up to this size from memory that it keeps, which is mapped already
    (mallopt(3), ``M_MMAP_THRESHOLD``: it follows what is freed, up to 32 MiB).
    """
    torch.empty(KEPT_BYTES, dtype=torch.uint8).fill_(0)


KEPT_BYTES = 31 * 2**20


def _sizes(step: Step) -> dict[int, int]:
    found: dict[int, int] = defaultdict(int)
    for call, layouts in step:
        for view, (number, offset, strides) in zip((*call.inputs, *call.results), layouts, strict=True):
            reach = sum((size - 1) * stride for size, stride in zip(view.shape, strides, strict=True))
            last = offset + reach + 1 if all(view.shape) else 0
            found[number] = max(found[number], last * view.element_bytes)
    return found


def _ready(step: Step) -> Iterator[_Call]:
    last = {layout[0]: place for place, (_, layouts) in enumerate(step) for layout in layouts}
    given: set[int] = set()
    """Storages that were there before the step, which stay."""
    made: set[int] = set()
    for place, (call, layouts) in enumerate(step):
        given |= {layout[0] for layout in layouts[: len(call.inputs)]} - made
        made |= {layout[0] for layout in layouts}
        numbers = {layout[0] for layout in layouts}
        dead = tuple(number for number in numbers if last[number] == place and number not in given)
        yield _Call(name=call_name(call), call=call, layouts=layouts, operator=_operator(call), dead=dead)


def _operator(call: AtenCall) -> Any:
    try:
        return operator_of(call)
    except CannotRunError:
        return None


def _play(call: _Call, memory: _Memory, clock: Callable[[], float]) -> float | None:
    """Seconds of one call and of freeing what nothing uses after it; None where it can't be made."""
    work = _work(call, memory)
    made: Any = None
    seconds: float | None = None
    if work is not None:
        with contextlib.suppress(RuntimeError, IndexError, ValueError, TypeError):  # as torch says that it can't
            start_s = clock()
            made = work()
            seconds = clock() - start_s
    tensors = [each for each in (made if isinstance(made, tuple | list) else (made,)) if isinstance(each, torch.Tensor)]
    memory.take(tensors, call.layouts[len(call.call.inputs) :])
    if call.call.name in BLANK:
        for tensor in tensors:
            tensor.zero_()
    del work, made, tensors
    start_s = clock()
    memory.drop(call.dead)
    return None if seconds is None else seconds + clock() - start_s


BLANK = frozenset(
    {"aten::empty", "aten::empty_strided", "aten::empty_like", "aten::new_empty", "aten::new_empty_strided"}
)
"""Operators whose results hold whatever was there; a collective, which is not played, or the next call fills them."""


def _work(call: _Call, memory: _Memory) -> Work | None:
    if call.operator is None:
        return None
    layouts = iter(call.layouts)
    bound = bound_of(call.call)
    try:
        positional, named = arguments_of(
            call.operator, call.call, lambda view: memory.view(view, next(layouts), bound), torch.device("cpu")
        )
    except (RuntimeError, CannotRunError):
        return None
    return functools.partial(call.operator, *positional, **named)


def _clock_s(clock: Callable[[], float]) -> float:
    samples = []
    for _ in range(200):
        start_s = clock()
        samples.append(clock() - start_s)
    return statistics.median(samples)
