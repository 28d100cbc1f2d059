"""What do CUDA devices do that are not here? Streams with clocks of their own, events, memory, errors; all are played.

The host's clock is real, or moved on by hand. A stream begins a piece of work once it was launched and all before it is
done, so that the host runs ahead; it waits for events as CUDA has it. Lengths of work are given, so all is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self

import torch

NS_PER_S, US = 1e9, 1_000
H200 = {
    "name": "NVIDIA H200",
    "major": 9,
    "minor": 0,
    "total_memory": 150_754_820_096,
    "multi_processor_count": 132,
    "L2_cache_size": 3 * 2**20,
    "uuid": "00000000-1111-2222-3333-444444444444",
    "pci_domain_id": 0,
    "pci_bus_id": 0x1B,
    "pci_device_id": 0,
}
"""What torch says of one; its L2 cache is that of a small one, so that tests of it end soon."""


class RealClock:
    """The host's own clock: waiting takes as long as it takes."""

    def now_ns(self) -> int:
        return time.perf_counter_ns()

    def wait_until(self, moment_ns: int) -> None:
        while (left_ns := moment_ns - time.perf_counter_ns()) > 0:
            time.sleep(left_ns / NS_PER_S)


class HandClock:
    """Time that passes where a test says so; waiting takes none."""

    def __init__(self, start_ns: int = 10**9) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def wait_until(self, moment_ns: int) -> None:
        self._now_ns = max(self._now_ns, moment_ns)

    def pass_ns(self, length_ns: int) -> None:
        self._now_ns += length_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A piece that a stream did: ``call`` is when the host called for it, ``category`` as Kineto has it."""

    category: str
    name: str
    device: int
    stream: int
    start_ns: int
    end_ns: int
    call: tuple[int, int]
    runtime: str
    correlation: int
    args: dict[str, Any] = field(default_factory=dict)


class Gpus:
    """Some devices and the host that drives them; ``installed`` puts them in the place of torch's.

    Args:
        count: how many are visible.
        kind: which of torch's modules they are put into.
        clock: the host's.
        properties: of each, in place of an H200's.
        memory_bytes: how much of each is free.

    Attributes:
        largest_bytes: a tensor larger than this raises torch's own error, as where memory is used up or fragmented.
        slower: work takes this many times its length, as under throttling.
        capturing: whether the program captures a graph, in which events must not be recorded.
    """

    def __init__(
        self,
        count: int = 1,
        *,
        kind: str = "cuda",
        clock: Any = None,
        memory_bytes: int = 149 * 10**9,
        **properties: Any,
    ) -> None:
        self.clock = clock or RealClock()
        self.count = count
        self.kind = kind
        self.memory_bytes = memory_bytes
        self.largest_bytes = memory_bytes
        self.properties = SimpleNamespace(**H200 | properties)
        self.slower = 1.0
        self.capturing = False
        self.current = 0
        self.touched: set[int] = set()
        self.works: list[Work] = []
        self.broken: str | None = None
        self.peak_bytes, self.reserved_bytes = 123_456_789, 150_994_944
        self.all_streams: list[Stream] = []
        self._streams = {index: Stream(self, index, 7) for index in range(count)}
        self._default = dict(self._streams)
        self._made = 7
        self._correlation = 1000

    # what torch.cuda answers

    def index_of(self, device: Any = None) -> int:
        """The number of a device as torch takes it: nothing, a number, a text, a torch.device."""
        if device is None or isinstance(device, int):
            return self.current if device is None or device < 0 else device
        index = torch.device(device).index
        return self.current if index is None else index

    def check(self) -> None:
        """A sticky error comes back from every call."""
        if self.broken:
            raise torch.AcceleratorError(self.broken)

    def fail(self, text: str = "CUDA error: an illegal memory access was encountered") -> None:
        """From now on every call says so, as after a kernel that broke the context."""
        self.broken = text
        self.check()

    def out_of_memory(self, size_bytes: float) -> None:
        """Raise as torch's allocator does if that much can't be had."""
        if size_bytes > self.largest_bytes:
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {size_bytes / 2**20:.2f} MiB. GPU 0 has a total capacity of "
                f"{self.properties.total_memory / 2**30:.2f} GiB of which {self.memory_bytes / 2**20:.2f} MiB is free."
            )

    def stream(self, device: Any = None) -> Stream:
        """The current one of a device."""
        return self._streams[self.index_of(device)]

    def new_stream(self, device: Any = None) -> Stream:
        self._made += 1
        return Stream(self, self.index_of(device), self._made)

    @contextmanager
    def on_stream(self, stream: Stream | None):
        """Make a stream, and its device, the current one."""
        if stream is None:
            yield
            return
        before, device = self._streams[stream.device_index], self.current
        self._streams[stream.device_index], self.current = stream, stream.device_index
        try:
            yield
        finally:
            self._streams[stream.device_index], self.current = before, device

    @contextmanager
    def on_device(self, device: Any):
        before, self.current = self.current, self.index_of(device)
        try:
            yield
        finally:
            self.current = before

    def set_device(self, device: Any) -> None:
        self.check()
        self.current = self.index_of(device)

    def synchronize(self, device: Any = None) -> None:
        """Wait until a device has done all that was asked of it."""
        self.check()
        index = self.index_of(device)
        self.touched.add(index)
        ends = [stream.free_ns for stream in self.all_streams if stream.device_index == index]
        self.clock.wait_until(max(ends, default=0))

    # what the device is asked to do

    def launch(
        self,
        name: str,
        length_us: float,
        *,
        stream: Stream | None = None,
        category: str = "kernel",
        call_us: float = 4.0,
        latency_us: float = 1.0,
        runtime: str = "cudaLaunchKernel",
        **args: Any,
    ) -> Work:
        """Call for a piece of work; the host goes on after ``call_us``."""
        self.check()
        stream = stream or self.stream()
        began_ns = self.clock.now_ns()
        self.clock.wait_until(began_ns + round(call_us * US))
        start_ns = max(began_ns + round(latency_us * US), stream.free_ns)
        stream.free_ns = start_ns + round(length_us * US * self.slower)
        self._correlation += 1
        self.works.append(
            Work(
                category=category,
                name=name,
                device=stream.device_index,
                stream=stream.number,
                start_ns=start_ns,
                end_ns=stream.free_ns,
                call=(began_ns, self.clock.now_ns()),
                runtime=runtime,
                correlation=self._correlation,
                args=args,
            )
        )
        return self.works[-1]

    @contextmanager
    def installed(self, monkeypatch: Any):
        """``torch.cuda``, or the module of another kind, speaks of these devices."""
        for name, answer in (_of_apple(self) if self.kind == "mps" else self._answers()).items():
            monkeypatch.setattr(getattr(torch, self.kind), name, answer, raising=False)
        if hasattr(torch, "accelerator") and self.kind != "mps":
            monkeypatch.setattr(torch.accelerator, "current_stream", self.stream)
        yield self

    def _answers(self) -> dict[str, Any]:
        def at(answer: Callable[[], Any]) -> Callable[..., Any]:
            def told(device: Any = None) -> Any:
                self.check()
                self.touched.add(self.index_of(device))
                return answer()

            return told

        intel = {"power_draw": 450, "clock_rate": 1600, "temperature": 52, "utilization": 93, "memory_usage": 40,
                 "device_memory_used": 65 * 10**9} if self.kind == "xpu" else {}  # fmt: skip
        memory = at(lambda: (self.memory_bytes, self.properties.total_memory))
        return {name: at(lambda value=value: value) for name, value in intel.items()} | {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: self.count,
            "get_device_name": lambda _device=None: self.properties.name,
            "get_device_capability": lambda _device=None: (self.properties.major, self.properties.minor),
            "get_device_properties": lambda _device=None: self.properties,
            "mem_get_info": memory,
            "synchronize": self.synchronize,
            "set_device": self.set_device,
            "current_device": lambda: self.current,
            "device": self.on_device,
            "stream": self.on_stream,
            "current_stream": self.stream,
            "default_stream": lambda device=None: self._default[self.index_of(device)],
            "Stream": lambda device=None, **_: self.new_stream(device),
            "Event": lambda **options: Event(self, **options),
            "empty_cache": lambda: None,
            "max_memory_allocated": at(lambda: self.peak_bytes),
            "max_memory_reserved": at(lambda: self.reserved_bytes),
            "memory_reserved": at(lambda: self.reserved_bytes),
            "memory_allocated": at(lambda: self.peak_bytes // 2),
            "memory_stats": at(dict),
            "reset_peak_memory_stats": at(lambda: None),
            "get_rng_state": lambda _device=None: torch.get_rng_state(),
            "set_rng_state": lambda state, _device=None: torch.set_rng_state(state),
            "can_device_access_peer": lambda _one, _other: True,
            "is_bf16_supported": lambda *_given, **_named: True,
            "is_current_stream_capturing": lambda: self.capturing,
            "_sleep": lambda cycles: self.launch("spin_kernel", cycles / 1000, call_us=0.0),
        }


def _of_apple(gpus: Gpus) -> dict[str, Any]:
    """Metal's GPU: one of its kind, no streams, its memory the host's."""
    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "synchronize": gpus.synchronize,
        "Event": lambda **options: Event(gpus, **options),
        "empty_cache": lambda: None,
        "recommended_max_memory": lambda: gpus.memory_bytes,
        "driver_allocated_memory": lambda: 10**9,
    }


class Stream:
    """Work in order; ``free_ns`` is when all of it is done."""

    def __init__(self, gpus: Gpus, device_index: int, number: int) -> None:
        self.gpus, self.device_index, self.number, self.free_ns = gpus, device_index, number, 0
        self.device = torch.device(gpus.kind, device_index)
        gpus.all_streams.append(self)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event(self.gpus)
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        self.free_ns = max(self.free_ns, event.time_ns or 0)

    def wait_stream(self, other: Stream) -> None:
        self.free_ns = max(self.free_ns, other.free_ns)

    def is_capturing(self) -> bool:
        return self.gpus.capturing

    def query(self) -> bool:
        self.gpus.check()
        return self.free_ns <= self.gpus.clock.now_ns()

    def synchronize(self) -> None:
        self.gpus.check()
        self.gpus.clock.wait_until(self.free_ns)

    def __enter__(self) -> Self:
        self._open = self.gpus.on_stream(self)
        self._open.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.__exit__(None, None, None)


class Event:
    """A point on a stream: reached once all before it is done, and not before it was recorded."""

    def __init__(self, gpus: Gpus, *, enable_timing: bool = False, **_other: Any) -> None:
        self._gpus, self._timed = gpus, enable_timing
        self.time_ns: int | None = None
        self.device_index: int | None = None

    def record(self, stream: Stream | None = None) -> None:
        self._gpus.check()
        if self._gpus.capturing:
            self._gpus.fail("CUDA error: operation not permitted when stream is capturing")
        stream = stream or self._gpus.stream()
        self.device_index = stream.device_index
        self.time_ns = stream.free_ns = max(stream.free_ns, self._gpus.clock.now_ns())

    def synchronize(self) -> None:
        self._gpus.check()
        self._gpus.clock.wait_until(self.time_ns or 0)

    def query(self) -> bool:
        return self.time_ns is None or self.time_ns <= self._gpus.clock.now_ns()

    def wait(self, stream: Stream | None = None) -> None:
        (stream or self._gpus.stream()).wait_event(self)

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds, as CUDA gives them; events of two devices have no time between them."""
        self._gpus.check()
        assert self._timed
        assert other.time_ns is not None
        assert self.time_ns is not None
        if self.device_index != other.device_index:
            raise torch.AcceleratorError("CUDA error: invalid resource handle")
        return (other.time_ns - self.time_ns) / 1e6
