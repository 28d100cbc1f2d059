"""How does torch's core come to believe in a CUDA device that is not there?

Autograd asks two C++ objects about a device before it follows tensors on it: the hooks of CUDA (is there any?) and the
guard of the device type (which stream, wait for whom?). A build without CUDA has no guard, a build without a GPU has
hooks that say no. Both are objects with a table of virtual functions, so a copy of the table with some entries replaced
makes them say yes and wait for nothing. Which entry of the hooks is which is tried out: it is the right one when torch
then answers as it should. Nothing here runs a kernel; fake tensors do all the work.
"""
# ruff: noqa: SLF001 (this module is a border to names that torch does not promise)

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from hwprof.errors import WorkError

_POINTER = ctypes.c_void_p
_ANSWER = ctypes.CFUNCTYPE(ctypes.c_int8, _POINTER)
_CUDA, _META = 1, 14
"""Numbers of device types (c10/core/DeviceType.h), which serialised models rest on."""
_TYPE, _EXCHANGE, _DEVICE, _STREAM = 0, 1, 2, 5
"""Which functions of a guard say its type, the device that was the current one, the current device, its stream."""
_CODE = {
    "x86_64": (bytes.fromhex("b801000000 c3"), bytes.fromhex("0fb7c6 31d2 c3")),
    "aarch64": (bytes.fromhex("20008052 c0035fd6"), bytes.fromhex("203c4092 010080d2 c0035fd6")),
}
"""By processor: eax = 1; then eax = two bytes of the second argument, edx = 0."""
_APART = 64
_DEVICE_TYPES = 21
_GUARDS = "_ZN3c104impl26device_guard_impl_registryE"
_HOOKS = "_ZN2at6detail12getCUDAHooksEv"
_ENTRIES = 48
"""More than either table has; what lies beyond is copied and never called."""

_kept: list[Any] = []
"""Tables and functions that C++ goes on pointing to."""


class Mode(FakeTensorMode):  # type: ignore[no-untyped-call]  # torch types it so
    """Fake tensors of devices that torch believes in, beside real tensors of the host."""

    def __init__(self) -> None:
        self._entered = threading.local()
        super().__init__(allow_non_fake_inputs=True)

    @property
    def enter_stack(self) -> list[Any]:
        """What each thread that enters has to put back when it leaves: torch keeps it for all of them together."""
        found: list[Any] = self._entered.__dict__.setdefault("stack", [])
        return found

    @enter_stack.setter
    def enter_stack(self, _empty: list[Any]) -> None:
        """Torch begins with none."""

    @property
    def avoid_device_init(self) -> bool:
        """Never wake a real device."""
        return True


@functools.cache
def believe_in_cuda() -> None:
    """Make autograd accept tensors of one CUDA device, for the rest of this process.

    Raises:
        WorkError: this build of torch is made otherwise than those known.
    """
    try:
        guards = (_POINTER * _DEVICE_TYPES).in_dll(_library("c10"), _GUARDS)
        hooks_of = getattr(_library("torch_cpu"), _HOOKS)
    except (OSError, AttributeError, ValueError) as error:
        raise _unknown_build(str(error)) from error
    hooks_of.restype = _POINTER
    yes, default_stream = _functions()
    table = _own_table(hooks_of())
    _replace(table, yes, _cuda_is_the_accelerator)
    guards[_CUDA] = _guard(guards[_META] or 0, yes, default_stream)
    _replace(table, yes, lambda: "hasPrimaryContext" not in _failure())
    if _failure():  # of a process that has run a backward pass before: its autograd has threads for the devices of then
        torch.autograd.set_multithreading_enabled(False)  # all in the thread that asks (torch/csrc/autograd/engine.cpp)
    if failure := _failure():
        raise _unknown_build(failure)


def _guard(meta: int, one: int, default_stream: int) -> int:
    """A guard of CUDA devices: that of the meta device but for its type, its one device and its streams."""
    if _ANSWER(_table_of(meta)[_TYPE])(meta) != _META:
        raise _unknown_build("the first function of a guard is not its type")
    guard = (_POINTER * 4)(_POINTER.from_address(meta).value, None, None, None)
    _kept.append(guard)
    table = _own_table(ctypes.addressof(guard))
    for place in (_TYPE, _EXCHANGE, _DEVICE):
        table[place] = one
    table[_STREAM] = default_stream
    return ctypes.addressof(guard)


def _functions() -> tuple[int, int]:
    """Addresses of a function that answers 1, and of one of (guard, device) that answers (device, 0).

    1 is yes, the type of CUDA, and its first device. A device's stream is a pair, which ctypes can't return.
    """
    codes = _CODE.get(platform.machine().lower())
    if codes is None:
        raise _unknown_build(f"nothing is prepared for a {platform.machine()} processor")
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError as error:
        raise _unknown_build(f"this system lets no program write code: {error}") from error
    page[: len(codes[0])] = codes[0]
    page[_APART : _APART + len(codes[1])] = codes[1]
    _kept.append(page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return start, start + _APART


def _library(name: str) -> ctypes.CDLL:
    suffix = {"darwin": "dylib"}.get(sys.platform, "so")
    return ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / f"lib{name}.{suffix}"))


def _table_of(instance: int) -> Any:
    return (_POINTER * _ENTRIES).from_address(_POINTER.from_address(instance).value or 0)


def _own_table(instance: int) -> Any:
    """A copy of an object's table, which it has from now on."""
    table = (_POINTER * _ENTRIES)(*_table_of(instance))
    _kept.append(table)
    _POINTER.from_address(instance).value = ctypes.addressof(table)
    return table


def _replace(table: Any, function: int, holds: Callable[[], bool]) -> None:
    """Put a function into the one entry that makes something hold; the first two are destructors."""
    if holds():
        return
    for place in range(2, 32):
        was, table[place] = table[place], function
        if holds():
            return
        table[place] = was
    raise _unknown_build("no entry of a table does what is needed")


def _cuda_is_the_accelerator() -> bool:
    found = torch._C._accelerator_getAccelerator()
    return found is not None and found.type == "cuda"


def _failure() -> str:
    """What a backward pass on the device says; nothing where it runs."""
    with Mode():
        weight = torch.empty(3, device="cuda", requires_grad=True)
        try:
            (weight * weight).sum().backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            return str(error)
    return ""


def _unknown_build(reason: str) -> WorkError:
    return WorkError(
        f"torch {torch.__version__} can't be made to believe in a device that is not there: {reason}",
        expectation="a release of torch for Linux or macOS from 2.8 on",
        remedy="install one (the build for the CPU is enough)",
    )
