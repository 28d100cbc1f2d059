"""What owns the kernels of a step: modules, by marks around them or by what inductor says of compiled ones?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Self

import torch

from hwprof.measure.watch.annotate import module_ranges
from hwprof.measure.watch.compiled import CompiledGraphs


@dataclass(frozen=True, slots=True, kw_only=True)
class Modules:
    """What owns the kernels: modules by path, or why the profiler can't see into the model.

    Of a compiled model, ``graphs`` hears what its kernels compute; ``hidden`` holds where it heard nothing.
    """

    named: Sequence[tuple[str, torch.nn.Module]] = ()
    hidden: str = ""
    graphs: CompiledGraphs | None = None

    @classmethod
    def of(cls, model: torch.nn.Module) -> Self:
        """All modules inside a model."""
        return cls(named=[(path, module) for path, module in model.named_modules() if path])

    @classmethod
    def compiled(cls, model: torch.nn.Module, hidden: str) -> Self:
        """What owns kernels of a model that is compiled, as a whole or (in place) in parts; the rest is annotated."""
        parts = [path for path, module in model.named_modules() if module._compiled_call_impl is not None]  # noqa: SLF001
        outside = [
            (path, module)
            for path, module in model.named_modules()
            if path and not any(path == part or path.startswith(part + ".") for part in parts)
        ]
        return cls(named=outside if parts else (), hidden=hidden, graphs=CompiledGraphs(model))

    def listening(self) -> AbstractContextManager[object]:
        """Hear what is compiled while the context is open."""
        return self.graphs or nullcontext()

    def why_hidden(self) -> str:
        """Why kernels are not booked to modules; empty where they are, or some of them."""
        heard = self.graphs is not None and self.graphs.graphs
        if not self.hidden or heard:
            return ""
        return self.hidden if self.graphs is None else f"{self.hidden}: {self.graphs.unheard}"

    def ranges(self, notes: list[str]) -> AbstractContextManager[None]:
        """Annotated modules while the context is open; ``notes`` get what failed."""
        return module_ranges(self.named, notes)
