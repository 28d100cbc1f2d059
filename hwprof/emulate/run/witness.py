"""Which operators does the script call? A dispatch mode that answers each, follows its memory and writes it down."""
# ruff: noqa: SLF001 (this module is a border to names that torch does not promise)

from __future__ import annotations

import weakref
from functools import cache
from threading import RLock
from time import thread_time
from typing import Any

import torch
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from hwprof.emulate.run.calls import call_of, layouts_of, shapes_of, tensor_view
from hwprof.emulate.run.cuda.kernels import RESULTS
from hwprof.emulate.run.groups import exchanged, ranks_named, written
from hwprof.emulate.run.rank import Rank, script_line
from hwprof.emulate.tape import HOST_WAITS, WAIT, Call, CollectiveName
from hwprof.errors import InputError
from hwprof.specs.record.captured import AtenCall, Value
from hwprof.specs.record.saved_calls import Layout

aten = torch.ops.aten
_DEVICE = torch.ops.prim.device.default
_PLAIN = (FakeTensor, torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
_COLLECTIVES: dict[str, tuple[CollectiveName, bool]] = {
    "all_reduce": ("all_reduce", False),
    "all_reduce_": ("all_reduce", False),
    "all_reduce_coalesced": ("all_reduce", False),
    "all_reduce_coalesced_": ("all_reduce", False),
    "all_gather_into_tensor": ("all_gather", True),
    "all_gather_into_tensor_out": ("all_gather", True),
    "all_gather_into_tensor_coalesced": ("all_gather", True),
    "reduce_scatter_tensor": ("reduce_scatter", False),
    "reduce_scatter_tensor_out": ("reduce_scatter", False),
    "reduce_scatter_tensor_coalesced": ("reduce_scatter", False),
    "all_to_all_single": ("all_to_all", False),
    "shard_dim_alltoall": ("all_to_all", False),
    "broadcast": ("broadcast", False),
    "broadcast_": ("broadcast", False),
}
"""Functional collectives: what they are, and whether the result is the whole vector (else the argument)."""

_SPACES = ("_c10d_functional", "_dtensor")
_BY_MASK = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._unsafe_index.Tensor}
_BY_VALUE = {
    aten.nonzero.default, aten.masked_select.default, aten.unique_dim.default, aten._unique2.default,
    aten.unique_consecutive.default, aten.bincount.default, aten.repeat_interleave.Tensor, aten.histc.default,
}  # fmt: skip
"""Operators whose result is as large as their arguments' values say."""


