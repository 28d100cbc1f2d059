"""What does ``torch.cuda`` say of a device that is not there, and which of its calls order the work?"""
# ruff: noqa: SLF001 (this module is a border to names that torch does not promise)

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

from hwprof.emulate.believed import Believed
from hwprof.emulate.run.cuda import streams
from hwprof.emulate.run.rank import Rank
from hwprof.emulate.run.rebinding import rebind
from hwprof.errors import InputError

NCCL, CUDA = (2, 27, 5), "12.8"
"""Releases that scripts are told of: those of PyTorch 2.9."""

_STATE_BYTES = 16
"""Size of the state of a CUDA generator: its seed and its offset."""


def install(rank: Rank) -> None:
    """Make ``torch.cuda`` and ``torch.accelerator`` speak of the believed device, for the rest of this process."""
    names = {**_facts(rank), **_memory(rank), **_random(), **streams.install(rank)}
    for name, value in names.items():
        setattr(torch.cuda, name, value)
        if hasattr(torch.cuda.memory, name):
            setattr(torch.cuda.memory, name, value)
    for module in (torch.cuda.streams, torch.cuda.random):
        for name in ("Stream", "Event", "get_rng_state", "set_rng_state", "manual_seed", "manual_seed_all"):
            if hasattr(module, name) and name in names:
                setattr(module, name, names[name])
    for name, dtype in _TYPES.items():
        setattr(torch.cuda, name, _Type(name, (), {"dtype": dtype, "host": getattr(torch, name)}))
    for name in _GRAPHS:
        setattr(torch.cuda, name, _refused(name))
    _torch.cuda.nvtx._nvtx = SimpleNamespace(**dict.fromkeys(_NVTX, lambda *_: 0))
    _torch.autograd.profiler.emit_nvtx = lambda *_, **__: contextlib.nullcontext()
    for name in ("cudart", "check_error"):
        setattr(torch.cuda.profiler, name, names[name])
    torch.backends.cuda.is_built = lambda: True
    _torch.cuda.nccl.version = lambda: NCCL
    _torch.version.cuda = _torch.version.cuda or CUDA
    _torch.Generator = _Generator
    plain = torch.random.set_rng_state
    rebind(torch.random, "set_rng_state", lambda state: None if isinstance(state, FakeTensor) else plain(state))
    _accelerator(names)
    _tensors(rank)


class _Type(type):
    """``torch.cuda.FloatTensor``: makes tensors of the host's type of that name on the device, and knows them."""

    def __call__(cls, *args: Any, **_: Any) -> Any:
        return cls.host(*args).cuda()  # type: ignore[attr-defined]

    def __instancecheck__(cls, tensor: object) -> bool:
        return isinstance(tensor, torch.Tensor) and tensor.is_cuda and tensor.dtype is cls.dtype  # type: ignore[attr-defined]


_TYPES = {
    "FloatTensor": torch.float32,
    "DoubleTensor": torch.float64,
    "HalfTensor": torch.float16,
    "BFloat16Tensor": torch.bfloat16,
    "LongTensor": torch.int64,
    "IntTensor": torch.int32,
    "ByteTensor": torch.uint8,
}


def _refused(name: str) -> type:
    """A class, as others name it in types of their own, of which nobody gets an instance."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise InputError(
            f"torch.cuda.{name} can't be followed: what a graph replays is not called again",
            expectation="the calls themselves, which are the same",
            remedy="leave graphs and pools out while the script is emulated",
        )

    return type(name, (), {"__init__": refuse})


_GRAPHS = ("CUDAGraph", "graph", "make_graphed_callables", "graph_pool_handle", "MemPool", "ExternalStream")
_NVTX = ("rangePushA", "rangePop", "rangeStartA", "rangeEnd", "markA", "deviceRangeStart", "deviceRangeEnd")

_torch: Any = torch
_Base: Any = _torch._C.Generator


class _Generator(_Base):  # type: ignore[misc]  # a class of C++
    """A generator of the host that says it belongs to the device it was made for."""

    def __new__(cls, device: Any = "cpu") -> Self:  # noqa: ARG004 (scripts name it)
        made: Self = super().__new__(cls, "cpu")
        return made

    def __init__(self, device: Any = "cpu") -> None:
        super().__init__()
        self._asked = torch.device(device)

    @property
    def device(self) -> torch.device:
        return self._asked

    def get_state(self) -> torch.Tensor:
        """As large as its device's; what it holds decides nothing, since nothing random is drawn there."""
        return super().get_state() if self._asked.type == "cpu" else _state()

    def set_state(self, state: torch.Tensor) -> None:
        """That of the host's generator is real, but where it went through other ranks."""
        if self._asked.type == "cpu" and not isinstance(state, FakeTensor):
            super().set_state(state)

    def graphsafe_get_state(self) -> Self:
        """The generator itself stands for its state."""
        return self

    def graphsafe_set_state(self, state: Self) -> None:
        """Nothing depends on it."""

    def clone_state(self) -> Self:
        """Another that goes on as this one does."""
        return type(self)(self._asked)


