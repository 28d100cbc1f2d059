"""What does the script read and write? Weights that lie on the disk are read for real, checkpoints are not written."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Self

import torch
import torch.distributed.checkpoint as dcp
from torch.utils._python_dispatch import _disable_current_modes

from hwprof.emulate.run.rank import Rank
from hwprof.emulate.run.rebinding import rebind


def install(rank: Rank) -> None:
    """Put readers and writers in place, for the rest of this process."""
    saved = _written(rank)
    _read()
    _safetensors(saved)


def _written(rank: Rank) -> Callable[..., bytes]:
    """What stands for all that writes tensors."""

    def saved(*_: Any, **__: Any) -> bytes:
        rank.note("checkpoints are not written")
        return b""

    def begun(*_: Any, **__: Any) -> Future[None]:
        saved()
        done: Any = Future()
        done.set_result(None)
        done.__dict__ |= {"upload_completion": done, "staging_completion": done}
        return done  # type: ignore[no-any-return]

    def loaded(*_: Any, **__: Any) -> None:
        rank.note("torch.distributed.checkpoint: nothing is loaded, as weights hold no numbers")

    rebind(torch, "save", saved)
    for name, function in {"save": saved, "async_save": begun, "load": loaded}.items():
        rebind(dcp, name, function)
    return saved


class _Place:
    """What a ``map_location`` of the user's is asked with: a storage of the host."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def cuda(self, *_: Any, **__: Any) -> _Place:
        return _Place("cuda")

    def cpu(self) -> _Place:
        return _Place()


def _read() -> None:
    """``torch.load`` where the place is asked of a function: torch takes a word alone, while it makes fake tensors."""
    load = torch.load

    @functools.wraps(load)
    def loaded(file: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        if callable(map_location):
            map_location = getattr(map_location(_Place(), "cuda:0"), "device", "cpu")
        return load(file, map_location, *args, **kwargs)

    rebind(torch, "load", loaded)


def _safetensors(saved: Callable[..., bytes]) -> None:
    """Files of safetensors are mapped into memory, which is done for real, and not written."""
    try:
        import safetensors
        import safetensors.torch
    except ImportError:
        return
    opened, load = safetensors.safe_open, safetensors.torch.load

    class Opened:
        """An open file of tensors."""

        def __init__(self, filename: Any, framework: str = "pt", device: Any = "cpu", **more: Any) -> None:
            self._file: Any = opened(filename, framework, device="cpu", **more)
            self._device = device

        def __enter__(self) -> Self:
            self._file.__enter__()
            return self

        def __exit__(self, *why: object) -> None:
            self._file.__exit__(*why)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def get_tensor(self, name: str) -> Any:
            return _there(lambda: self._file.get_tensor(name), self._device)

        def get_tensors(self, *names: Any) -> dict[str, Any]:
            found = _there(lambda: self._file.get_tensors(*names), "cpu")
            return (
                found
                if torch.device(self._device).type == "cpu"
                else {name: each.to(self._device) for name, each in found.items()}
            )

        def get_slice(self, name: str) -> Any:
            return _Slice(self._file.get_slice(name), self._device)

    def loaded(data: bytes) -> Any:
        with _disable_current_modes():
            return load(data)

    rebind(safetensors, "safe_open", Opened)
    rebind(safetensors.torch, "load", loaded)
    rebind(safetensors.torch, "save", saved)
    rebind(safetensors.torch, "save_file", saved)
    rebind(safetensors.torch, "save_model", saved)


class _Slice:
    """A tensor of a file of which parts are asked for."""

    def __init__(self, part: Any, device: Any) -> None:
        self._part, self._device = part, device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    def __getitem__(self, place: Any) -> Any:
        return _there(lambda: self._part[place], self._device)


def _there(read: Callable[[], Any], device: Any) -> Any:
    """What is read for real, on the device that is asked for."""
    with _disable_current_modes():
        found = read()
    return found if torch.device(device).type == "cpu" else found.to(device)