class Witness(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types it so
    """Sees every call below autograd."""

    supports_higher_order_operators = True

    def __init__(self, rank: Rank, fake: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rank, self._fake = rank, fake
        self._places: dict[Any, int] = {}
        self._works: dict[int, int] = {}
        self._one = RLock()  # calls of several threads come one after the other

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator on fake tensors and write it down."""
        clock = self._rank.host_time
        with self._one, clock:
            if _answered_elsewhere(func, types):
                return NotImplemented
            clock.arrive()
            return self._answer(func, args, kwargs or {})

    def _answer(self, func: Any, args: Any, given: dict[str, Any]) -> Any:
        if isinstance(func, HigherOrderOperator):
            return self._higher(func, args, given)
        if func is _DEVICE or func.namespace == "profiler":
            return func(*args, **given)
        traits = _traits(func)
        if traits.composite:
            with self:
                smaller = func.decompose(*args, **given)
            if smaller is not NotImplemented:
                return smaller
        return self._read(args[0]) if traits.reads else self._called(func, traits, args, given)

    def _called(self, func: Any, traits: _Traits, args: Any, kwargs: dict[str, Any]) -> Any:
        if traits.real and self._only_real(args, kwargs):
            start_s = thread_time()
            with _disable_current_modes():
                made = func(*args, **kwargs)
            self._rank.host_time.worked(thread_time() - start_s)
            return made
        out = self._run(func, args, kwargs)
        if traits.collective is None and not traits.waits:
            self._rank.values.follow(func, args, kwargs, out)
        self._record(func, traits, args, kwargs, out)
        return out

    def _higher(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """An operator that takes others: random numbers of sharded tensors, or attention with a score of one's own."""
        name = func.name()
        if name == "run_dtensor_rng_op":
            with self:
                return args[2](*args[3:], **kwargs)
        rules = func.python_key_table
        if FakeTensorMode in rules:  # which torch looks up by the very class
            rules.setdefault(type(self._fake), rules[FakeTensorMode])
        out = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, FakeTensor)]
        for tensor in made:
            self._rank.storages.born(tensor, _KINDS[self._rank.phase], self._rank.place, self._rank.stream, script_line)
        if name not in _FLEX or not made:
            self._rank.note(f"operator {name}: its result is there, its work is not counted")
            return out
        key = (name, shapes_of(args[:3]))
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(self._rank.tape.calls)
            flop = int(flop_registry[func](*args, **kwargs, out_val=out))
            call = _flex_call(_FLEX[name], args, made)
            line = script_line() or self._rank.phase
            self._rank.tape.calls.append(Call(name=name, flop=flop, device=made[0].device.type, call=call, line=line))
        self._rank.tape.call(place, self._rank.stream)
        return out

    def _read(self, tensor: torch.Tensor) -> Any:
        if tensor.device.type == "cuda":
            self._rank.tape.current.add(HOST_WAITS, self._rank.stream)
        return self._rank.values.item(tensor)

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if func in _BY_MASK:
            args = self._by_places(func, args)
        elif func in _BY_VALUE:
            return self._by_value(func, args, kwargs)
        elif func in {aten.equal.default, aten.allclose.default}:
            return True
        elif func in RESULTS:
            return RESULTS[func](*args, **kwargs)
        return func(*args, **kwargs)

    def _by_places(self, func: Any, args: Any) -> Any:
        """Masks become the places that they name, as many as their values say."""
        del func
        indices: list[Any] = []
        for index in args[1]:
            if isinstance(index, torch.Tensor) and index.dtype in {torch.bool, torch.uint8}:
                with _disable_current_modes():
                    columns = [column.contiguous() for column in self._mask(index).nonzero().unbind(1)]
                indices += [self._told(column, index.device) for column in columns]
            else:
                indices.append(index)
        return (args[0], indices, *args[2:])

    def _mask(self, index: torch.Tensor) -> torch.Tensor:
        value = self._rank.values.known(index)
        if value is None:
            self._rank.values.made_up["a mask that follows from weights or activations lets everything through"] += 1
            with _disable_current_modes():
                return torch.ones(index.shape, dtype=torch.bool)
        return value

    def _told(self, value: torch.Tensor, device: torch.device) -> Any:
        """A fake tensor that holds a real one."""
        with _disable_current_modes(), self._fake:
            made = torch.empty(value.shape, dtype=value.dtype, device=device)
        self._rank.values.tell(made, value)
        return made

    def _by_value(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        values = self._rank.values
        if func is aten.masked_select.default:
            with _disable_current_modes():
                shape = torch.broadcast_shapes(args[0].shape, args[1].shape)  # type: ignore[no-untyped-call]
                count = int(self._mask(args[1]).expand(shape).sum())
            return args[0].new_empty(count)
        device = next(leaf.device for leaf in args if isinstance(leaf, torch.Tensor))
        if device.type == "cuda":
            self._rank.tape.current.add(HOST_WAITS, self._rank.stream)
        for leaf in args:
            if isinstance(leaf, torch.Tensor) and values.known(leaf) is None:
                values.tell(leaf, self._mask(leaf) if leaf.dtype is torch.bool else values.made(leaf))
        result = values.compute(func, args, kwargs)
        if result is None and func is aten.histc.default:  # whole numbers, which only the device's kernel counts
            with _disable_current_modes():
                result = func(values.made(args[0]).float(), *args[1:], **kwargs).to(args[0].dtype)
        if result is None:
            raise InputError(
                f"{func} can't be followed: its result is as large as values say that nobody has",
                remedy="choose by a capacity or another fixed number in its place",
            )
        return tree_map(lambda leaf: self._told(leaf, device) if isinstance(leaf, torch.Tensor) else leaf, result)

    def _only_real(self, args: Any, kwargs: dict[str, Any]) -> bool:
        """Whether an operator is the host's own: on real tensors, to stay there, of a size that is done in no time."""
        device = kwargs.get("device")
        if device is not None and torch.device(device).type != "cpu":
            return False
        found = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if not found or any(isinstance(leaf, FakeTensor) or leaf.is_meta for leaf in found):
            return False
        return sum(leaf.numel() for leaf in found) <= _MOST_REAL

    def _record(self, func: Any, traits: _Traits, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        rank = self._rank
        results = [leaf for leaf in (out if isinstance(out, tuple | list) else (out,)) if isinstance(leaf, FakeTensor)]
        if traits.collective is not None or traits.waits:
            self._born(traits, results)
            if traits.collective is not None:
                if rank.regions.any:
                    rank.regions.outside((args, kwargs))
                self._collective(traits, args, kwargs, results)
            else:
                self._wait(args[0], out)
            return
        key = (func, shapes_of(args), shapes_of(tuple(kwargs.values())) if kwargs else ())
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(rank.tape.calls)
            line = script_line() or rank.phase
            rank.tape.calls.append(call_of(func, traits.name, args, kwargs, out, view=traits.view, line=line))
        if traits.name in _BY_CUBLAS and rank.tape.calls[place].device == "cuda":
            believed, backward = rank.believed, rank.phase == "backward"
            rank.storages.workspace(backward, believed.capability, rank.stream, script_line)
        if rank.regions.any:
            self._compiled(func, place, traits, (args, kwargs), results)
        else:
            self._born(traits, results)
            kind, layouts = rank.tape.calls[place], tuple[Layout, ...]()
            if kind.device == "cpu" and rank.believed.kind == "cpu":
                layouts = layouts_of(func, args, kwargs, out, rank.storages.number)
                rank.host_time.sweep(kind.touched_bytes)
            rank.tape.call(place, rank.stream, layouts)
        if traits.copies and not kwargs.get("non_blocking"):
            self._copied(func, args, kwargs)

    def _compiled(self, func: Any, call: int, traits: _Traits, given: Any, results: list[FakeTensor]) -> None:
        """A call of a script that compiles: what it reads and writes counts, and not each result is stored."""
        rank = self._rank
        place, roots = rank.regions.place(), ()
        if place is not None and (place, call) in rank.tape.unstored:
            roots = rank.storages.roots([leaf for leaf in tree_leaves(given) if isinstance(leaf, torch.Tensor)])
        self._born(traits, results, roots)
        if place is not None and (place, call) in rank.tape.passing:
            rank.regions.passing += [weakref.ref(each.untyped_storage()) for each in results]
        rank.tape.call(call, rank.stream)
        rank.regions.flow(func, call, place, given, results, view=traits.view)

    def _born(self, traits: _Traits, results: list[FakeTensor], roots: tuple[Any, ...] = ()) -> None:
        rank = self._rank
        if traits.view:
            return
        kind = _KINDS[rank.phase]
        for tensor in results:
            if tensor.layout is torch.strided and tensor.fake_device.type != "meta":
                rank.storages.born(tensor, kind, rank.place, rank.stream, script_line, roots=roots)

    def _copied(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Copies to the host are waited for."""
        source = args[1] if func is aten.copy_.default else args[0]
        target = args[0].device if func is aten.copy_.default else kwargs.get("device")
        if source.device.type == "cuda" and target is not None and torch.device(target).type == "cpu":
            self._rank.tape.current.add(HOST_WAITS, self._rank.stream)

    def _collective(self, traits: _Traits, args: Any, kwargs: dict[str, Any], results: list[FakeTensor]) -> None:
        assert traits.collective is not None
        op, of_result = traits.collective
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        whole = results if of_result else given
        name = next(leaf for leaf in reversed([*args, *kwargs.values()]) if isinstance(leaf, str))
        ranks = ranks_named(name)
        self._passed_on(op, ranks, given, results)
        numbers = [written(op, ranks, tensor.numel() * tensor.element_size(), beside=True) for tensor in whole]
        for tensor in results:
            self._works[tensor.untyped_storage()._cdata] = numbers[-1]

    def _passed_on(self, op: str, ranks: tuple[int, ...], given: list[Any], results: list[FakeTensor]) -> None:
        """Values of results, where equal ranks have the arguments': each part the same, a sum so many times."""
        values = self._rank.values
        for tensor, result in zip(given, results, strict=False):
            value = values.known(tensor)
            if value is None or (result.numel() % max(value.numel(), 1)) or not value.numel():
                values.forget(result)
                continue
            if op == "all_to_all":
                with _disable_current_modes():
                    got = exchanged(value, result.shape, len(ranks), ranks.index(self._rank.number))
                if got is None:
                    values.forget(result)
                else:
                    values.tell(result, got)
                continue
            with _disable_current_modes():
                whole = value.reshape(-1).repeat(result.numel() // value.numel()).view(result.shape)
                values.tell(result, whole * len(ranks) if op == "all_reduce" else whole)

    def _wait(self, tensor: torch.Tensor, out: Any) -> None:
        value = self._rank.values.known(tensor)
        if value is not None:
            self._rank.values.tell(out, value)
        number = self._works.pop(tensor.untyped_storage()._cdata, None)
        if number is not None:
            self._rank.tape.current.add(WAIT, number, self._rank.stream)


_FLEX = {
    "flex_attention": "aten::_scaled_dot_product_flash_attention",
    "flex_attention_backward": "aten::_scaled_dot_product_flash_attention_backward",
}
"""Attention with a score of one's own -> the kernel whose time it is taken to have, all of its scores computed."""


def _flex_call(name: str, args: Any, made: list[FakeTensor]) -> AtenCall:
    query, key, value = (tensor_view(each) for each in args[:3])
    arguments: dict[str, Value] = {"query": query, "key": key, "value": value, "is_causal": False}
    return AtenCall(name=name, arguments=arguments, results=tuple(tensor_view(each) for each in made))


def _answered_elsewhere(func: Any, types: Any) -> bool:
    """Whether a class of tensors answers, as it does where nobody watches; its parts come here one by one."""
    if isinstance(func, HigherOrderOperator) or func is _DEVICE or func.namespace == "profiler":
        return False
    return any(not issubclass(kind, _PLAIN) or kind.__name__ not in _NAMES for kind in types)


_BY_CUBLAS = frozenset({"aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "aten::_scaled_mm", "aten::addmv"})
_MOST_REAL = 2**24
_NAMES = {kind.__name__ for kind in _PLAIN}
_KINDS = {"forward": "activations", "backward": "gradients and temporaries", "optimizer": "optimizer"}


class _Traits:
    """What the schema of an operator says. Built once for each."""

    __slots__ = ("collective", "composite", "copies", "name", "reads", "real", "view", "waits")

    def __init__(self, func: Any) -> None:
        schema = func._schema
        space, _, plain = schema.name.partition("::")
        returned = [each.alias_info for each in schema.returns]
        self.name = schema.name
        self.view = plain == "_unsafe_view" or any(each is not None and not each.is_write for each in returned)
        self.reads = func is aten._local_scalar_dense.default
        self.waits = plain == "wait_tensor"
        self.collective = _COLLECTIVES.get(plain) if space in _SPACES else None
        self.composite = _is_composite(func)
        self.copies = func in {aten._to_copy.default, aten.copy_.default}
        self.real = func not in {aten.lift_fresh.default, aten.detach.default}


@cache
def _traits(func: Any) -> _Traits:
    return _Traits(func)


def _is_composite(func: Any) -> bool:
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    if not isinstance(func, torch._ops.OpOverload):
        return False
    name = func.name()  # type: ignore[no-untyped-call]
    own = any(has(name, key) for key in ("Meta", "CPU", "CUDA"))
    return bool(has(name, "CompositeImplicitAutograd")) and not own