def _properties(believed: Believed) -> SimpleNamespace:
    return SimpleNamespace(
        name=believed.name,
        major=believed.capability[0],
        minor=believed.capability[1],
        total_memory=believed.capacity_bytes,
        multi_processor_count=believed.units,
        warp_size=32,
        max_threads_per_multi_processor=2048,
        regs_per_multiprocessor=65536,
        shared_memory_per_block=49152,
        shared_memory_per_block_optin=232448,
        shared_memory_per_multiprocessor=233472,
        L2_cache_size=50 * 2**20,
        is_integrated=0,
        is_multi_gpu_board=0,
        gcnArchName="",
        uuid="GPU-00000000-0000-0000-0000-000000000000",
    )


def _facts(rank: Rank) -> dict[str, Any]:
    believed, properties = rank.believed, _properties(rank.believed)

    def read(name: str, value: int) -> Callable[..., int]:
        def reading(*_: Any, **__: Any) -> int:
            rank.note(f"torch.cuda.{name}: the script reads {value}, which is made up")
            return value

        return reading

    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "init": _nothing,
        "_lazy_init": _nothing,
        "_lazy_call": lambda callable, **_: callable(),  # noqa: A006
        "_is_compiled": lambda: True,
        "_initialized": True,
        "device_count": lambda: min(believed.node, believed.devices),
        "current_device": lambda: 0,
        "set_device": _nothing,
        "_exchange_device": lambda _device: 0,
        "_maybe_exchange_device": lambda _device: 0,
        "get_device_properties": lambda *_, **__: properties,
        "get_device_name": lambda *_, **__: believed.name,
        "get_device_capability": lambda *_, **__: believed.capability,
        "is_bf16_supported": lambda *_, **__: believed.capability >= (8, 0),
        "is_tf32_supported": lambda *_, **__: believed.capability >= (8, 0),
        "can_device_access_peer": lambda *_, **__: True,
        "get_arch_list": lambda: [f"sm_{believed.capability[0]}{believed.capability[1]}"],
        "set_sync_debug_mode": _nothing,
        "utilization": lambda *_, **__: 100,
        "memory_usage": lambda *_, **__: 100,
        **{name: read(name, value) for name, value in _SENSORS.items()},
        "device_memory_used": lambda *_, **__: rank.storages.device.reserved_bytes,
        "list_gpu_processes": lambda *_, **__: "",
        "get_sync_debug_mode": lambda: 0,
        "cudart": _Runtime,
        "check_error": _nothing,
        "get_allocator_backend": lambda: "native",
        "current_blas_handle": lambda: 0,
        "device": _Device,
    }


_SENSORS = {"temperature": 60, "power_draw": 500_000, "clock_rate": 1500}
"""Degrees, milliwatts and megahertz."""


class _Device(contextlib.AbstractContextManager["_Device"]):
    """``with torch.cuda.device(n)``: there is one."""

    def __init__(self, device: Any) -> None:
        self.idx, self.prev_idx = 0, 0
        del device

    def __exit__(self, *_: object) -> None:
        return None


class _Runtime:
    """``torch.cuda.cudart()``: each function of CUDA's runtime succeeds."""

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *_: 0


