"""How does DistributedDataParallel reduce gradients? torch's reducer in Python, since its own reads tensors' memory.

As ``torch/csrc/distributed/c10d/reducer.cpp``: one bucket for all in the first backward pass, buckets in the order in
which gradients came from then on, each reduced when its last gradient is there and all before it are on their way.
"""
# ruff: noqa: SLF001 (this module is a border to names that torch does not promise)

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed
import torch.nn.parallel.distributed

from hwprof.emulate.run.rank import Rank

dist: Any = torch.distributed
ddp: Any = torch.nn.parallel.distributed


@dataclass(slots=True)
class _Bucket:
    """Gradients that travel together. Mutable: it fills up in every backward pass."""

    indices: list[int]
    flat: torch.Tensor
    views: list[torch.Tensor]
    pending: int = 0
    work: Any = None
    places: dict[int, int] = field(default_factory=dict)


class _GradBucket:
    """What a communication hook is given."""

    def __init__(self, bucket: _Bucket, place: int, *, last: bool, parameters: list[torch.Tensor]) -> None:
        self._bucket, self._place, self._last, self._parameters = bucket, place, last, parameters

    def buffer(self) -> torch.Tensor:
        return self._bucket.flat

    def set_buffer(self, tensor: torch.Tensor) -> None:
        self._bucket.flat = tensor

    def index(self) -> int:
        return self._place

    def gradients(self) -> list[torch.Tensor]:
        return self._bucket.views

    def parameters(self) -> list[torch.Tensor]:
        return self._parameters

    def is_last(self) -> bool:
        return self._last


