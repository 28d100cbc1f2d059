"""What does a compiled module keep for its backward pass? What the compiler's own split of the graph hands on.

The split is that of torch's partitioner (a minimum cut), which keeps less than eager code and computes more again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from hwprof.measure.capture.subject import Subject
from hwprof.measure.capture.torch_internals import Storages, storage_of

_SPLITS = "aot_eager_decomp_partition"
"""Torch's backend that splits graphs as its default one does, and generates no code."""


def is_compiled(module: nn.Module) -> bool:
    """Whether it or a part of it runs through ``torch.compile``."""
    return any(_holds(part) is not None or _in_place(part) for part in module.modules())


def compiled_kept_bytes(subject: Subject, *, autocast: torch.dtype | None = None) -> int | None:
    """Bytes that are kept from forward to backward where compiled parts run compiled; None where they can't."""
    storages = Storages()
    packed: dict[int, tuple[int, torch.Tensor]] = {}  # held, so that no other takes the memory
    module = subject.module

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        packed[storages.number(tensor)] = storage_of(tensor).nbytes(), tensor
        return tensor

    own = {storages.number(each) for each in (*module.parameters(), *module.buffers())}
    dynamo: Any = torch._dynamo  # noqa: SLF001 (what it left alone before, it would leave alone again)
    dynamo.reset()
    dynamo.utils.counters.clear()
    try:
        with ExitStack() as stack:
            stack.enter_context(_split(module))
            stack.enter_context(nullcontext() if subject.fake is None else subject.fake)
            stack.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor))
            if autocast is not None:
                stack.enter_context(torch.autocast(subject.device.type, dtype=autocast))
            output = module(*subject.arguments, **subject.keywords)
    except Exception:  # noqa: BLE001 (whatever a compiler raises, what eager code keeps is known)
        return None
    if not dynamo.utils.counters["frames"]["ok"]:
        return None
    roots = {storages.number(leaf) for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)}
    return sum(size_bytes for number, (size_bytes, _) in packed.items() if number not in own | roots)


def _holds(part: nn.Module) -> nn.Module | None:
    found: nn.Module | None = getattr(part, "_orig_mod", None)
    return found


def _in_place(part: nn.Module) -> bool:
    return getattr(part, "_compiled_call_impl", None) is not None


@contextmanager
def _split(module: nn.Module) -> Iterator[None]:
    """Every compiled part runs through the backend that splits graphs."""
    changed: list[tuple[Any, str, Any]] = []
    for part in list(module.modules()):
        inner = _holds(part)
        if inner is not None:
            changed.append((part, "forward", part.forward))
            part.forward = torch.compile(inner.__call__, backend=_SPLITS)
        elif _in_place(part):
            changed.append((part, "_compiled_call_impl", part._compiled_call_impl))  # noqa: SLF001
            part.compile(backend=_SPLITS)
    try:
        yield
    finally:
        for part, name, before in changed:
            setattr(part, name, before)