def _memory(rank: Rank) -> dict[str, Any]:
    device = rank.storages.device

    def stats(*_: Any, **__: Any) -> dict[str, int]:
        found = {"num_ooms": 0, "num_alloc_retries": 0}
        for pool in ("all", "large_pool", "small_pool"):
            for name, now, most in (
                ("allocated_bytes", device.allocated_bytes, device.peak_bytes),
                ("active_bytes", device.allocated_bytes, device.peak_bytes),
                ("requested_bytes", device.allocated_bytes, device.peak_bytes),
                ("reserved_bytes", device.reserved_bytes, device.peak_reserved_bytes),
                ("inactive_split_bytes", 0, 0),
            ):
                found |= {f"{name}.{pool}.current": now, f"{name}.{pool}.peak": most}
                found |= {f"{name}.{pool}.allocated": most, f"{name}.{pool}.freed": most - now}
        return found

    def told(name: str) -> Callable[..., int]:
        return lambda *_, **__: int(getattr(device, name))

    return {
        "memory_stats": stats,
        "memory_allocated": told("allocated_bytes"),
        "max_memory_allocated": told("peak_bytes"),
        "memory_reserved": told("reserved_bytes"),
        "memory_cached": told("reserved_bytes"),
        "max_memory_reserved": told("peak_reserved_bytes"),
        "max_memory_cached": told("peak_reserved_bytes"),
        "reset_peak_memory_stats": _nothing,
        "reset_max_memory_allocated": _nothing,
        "reset_accumulated_memory_stats": _nothing,
        "empty_cache": lambda *_, **__: device.trim(),
        "mem_get_info": lambda *_, **__: (
            rank.believed.capacity_bytes - device.reserved_bytes,
            rank.believed.capacity_bytes,
        ),
        "memory_stats_as_nested_dict": stats,
        "host_memory_stats": lambda *_, **__: {},
        "reset_peak_host_memory_stats": _nothing,
        "reset_accumulated_host_memory_stats": _nothing,
        "get_per_process_memory_fraction": lambda *_, **__: 1.0,
        "memory_summary": lambda *_, **__: "",
        "memory_snapshot": lambda *_, **__: [],
        "_record_memory_history": _nothing,
        "_snapshot": lambda *_, **__: {"segments": [], "device_traces": []},
        "_dump_snapshot": _nothing,
        "set_per_process_memory_fraction": _nothing,
        "ipc_collect": _nothing,
    }


def _state(*_: Any, **__: Any) -> torch.Tensor:
    with _disable_current_modes():
        return torch.zeros(_STATE_BYTES, dtype=torch.uint8)


def _random() -> dict[str, Any]:
    generator = _Generator("cuda")
    return {
        "get_rng_state": _state,
        "get_rng_state_all": lambda: [_state()],
        "set_rng_state": _nothing,
        "set_rng_state_all": _nothing,
        "_set_rng_state_offset": _nothing,
        "_get_rng_state_offset": lambda *_, **__: 0,
        "manual_seed": _nothing,
        "manual_seed_all": _nothing,
        "seed": _nothing,
        "seed_all": _nothing,
        "initial_seed": lambda: 0,
        "default_generators": (generator,),
    }


def _accelerator(names: dict[str, Any]) -> None:
    accelerator: Any = torch.accelerator
    device = torch.device("cuda")
    told = {
        "is_available": lambda: True,
        "current_accelerator": lambda *_, **__: device,
        "current_device_index": lambda: 0,
        "current_device_idx": lambda: 0,
        "set_device_index": _nothing,
        "set_device_idx": _nothing,
        **{name: names[name] for name in ("device_count", "current_stream", "set_stream", "synchronize")},
        **{name: names[name] for name in names if "memory" in name or name == "empty_cache"},
    }
    for name, value in told.items():
        if hasattr(accelerator, name):
            setattr(accelerator, name, value)
    _torch._C._get_accelerator = lambda *_: device
    _torch.Stream, _torch.Event = names["Stream"], names["Event"]


def _tensors(rank: Rank) -> None:
    """Methods of tensors that would reach for the device."""

    def record_stream(self: torch.Tensor, stream: Any) -> None:
        del self, stream

    def pinned(self: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return self

    del rank
    _torch.Tensor.record_stream = record_stream
    _torch.Tensor.pin_memory = pinned
    _torch.Tensor.is_pinned = lambda self, *_, **__: self.device.type == "cpu"


def _nothing(*_: Any, **__: Any) -> None:
    return None
