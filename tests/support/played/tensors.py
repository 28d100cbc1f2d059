"""Where do the tensors of a played device live? On the CPU, and what computes with them is told that it does not know.

Whatever names a CUDA device as an argument gets the CPU; autocast, generators and the loader of batches, too. A graph
that is captured keeps the calls made meanwhile and makes them again. Work takes the time that it takes here.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")
_DEVICE, _GENERATOR = type(CPU), torch.Generator
PLAYED = frozenset({"cuda", "xpu", "mps", "npu"})


def is_played(value: object) -> bool:
    """Whether a value names an accelerator."""
    if isinstance(value, str):
        return value.partition(":")[0] in PLAYED
    return isinstance(value, _DEVICE) and value.type in PLAYED


class OnCpu(TorchFunctionMode):
    """Calls that name a played device make their tensors on the CPU.

    Args:
        gpus: the played devices, which refuse tensors larger than they have memory for, and every call when broken;
            Apple's refuse float64, too.
    """

    def __init__(self, gpus: Any) -> None:
        super().__init__()
        self._gpus = gpus
        self._metal = gpus.kind == "mps"

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is _DEVICE:
            return function(*args, **(kwargs or {}))
        if function is torch.Tensor.pin_memory:
            return args[0]
        run = self._on_metal if self._metal else self._run
        return run(function, args, kwargs or {})

    def _on_metal(self, function, args, kwargs):
        """What is made there, or of what is there, is there; it knows no float64."""
        there = any(is_played(value) for value in (*args, *kwargs.values()))
        there = there or any(getattr(value, "on_metal", False) for value in args)
        made = self._run(function, args, kwargs)
        if not there or not isinstance(made, torch.Tensor):
            return made
        if function is torch.Tensor.cpu or (function is torch.Tensor.to and CPU in args):
            return made.view_as(made)
        if made.dtype == torch.float64:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        made.on_metal = True
        return made

    def _run(self, function, args, kwargs):
        kwargs = {key: CPU if is_played(value) else value for key, value in kwargs.items()}
        kwargs.pop("pin_memory", None)
        self._gpus.check()
        made = function(*(CPU if is_played(value) else value for value in args), **kwargs)
        if isinstance(made, torch.Tensor):
            self._gpus.out_of_memory(made.numel() * made.element_size())
        return made


class _Generators(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _GENERATOR)


class Generator(metaclass=_Generators):
    """torch's, of the CPU whatever device is named."""

    def __new__(cls, device: object = "cpu") -> Any:
        return _GENERATOR(CPU if is_played(device) else device)


class Graph:
    """``torch.cuda.CUDAGraph``: the calls that were made while it was captured, made again at each replay."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any]] = []

    def replay(self) -> None:
        for function, args, kwargs in self.calls:
            function(*args, **kwargs)


class _Capture(TorchDispatchMode):
    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph = graph

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self._graph.calls.append((function, args, kwargs or {}))
        return function(*args, **(kwargs or {}))


MODES: list[str] = []
"""The error modes of the graphs that were captured, as torch was asked for them."""


@contextmanager
def captured(graph: Graph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global"):  # noqa: ARG001
    """``torch.cuda.graph``."""
    MODES.append(capture_error_mode)
    with _Capture(graph):
        yield


@contextmanager
def tensors_on_cpu(gpus: Any, monkeypatch: Any):
    """All of torch takes a played device for one that is there."""
    autocast_init, loader = torch.autocast.__init__, torch.utils.data.DataLoader

    def init(self, device_type, *args, **kwargs):
        autocast_init(self, "cpu" if is_played(device_type) else device_type, *args, **kwargs)

    monkeypatch.setattr(torch.autocast, "__init__", init)
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr("hwprof.train.data.DataLoader", lambda *a, **k: loader(*a, **k | {"pin_memory": False}))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda _cycles: None)  # what follows works on the host, at once
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", captured)
    monkeypatch.setattr(torch.cuda.profiler, "profile", nullcontext)
    with OnCpu(gpus):
        yield
