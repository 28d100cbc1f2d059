"""When does the program import what trains? A hook of the import system calls us after each of a few modules; no torch.

Nothing is imported that the program does not import itself.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

MODULES = (
    "torch.optim.optimizer",
    "torch.distributed.distributed_c10d",
    "transformers.trainer",
    "lightning.pytorch.trainer.trainer",
    "pytorch_lightning.trainer.trainer",
)
"""Those of which ``hwprof.attach.programs`` is told once they are there."""


class _Told(Loader):
    """A loader that tells of its module when it is loaded."""

    def __init__(self, loader: Loader, told: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._told = told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._told(module)


class _Finder(MetaPathFinder):
    """Finds the modules that matter where the others would, once each."""

    def __init__(self) -> None:
        self._wanted = set(MODULES)

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._wanted:
            return None
        self._wanted.discard(fullname)
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        spec.loader = _Told(spec.loader, _tell)
        return spec


def _tell(module: ModuleType) -> None:
    """A listener's mistake is a line on stderr; the program goes on."""
    try:
        importlib.import_module("hwprof.attach.programs").LISTENERS[module.__name__](module)
    except Exception as error:  # noqa: BLE001 (whatever it is, somebody's program must not end for it)
        print(f"hwprof: not attached to {module.__name__}: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201


def listen() -> None:
    """Be told of what is imported from now on."""
    sys.meta_path.insert(0, _Finder())
