"""Which functions of torch answer otherwise while nothing is computed? Those that look at numbers, files or kernels."""
# ruff: noqa: SLF001 (this module is a border to names that torch does not promise)

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.utils.data
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed import device_mesh
from torch.distributed.tensor._sharding_prop import ShardingPropagator
from torch.jit import _builtins as _jit_builtins
from torch.nn import functional
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map
from torch.utils.data import dataloader as _dataloader

from hwprof.emulate.run import files
from hwprof.emulate.run.rank import Rank, script_line
from hwprof.emulate.run.rebinding import rebind

aten: Any = torch.ops.aten
_torch: Any = torch
dataloader: Any = _dataloader
_builtins: Any = _jit_builtins


def install(rank: Rank) -> None:
    """Put them in place, for the rest of this process."""
    plain = functional.scaled_dot_product_attention

    @functools.wraps(plain)
    def scaled_dot_product_attention(*args: Any, **kwargs: Any) -> Any:
        return _attention(plain, *args, **kwargs)

    scaled_dot_product_attention.__name__ = "scaled_dot_product_attention"
    rebind(functional, "scaled_dot_product_attention", scaled_dot_product_attention)
    nn.Module._apply = _apply  # type: ignore[method-assign]
    _storages(rank)
    _moved(rank)
    _copied()
    _values(rank)
    _compiler(rank)
    _data(rank)
    files.install(rank)
    _meshes()
    _shards()
    _launchers(rank)
    _pipelines(rank)