class Reducer:
    """What ``DistributedDataParallel`` asks of ``torch.distributed.Reducer``."""

    def __init__(  # noqa: PLR0917 (as torch calls it)
        self,
        parameters: list[torch.Tensor],
        bucket_indices: list[list[int]],
        bucket_limits: Sequence[int],
        group: Any,
        expect_sparse: Sequence[bool],
        bucket_bytes: int,
        find_unused: bool,
        as_view: bool,
        names: Any = None,
        first_bytes: int = 2**20,
        *_: Any,
    ) -> None:
        del bucket_limits, names
        self._parameters, self._group, self._sparse = parameters, group, list(expect_sparse)
        self._limits, self._find_unused, self._as_view = [first_bytes, bucket_bytes], find_unused, as_view
        self._static, self._rebuilt, self._expecting = False, False, False
        self._order: list[int] = []
        self._unused: list[int] = []
        self._hook: Callable[[Any], Any] | None = None
        self._next = 0
        self._buckets: list[_Bucket] = []
        self._make_buckets(bucket_indices)
        for index, each in enumerate(parameters):
            parameter: Any = each
            parameter.register_post_accumulate_grad_hook(lambda _parameter, index=index: self._ready(index))

    def _make_buckets(self, indices: list[list[int]]) -> None:
        self._buckets = []
        with torch.no_grad():
            for bucket in indices:
                members = [self._parameters[index] for index in bucket]
                flat: Any = torch.empty(
                    sum(each.numel() for each in members), dtype=members[0].dtype, device=members[0].device
                )
                pieces = flat.split([each.numel() for each in members])
                views = [piece.view(each.shape) for piece, each in zip(pieces, members, strict=True)]
                places = {index: place for place, index in enumerate(bucket)}
                self._buckets.append(_Bucket(bucket, flat, views, places=places))
        self._bucket_of = {index: place for place, bucket in enumerate(self._buckets) for index in bucket.indices}

    # what DistributedDataParallel calls

    def prepare_for_forward(self) -> None:
        """Nothing is timed here."""

    def prepare_for_backward(self, outputs: list[torch.Tensor]) -> None:
        """Gradients that come now are to be reduced."""
        self._expecting, self._next = True, 0
        for bucket in self._buckets:
            bucket.pending, bucket.work = len(bucket.indices), None
        self._unused = self._not_reached(outputs) if outputs else []

    def _rebuild_buckets(self) -> bool:
        if self._rebuilt or (self._find_unused and not self._static) or not self._order:
            return False
        order, self._order, self._rebuilt = self._order, [], True
        parameters = [self._parameters[index] for index in order]
        sparse = [self._sparse[index] for index in order] if self._sparse else []
        indices, _ = dist._compute_bucket_assignment_by_size(parameters, self._limits, sparse, order)
        indices = [list(bucket) for bucket in indices]
        self._agree(indices)
        self._make_buckets(indices)
        return True

    def _agree(self, indices: list[list[int]]) -> None:
        """Rank 0 tells the others its buckets: which parameters, how many buckets, and how many in each."""
        device = self._parameters[0].device
        for numbers in (sum(map(len, indices)) + 1, len(indices)):
            self._group.broadcast([torch.zeros(numbers, dtype=torch.int32, device=device)]).wait()

    def _set_static_graph(self) -> None:
        self._static = True

    def _register(self, hook: Callable[[Any], Any]) -> None:
        self._hook = hook

    def _remove_autograd_hooks(self) -> None:
        self._expecting = False

    def _get_zeros_like_grad_buckets(self) -> list[_GradBucket]:
        return []

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Its other methods serve timing, debugging and joins of uneven inputs."""
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None

    # while gradients come

    def _ready(self, index: int) -> None:
        if not self._expecting:
            return
        for unused in self._unused:
            self._filled(unused)
        self._unused = []
        if not self._rebuilt and (self._static or not self._find_unused):
            self._order.append(index)
        self._filled(index)

    def _filled(self, index: int) -> None:
        bucket = self._buckets[self._bucket_of[index]]
        self._put(bucket, index)
        bucket.pending -= 1
        while self._next < len(self._buckets) and self._buckets[self._next].pending == 0:
            self._reduce(self._buckets[self._next], self._next)
            self._next += 1
        if self._next == len(self._buckets) and self._expecting:
            self._expecting = False
            used = None
            if self._find_unused and not self._static:
                marks = torch.zeros(len(self._parameters), dtype=torch.int32, device=self._parameters[0].device)
                used = self._group.allreduce([marks])
            torch.autograd.Variable._execution_engine.queue_callback(lambda: self._finish(used))

    def _put(self, bucket: _Bucket, index: int) -> None:
        parameter, view = self._parameters[index], bucket.views[bucket.places[index]]
        grad = parameter.grad
        with torch.no_grad():
            if grad is None:
                view.zero_()
            elif self._as_view and grad.untyped_storage()._cdata == view.untyped_storage()._cdata:
                if self._hook is None:
                    view.div_(self._group.size())
            else:
                if self._hook is None:
                    torch.mul(grad, 1 / self._group.size(), out=view)
                else:
                    view.copy_(grad)
                if self._as_view:
                    parameter.grad = view

    def _reduce(self, bucket: _Bucket, place: int) -> None:
        if self._hook is None:
            bucket.work = self._group.allreduce([bucket.flat])
            return
        parameters = [self._parameters[index] for index in bucket.indices]
        last = place == len(self._buckets) - 1
        bucket.work = self._hook(_GradBucket(bucket, place, last=last, parameters=parameters))

    def _finish(self, used: Any) -> None:
        with torch.no_grad():
            for bucket in self._buckets:
                self._receive(bucket)
                for index, view in zip(bucket.indices, bucket.views, strict=True):
                    parameter = self._parameters[index]
                    if parameter.grad is not None and not self._as_view:
                        parameter.grad.copy_(view)
        if used is not None:
            used.wait()

    def _receive(self, bucket: _Bucket) -> None:
        done = bucket.work.wait()
        if self._hook is None:
            return
        result = done if done is not True else bucket.work.value()
        result = result[0] if isinstance(result, list | tuple) else result
        if isinstance(result, torch.Tensor) and result is not bucket.flat:
            bucket.flat.copy_(result)

    def _not_reached(self, outputs: list[torch.Tensor]) -> list[int]:
        """Parameters that no output depends on."""
        found: set[int] = set()
        seen: set[Any] = set()
        nodes = [each.grad_fn for each in outputs if each.grad_fn is not None]
        while nodes:
            node = nodes.pop()
            if node in seen:
                continue
            seen.add(node)
            if hasattr(node, "variable"):
                found.add(id(node.variable))
            nodes.extend(each for each, _ in node.next_functions if each is not None)
        return [index for index, each in enumerate(self._parameters) if id(each) not in found]


class _Logger:
    """Nobody reads what DistributedDataParallel logs."""

    def __init__(self, reducer: Reducer) -> None:
        del reducer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: SimpleNamespace(strs_map={}, ints_map={})


def install(rank: Rank) -> None:
    """Give DistributedDataParallel this reducer, for the rest of this process."""
    for name in ("__init__", "prepare_for_backward", "_rebuild_buckets", "_ready", "_finish"):
        setattr(Reducer, name, rank.host_time.not_counted(getattr(Reducer, name)))
    for name, value in {
        "Reducer": Reducer,
        "Logger": _Logger,
        "_register_comm_hook": lambda reducer, state, hook: reducer._register(lambda bucket: hook(state, bucket)),
        "_register_builtin_comm_hook": lambda reducer, kind: _builtin(reducer, kind, rank),
        "_broadcast_coalesced": _broadcast_coalesced,
        "_verify_params_across_processes": lambda *_, **__: None,
    }.items():
        setattr(dist, name, value)
        setattr(ddp.dist, name, value)


def _builtin(reducer: Reducer, kind: Any, rank: Rank) -> None:
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

    del rank
    narrow = "FP16" in str(kind)
    hook = default_hooks.fp16_compress_hook if narrow else default_hooks.allreduce_hook
    reducer._register(lambda bucket: hook(reducer._group, bucket))


def _broadcast_coalesced(group: Any, tensors: list[torch.Tensor], buffer_bytes: int, source: int = 0) -> None:
    """Tensors of a type travel together, up to so many bytes a message."""
    del source
    indices, _ = dist._compute_bucket_assignment_by_size(tensors, [buffer_bytes])
    with torch.no_grad():
        for bucket in indices:
            members = [tensors[index] for index in bucket]
            flat: Any = torch.cat([each.reshape(-1) for each in members])
            group.broadcast([flat]).wait()
            pieces = flat.split([each.numel() for each in members])
            for each, piece in zip(members, pieces, strict=True):
                each.copy_(piece.view(each.shape))
