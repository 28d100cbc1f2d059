"""Traces in the format that Kineto writes (libkineto/src/output_json.cpp), of a small simulated training loop.

The host runs ahead of the device: every launch takes host time, every kernel waits for its launch and its stream.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMPUTE_STREAM, COPY_STREAM, COMM_STREAM = 7, 13, 20
MAIN_THREAD, BACKWARD_THREAD = 4000, 4077
ORIGIN_NS = 4_720_968_684_114_000

Collective = Generator[int, int, None]
"""A rank's program: yields when it arrives at a collective, is sent when that ends."""


def _us(time_ns: int) -> str:
    return f"{time_ns // 1000}.{time_ns % 1000:03}"


class KinetoFile:
    """Events as Kineto's logger prints them."""

    def __init__(self, *, rank: int = 0, world_size: int = 1, pid: int = 4000) -> None:
        self.rank, self.world_size, self.pid = rank, world_size, pid
        self.events: list[str] = []

    def complete(self, cat: str, name: str, pid: int, tid: int, start_ns: int, dur_ns: int, **args: Any) -> None:
        body = ", ".join(f"{json.dumps(key.replace('__', ' '))}: {json.dumps(value)}" for key, value in args.items())
        tail = f',\n    "args": {{\n      {body}\n    }}' if body else ""
        self.events.append(
            f'\n  {{\n    "ph": "X", "cat": "{cat}", "name": {json.dumps(name)}, "pid": {pid}, "tid": {tid},\n'
            f'    "ts": {_us(start_ns)}, "dur": {_us(dur_ns)}{tail}\n  }}'
        )

    def flow(self, phase: str, ident: int, pid: int, tid: int, time_ns: int, name: str = "ac2g") -> None:
        bind = ', "bp": "e"' if phase == "f" else ""
        self.events.append(
            f'\n  {{\n    "ph": "{phase}", "id": {ident}, "pid": {pid}, "tid": {tid}, "ts": {_us(time_ns)},\n'
            f'    "cat": "{name}", "name": "{name}"{bind}\n  }}'
        )

    def instant(self, name: str, tid: int, time_ns: int, **args: Any) -> None:
        body = ", ".join(f"{json.dumps(key.replace('__', ' '))}: {json.dumps(value)}" for key, value in args.items())
        self.events.append(
            f'\n  {{\n    "ph": "i", "cat": "cpu_instant_event", "s": "t", "name": "{name}",\n'
            f'    "pid": {self.pid}, "tid": {tid},\n    "ts": {_us(time_ns)},\n'
            f'    "args": {{\n      {body}\n    }}\n  }}'
        )

    def text(self) -> str:
        world = {"backend": "nccl", "rank": self.rank, "world_size": self.world_size, "pg_count": 1}
        header = (
            '\n  {\n    "schemaVersion": 1,\n    "deviceProperties": [\n    {\n      "id": 0, '
            '"name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85017493504,\n      "computeMajor": 9, '
            '"computeMinor": 0, "numSms": 132\n    }\n    ],\n      "record_shapes": 1,\n'
            f'      "distributedInfo": {json.dumps(world)},\n  "displayTimeUnit": "ms",\n'
            '  "baseTimeNanoseconds": 1790857026000000000,\n  "traceEvents": ['
        )
        meta = (
            f'\n  {{\n    "name": "process_name", "ph": "M", "ts": {_us(ORIGIN_NS)}, "pid": {self.pid}, "tid": 0,\n'
            '    "args": {\n      "name": "python"\n    }\n  }'
        )
        end = (
            '\n  {\n    "name": "Record Window End", "ph": "i", "s": "g",\n    "pid": "", "tid": "", '
            f'"ts": {_us(ORIGIN_NS)}\n  }}\n  ],\n  "traceName": "t.json"\n}}'
        )
        return header + ",".join([meta, *self.events, end])

    def write(self, path: Path) -> Path:
        if path.suffix == ".gz":
            with gzip.open(path, "wt", encoding="utf-8", compresslevel=3) as file:
                file.write(self.text())
        else:
            path.write_text(self.text(), encoding="utf-8")
        return path


@dataclass
class Loop:
    """What the simulated training loop does."""

    layers: int = 3
    steps: int = 3
    rows: int = 512
    width: int = 256
    seed: int = 0
    straggler: int | None = None
    profiler_steps: bool = True
    modules: bool = True
    graph: bool = False
    memory: bool = False
    input_wait_ns: int = 300_000
    whole_microseconds: bool = False
    comm_kernel: str = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
    comm_args: bool = True
    frames: int = 0


