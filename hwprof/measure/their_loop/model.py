"""What module does a loop that somebody else wrote train? Its parts by path, and what it is wrapped in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hwprof.errors import InputError
from hwprof.measure.watch.compiled import CompiledGraphs
from hwprof.measure.watch.owners import Modules
from hwprof.specs.job.labels import plain_path
from hwprof.specs.record.loop import ModuleSpec

Named = Sequence[tuple[str, nn.Module]]

_INNER = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "OptimizedModule": "_orig_mod",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
}
"""Wrapper class -> the attribute that holds what it wraps; ``plain_path`` leaves out those inside the model."""

_COMPILED_NOTE = (
    "torch.compile fuses kernels across modules, and what runs inside {what} is booked to {owner} as a whole, by "
    "direction"
)
_COUNTED_NOTE = "the work of what is compiled is counted as if it ran eagerly"
_FSDP2_NOTE = (
    "FSDP2 gathers parameters before a module runs and frees them after it: the copies that this takes are booked to "
    "the module around it, or to the model as a whole"
)
_THREADS_NOTE = (
    "DataParallel runs copies of the model in threads, so kernels can't be booked to modules; "
    "DistributedDataParallel has one process a device and can be seen into"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenModel:
    """A module as the loop calls it.

    Attributes:
        root: what the loop calls.
        core: what it is without its wrappers.
        named: all modules inside the core by path, wrappers left out.
        modules: those that the profiler can annotate.
        wrappers: the names of its wrappers, outermost first.
        compiled: whether torch.compile is in use anywhere in it.
        notes: what keeps kernels from being booked to modules.
    """

    root: nn.Module
    core: nn.Module
    named: Named
    modules: Modules
    wrappers: tuple[str, ...]
    compiled: bool
    notes: tuple[str, ...]

    @property
    def device(self) -> torch.device:
        """Where its first parameter is; the CPU where it has none."""
        return next((each.device for each in self.root.parameters()), torch.device("cpu"))

    def spec(self) -> ModuleSpec:
        """The module as it stands in ``run.json``."""
        kind = _plain_class(self.core)
        parameters = list(_whole_parameters(self.root))
        return ModuleSpec(
            name=kind.__name__,
            source=f"{kind.__module__}.{kind.__qualname__}",
            parameters=sum(numbers for numbers, _ in parameters),
            trainable_parameters=sum(numbers for numbers, trained in parameters if trained),
            wrapper=" of ".join(self.wrappers),
        )


def _whole_parameters(root: nn.Module) -> Iterator[tuple[int, bool]]:
    """How many numbers each parameter has over all ranks that share it, and whether it is trained.

    FSDP1 keeps many in one flat tensor, of which a rank holds a padded part; the sizes of all stand beside it.
    """
    inside: set[int] = set()
    for module in root.modules():
        flat: Any = getattr(getattr(module, "_handle", None), "flat_param", None)
        if flat is None or id(flat) in inside:
            continue
        inside |= {id(flat), *map(id, flat._params or ())}  # noqa: SLF001
        originals = [each.requires_grad for each in flat._params or ()]  # noqa: SLF001
        sizes = list(flat._numels)  # noqa: SLF001 - without what pads between them
        trained = originals if len(originals) == len(sizes) else [flat.requires_grad] * len(sizes)
        yield from zip(sizes, trained, strict=True)
    yield from ((each.numel(), each.requires_grad) for each in root.parameters() if id(each) not in inside)


def see(root: nn.Module) -> SeenModel:
    """Look into what a loop calls.

    Raises:
        InputError: it is no module, or on a device that can't be timed.
    """
    if not isinstance(root, nn.Module):
        raise InputError(
            f"{type(root).__name__} is no torch.nn.Module", expectation="expected the module that the loop calls"
        )
    core, wrappers = root, []
    while (name := type(core).__name__) in _INNER:
        wrappers.append(name)
        core = getattr(core, _INNER[name])
    if any(_is_fsdp2(module) for module in core.modules()):
        wrappers.append("FSDP2")
    whole = _is_compiled(root) or _is_compiled(core)
    regions = [path for path, module in core.named_modules() if path and _is_compiled(module)]
    named = [(path, module) for path, module in _named(core) if path]
    visible = [
        (plain_path(path), module)
        for path, module in core.named_modules()
        if path and not path.startswith(tuple(f"{region}." for region in regions)) and not _compiled_in_place(module)
    ]
    threads = "DataParallel" in wrappers
    hidden = _THREADS_NOTE if threads else ""
    if whole:
        hidden = _COMPILED_NOTE.format(what="the model", owner="the model")
    sharded = (_FSDP2_NOTE,) if "FSDP2" in wrappers else ()
    if regions and not hidden:
        hidden = _COMPILED_NOTE.format(what=f"{len(regions)} compiled modules", owner="each of them, or the model")
    return SeenModel(
        root=root,
        core=core,
        named=named,
        modules=Modules(
            named=() if whole or threads else visible,
            hidden=hidden,
            graphs=CompiledGraphs(core) if (whole or regions) and not threads else None,
        ),
        wrappers=tuple(wrappers),
        compiled=whole or bool(regions),
        notes=(*((_COUNTED_NOTE,) if whole or regions else ()), *sharded),
    )


def state_bytes(root: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> dict[str, float]:
    """Bytes on this rank of weights and buffers, gradients that exist now, and optimizer state; each storage once."""
    weights = [*root.parameters(), *root.buffers()]
    gradients = [weight.grad for weight in root.parameters() if weight.grad is not None]
    states = [value for one in optimizers for state in one.state.values() for value in state.values()]
    return {
        "weights": _storage_bytes(weights),
        "gradients": _storage_bytes(gradients),
        "optimizer state": _storage_bytes(value for value in states if torch.is_tensor(value)),
    }


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a sharded tensor that this rank holds; any other tensor as it is."""
    to_local: Any = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()


def _storage_bytes(tensors: Iterable[torch.Tensor]) -> float:
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in map(local, tensors)}
    return float(sum(storages.values()))


def _named(core: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, module in core.named_modules():
        yield plain_path(path), module


def _is_compiled(module: nn.Module) -> bool:
    return type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None  # noqa: SLF001


def _compiled_in_place(module: nn.Module) -> bool:
    """Whether its hooks would run inside what is compiled: that would be compiled again, and the marks left out."""
    return module._compiled_call_impl is not None  # noqa: SLF001


def _is_fsdp2(module: nn.Module) -> bool:
    return any(kind.__name__ == "FSDPModule" for kind in type(module).__mro__)


def _plain_class(module: nn.Module) -> type:
    """The class of a module; of one that FSDP2 has changed, the class that it had."""
    kinds = [kind for kind in type(module).__mro__ if not kind.__name__.startswith("FSDP")]
    return kinds[0] if _is_fsdp2(module) else type(module)