def _attention(  # noqa: PLR0917 (torch's own signature)
    plain: Callable[..., torch.Tensor],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """The kernel that CUDA would take: flash without a mask in 16 bits, else the memory-efficient one, else products.

    torch asks the device itself, which is not there.
    """
    if query.device.type != "cuda" or query.dim() != 4:
        return plain(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    backends, width = _torch.backends.cuda, query.shape[-1]
    narrow = query.dtype in {torch.float16, torch.bfloat16}
    flash = narrow and attn_mask is None and width <= 256 and value.shape[-1] == width
    if flash and backends.flash_sdp_enabled():
        spare = -width % 8
        padded = [functional.pad(each, (0, spare)) if spare else each for each in (query, key, value)]
        scaled = scale if scale is not None else width**-0.5
        out = aten._scaled_dot_product_flash_attention.default(*padded, dropout_p, is_causal, False, scale=scaled)[0]
        return out[..., :width] if spare else out
    if backends.mem_efficient_sdp_enabled():
        groups = query.shape[1] // key.shape[1]
        if enable_gqa and groups > 1:
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        if attn_mask is not None and attn_mask.dtype is torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(
                attn_mask.logical_not(), float("-inf")
            )
        if attn_mask is not None:
            attn_mask = attn_mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
        keeps = any(each.requires_grad for each in (query, key, value)) and torch.is_grad_enabled()
        return aten._scaled_dot_product_efficient_attention.default(
            query, key, value, attn_mask, keeps, dropout_p, is_causal, scale=scale
        )[0]
    return aten._scaled_dot_product_attention_math.default(
        query, key, value, attn_mask, dropout_p, is_causal, None, scale=scale, enable_gqa=enable_gqa
    )[0]


def _apply(self: nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
    """``Module.to`` and its kin: fake parameters stay the objects they are, as real ones do."""
    if recurse:
        for child in self.children():
            _apply(child, fn)
    for key, parameter in self._parameters.items():
        if parameter is None:
            continue
        with torch.no_grad():
            applied = fn(parameter)
        grad = parameter.grad
        if isinstance(parameter, FakeTensor) and isinstance(applied, FakeTensor):
            _become(parameter, applied)
            if grad is not None:
                with torch.no_grad():
                    _become(grad, fn(grad))
            continue
        fresh = nn.Parameter(applied, requires_grad=parameter.requires_grad)
        fresh.__dict__.update({name: value for name, value in parameter.__dict__.items() if not name.startswith("_")})
        self._parameters[key] = fresh
        if grad is not None:
            with torch.no_grad():
                fresh.grad = fn(grad)
    for key, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[key] = fn(buffer)
    return self


def _become(tensor: Any, other: Any) -> None:
    """Give a fake tensor the memory and the device of another."""
    if tensor is other:
        return
    grad, tensor.grad = tensor.grad, None
    tensor.data = other
    tensor.grad = grad if grad is not None and grad.device == other.device else None


def _moved(rank: Rank) -> None:
    """``tensor.data = other``: a fake tensor is where its memory is, and holds what is there."""
    plain: Any = _torch._C.TensorBase.data

    def become(self: Any, other: Any) -> None:
        plain.__set__(self, other)
        if isinstance(other, FakeTensor):
            self.fake_device = other.fake_device
            value = rank.values.known(other)
            rank.values.forget(self)
            if value is not None:
                rank.values.tell(self, value)

    fake: Any = FakeTensor
    fake.data = property(plain.__get__, become)


def _copied() -> None:
    """``copy.deepcopy`` of tensors: of a fake one a fake one, of a real one a real one."""
    plain: Any = _torch.Tensor.__deepcopy__

    def real(self: Any, memo: Any) -> Any:
        with _disable_current_modes():
            return plain(self, memo)

    def copied(self: Any, memo: Any) -> Any:
        if id(self) not in memo:
            with torch.no_grad():
                made = self.clone()
            made = nn.Parameter(made) if isinstance(self, nn.Parameter) else made
            made.requires_grad_(self.requires_grad)
            if self.grad is not None:
                made.grad = copied(self.grad, memo)
            memo[id(self)] = made
        return memo[id(self)]

    fake: Any = FakeTensor
    _torch.Tensor.__deepcopy__, fake.__deepcopy__ = real, copied


def _storages(rank: Rank) -> None:
    """Follow storages that are made larger or smaller, as sharded modules do with gathered weights."""
    resize = torch.UntypedStorage.resize_

    def resized(self: torch.UntypedStorage, size: int) -> Any:
        rank.storages.resized(self, int(size), rank.stream, script_line)
        return resize(self, size)

    _torch.UntypedStorage.resize_ = resized


def _values(rank: Rank) -> None:
    """Tensors that are read as a whole."""

    def real(tensor: torch.Tensor) -> torch.Tensor:
        return rank.values.made(tensor)

    for name in ("tolist", "numpy", "__array__"):
        plain = getattr(torch.Tensor, name)

        def read(self: torch.Tensor, *args: Any, _plain: Any = plain, **kwargs: Any) -> Any:
            if not isinstance(self, FakeTensor):
                with _disable_current_modes():
                    return _plain(self, *args, **kwargs)
            value = real(self)
            with _disable_current_modes():
                return _plain(value.detach(), *args, **kwargs)

        setattr(torch.Tensor, name, read)
    fake: Any = FakeTensor
    fake.tolist = torch.Tensor.tolist
    _made_of_numbers(rank)

    def shown(self: torch.Tensor, *_: Any, **__: Any) -> str:
        return f"tensor(..., device='{self.device}', size={tuple(self.shape)}, dtype={self.dtype})"

    fake.__repr__ = shown
    fake.__format__ = lambda self, spec: format(self.item(), spec) if self.dim() == 0 else shown(self)


def _made_of_numbers(rank: Rank) -> None:
    """``torch.tensor([loss, other])``: torch reads the numbers where no watch sees it, so they are read before."""

    def read(leaf: Any) -> Any:
        return leaf.item() if isinstance(leaf, FakeTensor) and leaf.numel() == 1 else leaf

    def of(plain: Callable[..., torch.Tensor], place: int) -> Callable[..., torch.Tensor]:
        @functools.wraps(plain)
        def made(*args: Any, **kwargs: Any) -> torch.Tensor:
            if len(args) > place and isinstance(args[place], list | tuple):
                args = (*args[:place], tree_map(read, args[place]), *args[place + 1 :])
            return plain(*args, **kwargs)

        return made

    del rank
    for name in ("tensor", "as_tensor"):
        function = of(getattr(torch, name), 0)
        _builtins._register_builtin(function, f"aten::{name}")  # for code that torch.jit compiles
        rebind(torch, name, function)
    torch.Tensor.new_tensor = of(torch.Tensor.new_tensor, 1)  # type: ignore[method-assign]


def _compiler(rank: Rank) -> None:
    def compiled(model: Any = None, **_: Any) -> Any:
        rank.note(
            "torch.compile: elementwise operators that follow each other in compiled code are one kernel, which reads "
            "and writes once; the backward pass computes them again"
        )
        if model is None:
            return compiled
        if not isinstance(model, nn.Module):
            return rank.regions.compiled(model)
        model.forward = rank.regions.compiled(model.forward)
        return model

    rebind(torch, "compile", compiled)
    nn.Module.compile = lambda self, *_, **__: compiled(self) and None  # type: ignore[method-assign]


def _data(rank: Rank) -> None:
    """Data is read for real, in this process, and stays on the host until the script moves it.

    What workers would do beside the script takes none of its time.
    """
    alone = dataloader._SingleProcessDataLoaderIter
    hold, begin, fetch = dataloader.DataLoader.__setattr__, alone.__init__, alone._next_data

    def here(self: Any, name: str, value: Any) -> None:
        if name == "num_workers" and value:
            rank.note("DataLoader: data is read in this process, without workers")
            self.__dict__[_WORKERS] = True
        hold(self, name, _ALONE.get(name, value))

    def begun(self: Any, loader: Any) -> None:
        begin(self, loader)
        self.__dict__[_WORKERS] = loader.__dict__.get(_WORKERS, False)

    def fetched(self: Any) -> Any:
        with rank.host_time if self.__dict__[_WORKERS] else nullcontext(), _disable_current_modes():
            return fetch(self)

    dataloader.DataLoader.__setattr__ = here  # what loaders of other libraries call in their own way
    alone.__init__, alone._next_data = begun, fetched


_WORKERS = "_hwprof_workers"

_ALONE = {
    "num_workers": 0,
    "prefetch_factor": None,
    "persistent_workers": False,
    "pin_memory": False,
    "multiprocessing_context": None,
    "timeout": 0,
}


def _meshes() -> None:
    """Meshes of devices are arithmetic on ranks, which is done for real."""
    mesh = device_mesh.DeviceMesh
    for name, value in list(vars(mesh).items()):
        if isinstance(value, property):
            setattr(mesh, name, property(_really(value.fget), value.fset))
        elif isinstance(value, staticmethod | classmethod):
            setattr(mesh, name, type(value)(_really(value.__func__)))
        elif callable(value) and not isinstance(value, type):
            setattr(mesh, name, _really(value))
    layout = getattr(device_mesh, "_MeshLayout", None)
    if layout is not None and hasattr(layout, "remap_to_tensor"):
        layout.remap_to_tensor = _really(layout.remap_to_tensor)
    rebind(device_mesh, "init_device_mesh", _really(device_mesh.init_device_mesh))
    sharding: Any = ShardingPropagator  # asks which shape a result has of fake tensors of its own
    name = "_propagate_tensor_meta_non_cached"
    setattr(sharding, name, _really(getattr(sharding, name)))


def _shards() -> None:
    """A rank of fully sharded parameters makes its own part of each, not those of all others, too."""
    from torch.distributed.fsdp._fully_shard import _fsdp_common, _fsdp_param  # noqa: F401 (it holds the function, too)

    if hasattr(_fsdp_common, "_chunk_with_empty"):
        rebind(_fsdp_common, "_chunk_with_empty", Shards)


class Shards(Sequence[torch.Tensor]):
    """The parts of a tensor over ``count`` ranks along a dimension, as ``torch.chunk`` cuts them, then empty ones."""

    def __init__(self, tensor: torch.Tensor, count: int, dim: int) -> None:
        self._tensor, self._count, self._dim = tensor, count, dim
        self._rows = -(-tensor.shape[dim] // count)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rank: Any) -> Any:
        first = range(self._count)[rank] * self._rows
        left = self._tensor.shape[self._dim] - first
        if left <= 0:
            return self._tensor.new_empty(0)
        return self._tensor.narrow(self._dim, first, min(self._rows, left))


def _really(function: Any) -> Any:
    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            return function(*args, **kwargs)

    return called


def _pipelines(rank: Rank) -> None:
    """Stages ask each other for the shapes of what they pass on; gradients have those of what they are of."""
    from torch.distributed.pipelining import stage as stages

    kind: Any = getattr(stages, "_StageBackwardMeta", None)
    gradients: Any = getattr(stages, "_derive_grad_metas", None)
    pipeline: Any = stages.PipelineStage
    if kind is None or gradients is None or not hasattr(pipeline, "_recv_meta"):
        return
    receive, send = pipeline._recv_meta, pipeline._send_meta
    sent: list[Any] = []

    def received(self: Any, src_stage: int) -> Any:
        if src_stage > self.stage_index:
            return kind(backward_metas=gradients(self._stage_meta.outputs))
        if sent:
            rank.note("a later stage of this rank takes what its first one gives on")
            return sent[-1]
        return receive(self, src_stage)

    def sending(self: Any, meta: Any, dst_stage: int) -> None:
        if dst_stage > self.stage_index:
            sent.append(meta)
            send(self, meta, dst_stage)

    pipeline._recv_meta, pipeline._send_meta = received, sending


def _launchers(rank: Rank) -> None:
    """A script that starts its ranks itself gets one: this one."""
    multiprocessing: Any = torch.multiprocessing

    def spawn(fn: Callable[..., Any], args: tuple[Any, ...] = (), *_: Any, **__: Any) -> None:
        rank.note("torch.multiprocessing.spawn: one of the processes runs")
        fn(rank.number % rank.believed.node, *args)

    multiprocessing.spawn = spawn  # the name of a module, too
