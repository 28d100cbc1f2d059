"""What does each kernel of a compiled model compute? Listens to torch's inductor while it compiles.

Inductor keeps, for each kernel and extern operator of a graph, the names of the graph's nodes that it computes, and
dynamo keeps for each node the modules whose forward it stands in; the nodes of backward carry those of the forward node
that they derive. Neither outlives the compilation, so one has to listen while it happens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from hwprof.measure.attribute.graph_calls import CompiledGraph, GraphCall
from hwprof.spans.marks import made_kernel
from hwprof.specs.job.labels import plain_path

_REDUCTIONS = frozenset(
    ("sum", "mean", "amax", "amin", "max", "min", "prod", "any", "all", "var", "std", "var_mean", "argmax", "argmin")
)
"""Operations whose work is that of what they read; of all others it is that of what they write."""

_FREE = frozenset(("_unsafe_view",))
"""Operations that compute nothing, beside those whose result is a view by their schema."""

_PRODUCTS_WITH_SUM = frozenset(("addmm", "baddbmm"))
"""What inductor makes of a product and a sum of gradients, which is autograd's; it belongs to the product's module."""

_TRANSPOSED = frozenset(("permute", "t", "transpose"))
"""What backward of a product does to one operand first, in the product's own module; the other is from anywhere."""

_TRACKED = 2
"""inductor's ``trace.provenance_tracking_level`` "basic": which nodes each kernel computes, and no more."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A node of a graph: the innermost module it stands in (None: in none), and the elements that it computes."""

    path: str | None
    elements: float


class CompiledGraphs:
    """Keeps what inductor compiles while it is open.

    Meanwhile inductor's cache of whole graphs is not used (what it holds was compiled before), and kernels on a CPU
    announce themselves to the profiler.

    Args:
        model: whose modules own the operations.

    Attributes:
        graphs: what was compiled.
        reason: why nothing can be heard, if so.
    """

    def __init__(self, model: nn.Module) -> None:
        self._paths = {str(id(module)): plain_path(path) for path, module in model.named_modules()}
        self._nodes: dict[str, _Node] = {}
        self._undo: list[Callable[[], None]] = []
        self.graphs: list[CompiledGraph] = []
        self.reason = ""

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def listen(self) -> None:
        """Hear every graph that inductor compiles from now on, in whatever thread."""
        try:
            from torch._inductor import config, debug  # takes a second, which only compiled models pay
            from torch._inductor.graph import GraphLowering

            level = config.trace.provenance_tracking_level
            _ = debug._inductor_triton_kernel_to_post_grad_node_info  # noqa: SLF001
        except (ImportError, AttributeError):
            self.reason = f"torch {torch.__version__} does not tell which operations the kernels it makes compute"
            return
        own: Any = config.post_grad_custom_post_pass
        own_passes = own if isinstance(own, list | tuple) else () if own is None else (own,)
        own_sink = GraphLowering.save_output_code

        def see_nodes(graph: Any) -> None:
            for each in own_passes:
                each(graph)
            self._nodes = {node.name: self._node(node) for node in graph.nodes if node.op == "call_function"}

        def see_code(code: str) -> None:
            if own_sink is not None:
                own_sink(code)
            computes: Mapping[str, list[str]] = debug._inductor_triton_kernel_to_post_grad_node_info  # noqa: SLF001
            self.graphs.append(graph_of(computes, {name: (n.path, n.elements) for name, n in self._nodes.items()}))

        _swap(self._undo, config, "post_grad_custom_post_pass", see_nodes)
        _swap(self._undo, GraphLowering, "save_output_code", staticmethod(see_code), old=own_sink)
        _swap(self._undo, config.cpp, "enable_kernel_profile", True)
        _swap(self._undo, config.trace, "provenance_tracking_level", level or _TRACKED)

    def close(self) -> None:
        """Leave inductor as it was; closing twice is harmless."""
        while self._undo:
            self._undo.pop()()

    @property
    def unheard(self) -> str:
        """Why kernels can't be booked to modules; empty where graphs were heard."""
        if self.graphs:
            return ""
        return self.reason or (
            "nothing was compiled by inductor while the loop was watched: it was compiled before, or by another backend"
        )

    def _node(self, node: Any) -> _Node:
        path = self._path(node)
        if path is None and _name(node) in _PRODUCTS_WITH_SUM:
            operands = sorted(node.args[1:3], key=lambda each: _name(each) not in _TRANSPOSED)
            path = next((found for each in operands if (found := self._path(each)) is not None), None)
        return _Node(path, elements_of(node))

    def _path(self, node: Any) -> str | None:
        stack = node.meta.get("nn_module_stack") or node.meta.get("fwd_nn_module_stack") or {}
        return next((self._paths[key] for key in map(str, reversed(list(stack))) if key in self._paths), None)


