"""What does the profiler see? Phases and modules as annotations of its trace, and how it is opened."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from hwprof.measure.watch.hooks import Hooks
from hwprof.measure.watch.sessions import opened
from hwprof.spans.marks import MODULE, PHASE
from hwprof.specs.job.settings import PhaseName

ACTIVITIES = {"cuda": "CUDA", "xpu": "XPU", "npu": "PrivateUse1"}
"""Kind of device -> torch.profiler's activity that has its kernels; of others it records none."""
_ACCUMULATE: dict[str, Any] = {"acc_events": True} if "acc_events" in inspect.signature(profile).parameters else {}
"""Without it some releases of torch warn that earlier cycles are lost; torch 2.4 does not know the argument."""


def profiler(device: torch.device, *, memory: bool = False, shapes: bool = False) -> profile:
    """Torch's profiler for a device, with the allocator's events or the operators' shapes if asked for."""
    own = getattr(ProfilerActivity, ACTIVITIES.get(device.type, ""), None)
    linked = own in torch.profiler.supported_activities()  # type: ignore[no-untyped-call]
    activities = [ProfilerActivity.CPU, *((own,) if own is not None and (linked or device.type == "cuda") else ())]
    more = _ACCUMULATE if len(activities) > 1 else _ACCUMULATE | _unlinked()
    return profile(activities=activities, profile_memory=memory, record_shapes=shapes, **more)


def _unlinked() -> dict[str, Any]:
    """Spare each event the number that links it to a GPU's activity, where there is none: a fifth of its cost."""
    kind: Any = getattr(torch._C._profiler, "_ExperimentalConfig", None)  # noqa: SLF001 (what the argument asks for)
    try:
        return {"experimental_config": kind(disable_external_correlation=True)}
    except TypeError:  # a torch that knows neither
        return {}


_OPERATORS, _ROUNDS = 1000, 5


def event_s(device: torch.device, *, shapes: bool = False) -> float:
    """Host time that the profiler takes for one event of an operator: least of some rounds, so that no pause counts.

    Of a profiler as ``profiler`` makes it: shapes, and links to a GPU's activity, cost more.

    Raises:
        ProfilerBusyError: the program's own profiler is open, and would be counted.
    """
    value = torch.ones(1)
    bare_s = min(_operator_s(value) for _ in range(_ROUNDS))
    with opened(profiler(device, shapes=shapes)):
        _operator_s(value)
        profiled_s = min(_operator_s(value) for _ in range(_ROUNDS))
    return max(profiled_s - bare_s, 0.0)


def _operator_s(value: torch.Tensor) -> float:
    began_s = time.perf_counter()
    for _ in range(_OPERATORS):
        value.neg_()
    return (time.perf_counter() - began_s) / _OPERATORS


@contextmanager
def module_ranges(modules: Iterable[tuple[str, torch.nn.Module]], notes: list[str]) -> Iterator[None]:
    """Annotate the forward of modules, each with its path, while the context is open; ``notes`` get what failed."""
    hooks = Hooks(notes)
    try:
        for path, module in modules:
            _annotate(hooks, path, module)
        yield
    finally:
        hooks.close()


def phase_range(name: PhaseName) -> Any:
    """The phase context that annotates a phase in the trace."""
    return record_function(PHASE + name)


def quiet_profiler() -> None:
    """Set what the profiling library reads from the environment, unless the user did: few log lines, and no teardown.

    It may give the GPU's counters back some time after a window, in the midst of the next, which is then blind
    (pytorch/kineto pull request 1554), or crash a program that uses CUDA graphs (pytorch pull request 112507).
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    os.environ.setdefault("TEARDOWN_CUPTI", "0")


def _annotate(hooks: Hooks, path: str, module: torch.nn.Module) -> None:
    open_ranges: list[Any] = []

    def enter(_module: torch.nn.Module, _args: object) -> None:
        entered = record_function(MODULE + path)
        entered.__enter__()  # type: ignore[no-untyped-call]
        open_ranges.append(entered)

    def leave(_module: torch.nn.Module, _args: object, _output: object) -> None:
        open_ranges.pop().__exit__(None, None, None)

    hooks.before(module, enter)
    hooks.after(module, leave)
