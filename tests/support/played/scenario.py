"""How long does a step take whose every kernel, call and pause is written down? Played, watched and traced.

A scenario is a function of one step: it lets the host work, names operators and modules, launches work on streams. The
watch of the recorder takes such steps as those of a real loop; the profiler's file is what Kineto would write of them.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch

from hwprof.measure.timing import EventTimer
from hwprof.measure.watch import annotate, steps
from hwprof.measure.watch.owners import Modules
from hwprof.measure.watch.steps import StepWatch
from hwprof.spans.marks import MODULE
from played.device import US, Gpus, HandClock, Work

CUDA = torch.device("cuda", 0)
COMMUNICATION = {
    "Group size": 2,
    "dtype": "Float",
    "Process Group Name": "0",
    "Process Group Description": "default_pg",
}
_NESTING_NS = 10
"""Between the begin of a span and of what is in it."""


class Scenario:
    """A host and its devices. Mutable: its clock goes on.

    Attributes:
        gpus: what it drives.
        lost: whether the profiler loses the calls into the runtime.
        counters: what telemetry says beside the timed steps.
    """

    def __init__(self, monkeypatch: Any, *, count: int = 1) -> None:
        self.gpus = Gpus(count, clock=HandClock())
        self.lost: Callable[[Work], bool] = lambda _work: False
        self.counters: dict[str, float] = {}
        self._annotations: list[dict[str, Any]] = []
        self._memory: list[dict[str, Any]] = []
        self._allocated = 0
        self._numbers = itertools.count(1)
        self._thread = 1
        for place, name, stand_in in (
            (annotate, "record_function", self._annotation),
            (steps, "record_function", self._annotation),
            (steps, "profiler", lambda *_args, **_options: _Session(self)),
            (steps, "event_s", lambda *_args, **_options: 0.0),
            (steps, "marking_s", lambda *_args: 0.0),
        ):
            monkeypatch.setattr(place, name, stand_in)

    # what a step is made of

    def host(self, length_us: float) -> None:
        """The program does something of its own."""
        self.gpus.clock.pass_ns(round(length_us * US))

    @contextmanager
    def thread(self, number: int):
        """Operators and calls of another thread, as autograd's."""
        before, self._thread = self._thread, number
        yield
        self._thread = before

    @contextmanager
    def op(self, name: str, **args: Any):
        """An operator of torch."""
        with self._span("cpu_op", name, {"External id": next(self._numbers), **args}):
            yield

    @contextmanager
    def module(self, path: str):
        """The forward of a module."""
        with self._span("user_annotation", MODULE + path, {}):
            yield

    def kernel(self, name: str, length_us: float, *, stream: Any = None, operator: str = "aten::mm", **options: Any):
        """An operator that launches one kernel."""
        sequence = options.pop("sequence", None)
        backward = options.pop("backward", False)
        args = {} if sequence is None else {"Sequence number": sequence, "Fwd thread id": int(backward)}
        with self.op(operator, **args):
            work = self.gpus.launch(name, length_us, stream=stream, **{"call_us": 1.0, "latency_us": 1.0} | options)
            self._called(work)
        return work

    def collective(self, word: str, length_us: float, elements: int, *, stream: Any, says: bool = True) -> Work:
        """A collective that starts once its stream is free and what was launched so far on the current one is done."""
        stream.wait_stream(self.gpus.stream())
        said = {"Collective name": word, "In msg nelems": elements, "Out msg nelems": elements, **COMMUNICATION}
        args = said if says else {}
        with self.op("record_param_comms", **args):
            work = self.gpus.launch(
                "ncclDevKernel_Generic(ncclDevKernelArgsStorage<4096ul>)",
                length_us,
                stream=stream,
                call_us=1.0,
                latency_us=1.0,
                **args,
            )
            self._called(work)
        return work

    def copy(self, kind: str, length_us: float, size_bytes: int, *, stream: Any = None, wait: bool = False) -> None:
        """A copy; one that the host waits for, if asked."""
        work = self.gpus.launch(f"Memcpy {kind}", length_us, stream=stream, category="gpu_memcpy", call_us=1.0,
                                latency_us=1.0, runtime="cudaMemcpyAsync", bytes=size_bytes)  # fmt: skip
        self._called(work)
        if wait:
            self.gpus.synchronize()

    def graph(self, lengths_us: list[float]) -> None:
        """One launch of a captured graph, whose kernels run one after the other."""
        with self.op("cudaGraph"):
            first = self.kernel_of_graph(0, lengths_us[0], call_us=5.0, latency_us=1.0)
            self._called(first)
        for number, length_us in enumerate(lengths_us[1:], start=1):
            self.kernel_of_graph(number, length_us, call_us=0.0, latency_us=0.0)
            self.gpus.works[-1] = replace(self.gpus.works[-1], correlation=first.correlation)

    def kernel_of_graph(self, number: int, length_us: float, **options: float) -> Work:
        """One of those kernels."""
        return self.gpus.launch(f"graph_kernel_{number}", length_us, runtime="cudaGraphLaunch", **options)

    def allocate(self, size_bytes: int) -> None:
        """The allocator gives memory, or takes it back."""
        self.gpus.out_of_memory(size_bytes)
        self._allocated += size_bytes
        self.gpus.peak_bytes = max(self.gpus.peak_bytes, self._allocated)
        self._memory.append({
            "ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "pid": 1, "tid": self._thread, "s": "t",
            "ts": self._us(), "args": {"Device Type": 1, "Device Id": 0, "Bytes": size_bytes,
                                       "Total Allocated": self._allocated, "Total Reserved": self._allocated},
        })  # fmt: skip

    # how it is watched

    def watched(
        self, step: Callable[[Scenario, Any], None], tmp_path: Path, *, pairs: int = 3, profiled: int = 2, **how
    ):
        """The recording of such steps: warmed up, timed, profiled, their memory watched; and their collectives."""
        watch = StepWatch(
            timer=EventTimer(CUDA),
            device=CUDA,
            trace_path=tmp_path / "trace.json.gz",
            modules=Modules.of(torch.nn.Linear(1, 1)),
            beside=lambda _start_s, _end_s: self.counters,
            waited_s=lambda: None,
            **how,
        )
        try:
            for taken in (watch.warm_up(1), watch.timed(pairs), watch.profiled(profiled), watch.memory(lambda: 0.0)):
                for phase in taken:
                    step(self, phase)
        except (RuntimeError, torch.OutOfMemoryError) as error:
            return watch.recording(), watch.calls, error
        return watch.recording(), watch.calls, None

    # what the profiler writes

    def _us(self) -> float:
        return self.gpus.clock.now_ns() / US

    @contextmanager
    def _span(self, category: str, name: str, args: dict[str, Any]):
        begun, thread = self._us(), self._thread
        self.gpus.clock.pass_ns(_NESTING_NS)
        yield
        self.gpus.clock.pass_ns(_NESTING_NS)
        self._annotations.append({"ph": "X", "cat": category, "name": name, "pid": 1, "tid": thread, "ts": begun,
                                  "dur": self._us() - begun, "args": args})  # fmt: skip

    @contextmanager
    def _annotation(self, name: str):
        with self._span("user_annotation", name, {}):
            yield

    def _called(self, work: Work) -> None:
        if self.lost(work):
            return
        begun, ended = (moment / US for moment in work.call)
        self._annotations.append({"ph": "X", "cat": "cuda_runtime", "name": work.runtime, "pid": 1,
                                  "tid": self._thread, "ts": begun, "dur": ended - begun,
                                  "args": {"correlation": work.correlation}})  # fmt: skip

    def content(self) -> list[dict[str, Any]]:
        """All that happened since the profiler was opened."""
        device = [
            {"ph": "X", "cat": work.category, "name": work.name, "pid": work.device, "tid": work.stream,
             "ts": work.start_ns / US, "dur": (work.end_ns - work.start_ns) / US,
             "args": {"device": work.device, "stream": work.stream, "correlation": work.correlation, **work.args}}
            for work in self.gpus.works
        ]  # fmt: skip
        return [*self._annotations, *device, *self._memory]

    def forget(self) -> None:
        """What was so far is in no profile that is opened now."""
        self._annotations.clear()
        self._memory.clear()
        self.gpus.works.clear()


class _Session:
    """A profiler that is open; its file has what happened until it was closed."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario

    def __enter__(self) -> Self:
        self._scenario.forget()
        return self

    def __exit__(self, *error: object) -> None:
        self._content = self._scenario.content()

    def export_chrome_trace(self, path: str) -> None:
        text = json.dumps({"traceEvents": self._content}).encode()
        Path(path).write_bytes(gzip.compress(text) if path.endswith(".gz") else text)
