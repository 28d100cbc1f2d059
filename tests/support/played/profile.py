"""What would the profiler write of a GPU? A real profile of the CPU, with a call and a kernel for each operator in it.

A kernel begins once its call stands and its stream is free; collectives of gloo become kernels of NCCL on a stream of
their own, with what NCCL says of itself or without.
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
from pathlib import Path
from typing import Any

import torch

from hwprof.measure.watch import annotate, steps

COMPUTE_STREAM, COMM_STREAM = 7, 20
_NO_KERNEL = (
    "view", "empty", "as_strided", "t", "transpose", "detach", "reshape", "slice", "expand", "unsqueeze", "squeeze",
    "_unsafe_view", "resize", "select", "split", "chunk", "narrow", "is_", "item", "_local_scalar", "lift", "alias",
    "permute", "unflatten", "result_type", "unbind", "_unsafe",
)  # fmt: skip
_NCCL = {
    "allreduce_": ("AllReduce", "allreduce", ("all_reduce",), (0, 0)),
    "_allgather_base_": ("AllGather", "_allgather_base", ("all_gather",), (1, 0)),
    "_reduce_scatter_base_": ("ReduceScatter", "_reduce_scatter_base", ("reduce_scatter", "all_reduce"), (1, 0)),
    "broadcast_": ("Broadcast", "broadcast", ("broadcast",), (0, 0)),
    "recv_": ("SendRecv", "recv", ("recv",), (0, 0)),
    "send": ("SendRecv", "send", ("send",), (0, 0)),
    "alltoall_base_": ("SendRecv", "alltoall_base", ("all_to_all",), (1, 0)),
}
"""Operator -> how NCCL's kernel is called, its own word, what gloo runs, and which operands go in and come out."""
_TYPES = {"float": "Float", "c10::BFloat16": "BFloat16", "double": "Double", "long int": "Long"}


def played_profile(monkeypatch: Any, *, index: int = 0) -> None:
    """Profiles of a CUDA device are those of the CPU, with its kernels added."""
    profiler, export = annotate.profiler, steps.StepWatch._export
    allocations = steps.StepWatch._allocations

    def on_cpu(_device, **options):
        return profiler(torch.device("cpu"), **options)

    def exported(self, session):
        export(self, session)
        if self._device.type in {"cuda", "xpu"}:
            add_kernels(self._trace_path, device=index)

    def of_cpu(self, session):
        played, self._device = self._device, torch.device("cpu")
        try:
            return allocations(self, session)
        finally:
            self._device = played

    monkeypatch.setattr(annotate, "profiler", on_cpu)
    monkeypatch.setattr(steps, "profiler", on_cpu)
    monkeypatch.setattr(steps.StepWatch, "_export", exported)
    monkeypatch.setattr(steps.StepWatch, "_allocations", of_cpu)


def add_kernels(path: Path, *, device: int) -> None:
    """Write a trace file again, with the calls and kernels of the operators in it."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        content = json.load(file)
    spans = [event for event in content["traceEvents"] if event.get("ph") == "X"]
    added = [*_of_operators(spans, device), *_of_collectives(spans, device)]
    kept = [event for event in content["traceEvents"] if not event.get("name", "").startswith("gloo:")]
    content["traceEvents"] = kept + added
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        json.dump(content, file)


def _leaves(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Operators in which no other operator runs, by start."""
    operators = [span for span in spans if span.get("cat") == "cpu_op"]
    operators.sort(key=lambda span: (span["tid"], span["ts"], -span["dur"]))
    leaves = [
        one
        for one, after in itertools.pairwise([*operators, {"tid": None, "ts": 0}])
        if after["tid"] != one["tid"] or after["ts"] >= one["ts"] + one["dur"]
    ]
    return sorted(leaves, key=lambda span: span["ts"])


def _of_operators(spans: list[dict[str, Any]], device: int):
    free = 0.0
    for number, leaf in enumerate(_leaves(spans), start=1000):
        name = leaf["name"].removeprefix("aten::")
        if name == leaf["name"] or name.startswith(_NO_KERNEL):
            continue
        called, length = leaf["ts"] + 0.1 * leaf["dur"], max(0.8 * leaf["dur"], 0.5)
        begins = max(free, called + 0.2)
        free = begins + length
        yield from _pair(leaf, number, called, min(0.1 * leaf["dur"], 0.1), f"void at::native::{name}_kernel<4>",
                         begins, length, device, COMPUTE_STREAM)  # fmt: skip


def _of_collectives(spans: list[dict[str, Any]], device: int):
    """A kernel of NCCL for each operator that began a collective, as long as gloo took for it."""
    by_start = sorted(spans, key=lambda span: span["ts"])
    waiting = [span for span in by_start if span["name"].startswith("gloo:")]
    asked = [span for span in by_start if span["name"].startswith("c10d::")]
    for number, operator in enumerate(asked, start=10**6):
        kind, word, carriers, (inward, outward) = _NCCL.get(
            operator["name"].removeprefix("c10d::"), ("", "", (), (0, 0))
        )
        ran = next((one for one in waiting if one["name"].removeprefix("gloo:") in carriers), None)
        if ran is None:
            continue
        waiting.remove(ran)
        dims, types = operator["args"].get("Input Dims", []), operator["args"].get("Input type", [])
        said: dict[str, Any] = {"Collective name": word, "Group size": 2, "Process Group Name": "0"}
        if dims:
            said["In msg nelems"], said["Out msg nelems"] = (_elements(dims[place]) for place in (inward, outward))
            said["dtype"] = _TYPES.get(types[inward], "Float")
        told = {"ph": "X", "cat": "cpu_op", "name": "record_param_comms", "pid": operator["pid"],
                "tid": operator["tid"], "ts": operator["ts"] + 0.2 * operator["dur"], "dur": 0.2 * operator["dur"],
                "args": said | {"External id": operator["args"].get("External id", 0)}}  # fmt: skip
        yield told
        name = f"ncclDevKernel_{kind}_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
        yield from _pair(told, number, told["ts"] + 0.1 * told["dur"], 0.1 * told["dur"], name, ran["ts"], ran["dur"],
                         device, COMM_STREAM, **said)  # fmt: skip


def _elements(dims: Any) -> int:
    """Of a tensor, or of a list of them."""
    return sum(map(_elements, dims)) if dims and isinstance(dims[0], list) else math.prod(dims)


def _pair(around, number, called, call, name, begins, length, device, stream, **more):
    linked = {"External id": around["args"].get("External id", 0), "correlation": number}
    yield {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": around["pid"], "tid": around["tid"],
           "ts": called, "dur": call, "args": linked | {"cbid": 211}}  # fmt: skip
    yield {"ph": "X", "cat": "kernel", "name": name, "pid": device, "tid": stream, "ts": begins, "dur": length,
           "args": linked | {"device": device, "stream": stream} | more}  # fmt: skip