CASES: dict[str, tuple[Loop, int]] = {
    "one rank": (Loop(), 1),
    "whole microseconds": (Loop(seed=1, whole_microseconds=True, rows=4096), 2),
    "four ranks, one late": (Loop(seed=2, straggler=2, rows=2048), 4),
    "CUDA graph": (Loop(seed=3, graph=True), 1),
}
"""Loops on which our numbers are held against those of Holistic Trace Analysis."""


class Rank:
    """One process: a host clock, streams, and the events of both."""

    def __init__(self, loop: Loop, rank: int, world_size: int) -> None:
        self.loop, self.rank, self.world_size = loop, rank, world_size
        self.file = KinetoFile(rank=rank, world_size=world_size)
        self.random = random.Random(loop.seed * 1000 + rank)
        self.now_ns = ORIGIN_NS + (0 if loop.whole_microseconds else 137)
        self.free_ns = dict.fromkeys((COMPUTE_STREAM, COPY_STREAM, COMM_STREAM), 0)
        self.thread = MAIN_THREAD
        self.correlation = 1000 * (rank + 1)
        self.sequence = 0
        self.allocated = 1 << 28
        self.collectives = 0
        self.calls: dict[str, int] = {}

    def time(self, low_ns: int, high_ns: int) -> int:
        drawn = self.random.randint(low_ns, high_ns)
        return drawn // 1000 * 1000 if self.loop.whole_microseconds else drawn

    @contextmanager
    def host(self, cat: str, name: str, overhead_ns: int = 2000, **args: Any) -> Iterator[None]:
        start_ns = self.now_ns
        self.now_ns += self.time(overhead_ns, 2 * overhead_ns)
        yield
        self.now_ns += self.time(1000, 2000)
        self.file.complete(cat, name, self.file.pid, self.thread, start_ns, self.now_ns - start_ns, **args)

    @contextmanager
    def op(self, name: str, dims: Sequence[Any] = (), kinds: Sequence[str] = (), **args: Any) -> Iterator[None]:
        shapes = {"Input Dims": list(dims), "Input type": list(kinds)} if dims else {}
        with self.host("cpu_op", name, External__id=self.correlation, **shapes, **args):
            yield

    @contextmanager
    def module(self, name: str) -> Iterator[None]:
        if not self.loop.modules:
            yield
            return
        with self.host("python_function", f"nn.Module: {name}", 500, Python__id=1, Python__module__id=0):
            start_ns = self.now_ns
            yield
        for number in range(self.loop.frames):
            frame = f"torch/nn/modules/module.py({1700 + number}): _call_impl"
            self.file.complete(
                "python_function",
                frame,
                self.file.pid,
                self.thread,
                start_ns,
                100,
                Python__id=number,
                Python__parent__id=1,
            )

    def runtime(self, name: str, dur_ns: int, *, flow: bool = True) -> tuple[int, int]:
        """A call into CUDA; its correlation id and end."""
        self.correlation += 1
        start_ns = self.now_ns
        self.now_ns += dur_ns
        self.file.complete(
            "cuda_runtime", name, self.file.pid, self.thread, start_ns, dur_ns, cbid=211, correlation=self.correlation
        )
        if flow:
            self.file.flow("s", self.correlation, self.file.pid, self.thread, start_ns)
        return self.correlation, self.now_ns

    def device(self, cat: str, name: str, stream: int, ready_ns: int, dur_ns: int, ident: int, **args: Any) -> int:
        if self.loop.whole_microseconds:
            dur_ns = max(dur_ns // 1000, 1) * 1000
        start_ns = max(ready_ns + 1000, self.free_ns[stream])
        self.free_ns[stream] = start_ns + dur_ns
        self.file.complete(
            cat, name, 0, stream, start_ns, dur_ns, device=0, context=1, stream=stream, correlation=ident, **args
        )
        self.file.flow("f", ident, 0, stream, start_ns)
        return start_ns

    def kernel(self, name: str, dur_ns: int, stream: int = COMPUTE_STREAM) -> None:
        ident, end_ns = self.runtime("cudaLaunchKernel", self.time(4000, 7000))
        grid = {"grid": [64, 1, 1], "block": [256, 1, 1], "est. achieved occupancy %": 50}
        self.device("kernel", name, stream, end_ns, dur_ns, ident, queued=0, **grid)

    def copy(self, kind: str, size_bytes: int, stream: int = COPY_STREAM) -> None:
        with self.op("aten::copy_", [[size_bytes // 4], [size_bytes // 4]], ["float", "float"]):
            ident, end_ns = self.runtime("cudaMemcpyAsync", self.time(5000, 9000))
            self.device(
                "gpu_memcpy", f"Memcpy {kind}", stream, end_ns, max(size_bytes // 12, 1000), ident, bytes=size_bytes
            )

    def synchronise(self, stream: int = COMPUTE_STREAM) -> None:
        wait_ns = max(self.free_ns[stream] - self.now_ns, 0) + 3000
        self.runtime("cudaStreamSynchronize", wait_ns, flow=False)

    def allocate(self, size_bytes: int) -> None:
        if self.loop.memory:
            self.allocated += size_bytes
            self.file.instant(
                "[memory]", self.thread, self.now_ns, Total__Reserved=1 << 30, Total__Allocated=self.allocated,
                Bytes=size_bytes, Device__Id=0, Device__Type=1, Addr=1,
            )  # fmt: skip

    def linear(self, label: str, rows: int, inner: int, outer: int) -> None:
        with self.module(label), self.op("aten::linear"):
            dims, kinds = [[outer], [rows, inner], [inner, outer], [], []], ["c10::BFloat16"] * 3 + ["Scalar"] * 2
            with self.op("aten::addmm", dims, kinds, Sequence__number=self.sequence, Fwd__thread__id=0):
                self.kernel("nvjet_tst_128x256_64x4_2x1_v_bz_coopA_NNT", 2 * rows * inner * outer // 400_000 + 2000)
        self.allocate(2 * rows * outer)

    def activation(self, rows: int, width: int) -> None:
        with self.module("GELU_0"):
            numbers = {"Sequence__number": self.sequence, "Fwd__thread__id": 0}
            with self.op("aten::gelu", [[rows, width], []], ["c10::BFloat16", ""], **numbers):
                self.kernel(
                    "void at::native::vectorized_elementwise_kernel<8, GeluCUDAKernelImpl>", rows * width // 400
                )

    def layer(self, number: int) -> list[tuple[int, int, int]]:
        rows, width = self.loop.rows, self.loop.width
        done = []
        with self.module(f"Block_{number}"):
            for place, (inner, outer) in enumerate(((width, 4 * width), (4 * width, width))):
                done.append((self.sequence, inner, outer))
                self.linear(f"Linear_{2 * number + place}", rows, inner, outer)
                self.sequence += 1
                if not place:
                    done.append((self.sequence, 0, outer))
                    self.activation(rows, outer)
                    self.sequence += 1
        return done

    def graph_forward(self) -> None:
        """All of the forward as one launch of a captured graph: every kernel has the launch's correlation id."""
        ident, end_ns = self.runtime("cudaGraphLaunch", self.time(20_000, 30_000))
        for number in range(2 * self.loop.layers):
            self.device(
                "kernel", "nvjet_graph", COMPUTE_STREAM, end_ns, 30_000, ident, graph__id=1, graph__node__id=number
            )

    def backward(self, done: Sequence[tuple[int, int, int]]) -> Collective:
        rows = self.loop.rows
        self.thread, waiting = BACKWARD_THREAD, MAIN_THREAD
        for number, (sequence, inner, outer) in enumerate(reversed(done)):
            name = "AddmmBackward0" if inner else "GeluBackward0"
            node = {"Sequence__number": sequence, "Fwd__thread__id": 1}
            with self.op(f"autograd::engine::evaluate_function: {name}", **node), self.op(name, **node):
                self.gradient(rows, inner, outer)
            self.allocate(-2 * rows * outer)
            if self.world_size > 1 and number % 3 == 2:
                yield from self.all_reduce(inner * outer)
        self.thread = waiting

    def gradient(self, rows: int, inner: int, outer: int) -> None:
        if not inner:
            with self.op("aten::gelu_backward", [[rows, outer], [rows, outer], []], ["c10::BFloat16"] * 2 + [""]):
                self.kernel("void at::native::vectorized_elementwise_kernel<8, GeluBackward>", rows * outer // 300)
            return
        for dims in ([[rows, outer], [outer, inner]], [[outer, rows], [rows, inner]]):
            with self.op("aten::mm", dims, ["c10::BFloat16"] * 2):
                self.kernel("nvjet_tst_192x192_64x3_2x1_v_bz_coopB_TNN", 2 * rows * inner * outer // 380_000 + 2000)

    def all_reduce(self, elements: int) -> Collective:
        """Starts when the gradients are there and its stream is free, ends for all ranks alike."""
        facts = {
            "Collective name": "allreduce", "In msg nelems": elements, "Out msg nelems": elements,
            "Group size": self.world_size, "dtype": "BFloat16", "Process Group Name": "0",
            "Process Group Description": "default_pg", "Process Group Ranks": str(list(range(self.world_size))),
        }  # fmt: skip
        args = facts if self.loop.comm_args else {}
        with self.op("c10d::allreduce_"), self.op("record_param_comms", **args):
            with self.host("user_annotation", "nccl:all_reduce", 500):
                ident, end_ns = self.runtime("cudaLaunchKernelExC", self.time(6000, 9000))
            start_ns = max(end_ns + 1000, self.free_ns[COMM_STREAM], self.free_ns[COMPUTE_STREAM])
            ended_ns = yield start_ns
            self.device(
                "kernel", self.loop.comm_kernel, COMM_STREAM, start_ns - 1000, ended_ns - start_ns, ident, **args
            )

    def optimizer(self) -> None:
        self.free_ns[COMPUTE_STREAM] = max(self.free_ns[COMPUTE_STREAM], self.free_ns[COMM_STREAM])
        with self.host("user_annotation", "Optimizer.step#AdamW.step", External__id=7):
            for _ in range(self.loop.layers):
                with self.op("aten::_foreach_mul_", [[[self.loop.width, 4 * self.loop.width]], []], ["TensorList", ""]):
                    self.kernel("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<>", 9000)

    def step(self, number: int) -> Collective:
        start_ns = self.now_ns
        loader = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"
        with self.host("user_annotation", loader, External__id=5):
            self.now_ns += self.time(self.loop.input_wait_ns, self.loop.input_wait_ns + 1000)
        self.copy("HtoD (Pinned -> Device)", self.loop.rows * self.loop.width * 2)
        self.free_ns[COMPUTE_STREAM] = max(self.free_ns[COMPUTE_STREAM], self.free_ns[COPY_STREAM])
        if self.loop.straggler == self.rank:
            self.kernel("void slow_kernel()", 400_000)
        done: list[tuple[int, int, int]] = []
        with self.module("Model_0"):
            if self.loop.graph:
                self.graph_forward()
            else:
                for layer in range(self.loop.layers):
                    done += self.layer(layer)
        yield from self.backward(done)
        self.optimizer()
        with self.op("aten::item"), self.op("aten::_local_scalar_dense", [[]], ["float"]):
            self.copy("DtoH (Device -> Pageable)", 4, COMPUTE_STREAM)
            self.synchronise()
        if self.loop.profiler_steps:
            name = f"ProfilerStep#{number}"
            self.file.complete("user_annotation", name, self.file.pid, MAIN_THREAD, start_ns, self.now_ns - start_ns)
        self.now_ns += self.time(2000, 4000)

    def program(self) -> Collective:
        for number in range(self.loop.steps):
            yield from self.step(number + 5)


TRANSFER_NS = 60_000
"""How long a collective takes once all ranks are there."""


def simulate(loop: Loop, world_size: int = 1) -> list[KinetoFile]:
    """The traces of all ranks of one loop."""
    return run([Rank(loop, number, world_size) for number in range(world_size)])


def run(ranks: Sequence[Rank]) -> list[KinetoFile]:
    """The traces of ranks whose programs meet in collectives."""
    world_size = len(ranks)
    programs = [rank.program() for rank in ranks]
    try:
        arrivals = [next(program) for program in programs]
        while True:
            ended_ns = max(arrivals) + TRANSFER_NS
            arrivals = [program.send(ended_ns) for program in programs]
    except StopIteration:
        for program in programs[1:]:
            next(program, None) if world_size == 1 else _finish(program, ended_ns)
    return [rank.file for rank in ranks]


def _finish(program: Collective, ended_ns: int) -> None:
    """The first rank has left its last collective; so do the others."""
    try:
        program.send(ended_ns)
    except StopIteration:
        return
    raise AssertionError("the ranks disagree on the number of collectives")