def graph_of(computes: Mapping[str, Collection[str]], nodes: Mapping[str, tuple[str | None, float]]) -> CompiledGraph:
    """The calls of a graph with the modules that they come from.

    A kernel's work is split by the elements that the operations of each module compute in it: what each writes, of a
    reduction what it reads, nothing for a view. What an extern operator computes counts in no other kernel, but for one
    that only lays out its operands or results.

    Args:
        computes: inductor's list, "kernel:serial number" -> names of nodes, in any order.
        nodes: name -> (path of the module or None, elements).
    """
    calls = sorted((int(key.rpartition(":")[2]), key.rpartition(":")[0], names) for key, names in computes.items())
    extern = {name for _, kernel, names in calls if not made_kernel(kernel) for name in names}
    return CompiledGraph(
        calls=tuple(
            GraphCall(name=_plain(kernel), shares=_shares_of(names, nodes, extern if made_kernel(kernel) else ()))
            for _, kernel, names in calls
        )
    )


def _shares_of(
    names: Collection[str], nodes: Mapping[str, tuple[str | None, float]], elsewhere: Collection[str]
) -> dict[str, float]:
    own = [nodes[name] for name in names if name in nodes and name not in elsewhere]
    return _shares(own) or _shares([(nodes[name][0], 0.0) for name in names if name in nodes])


def _shares(nodes: Collection[tuple[str | None, float]]) -> dict[str, float]:
    owned = [(path, elements) for path, elements in nodes if path is not None]
    total = sum(elements for _, elements in owned)
    shares: dict[str, float] = defaultdict(float)
    for path, elements in owned:
        share = elements / total if total else 1 / len(owned)
        if share:
            shares[path] += share
    return dict(shares)


def _plain(kernel: str) -> str:
    """``extern_kernels.addmm``, ``torch.ops.aten.addmm.default`` -> ``addmm``; a made kernel as it is called."""
    if made_kernel(kernel):
        return kernel
    parts = kernel.removeprefix("torch.ops.").split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def _name(node: Any) -> str:
    schema = getattr(node.target, "_schema", None)
    return "" if schema is None else schema.name.rpartition("::")[2]


def elements_of(node: Any) -> float:
    """Elements that a node of a graph computes: what it writes, of a reduction what it reads, nothing for a view."""
    name = _name(node)
    returns = node.target._schema.returns if name else ()  # noqa: SLF001
    views = any(each.alias_info is not None and not each.alias_info.is_write for each in returns)
    if not name or views or name in _FREE:
        return 0.0
    written = _size(node.meta.get("val"))
    if name in _REDUCTIONS:
        return max([written, *(_size(each.meta.get("val")) for each in node.all_input_nodes)])
    return written


def _size(value: Any) -> float:
    """Elements of a node's value; of a size that varies, as many as at the time of compiling."""
    if isinstance(value, tuple | list):
        return sum(map(_size, value))
    if not isinstance(value, torch.Tensor):
        return 0.0
    count: Any = value.numel()
    known = count if isinstance(count, int) else getattr(count.node, "hint", None)
    return float(known or 0)


def _swap(undo: list[Callable[[], None]], owner: Any, name: str, new: Any, *, old: Any = None) -> None:
    """Set an attribute, and remember how to set it back."""
    before = getattr(owner, name) if old is None else staticmethod(old)
    setattr(owner, name, new)
    undo.append(lambda: setattr(owner, name, before))
