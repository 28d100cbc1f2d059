"""Who uses what in autograd's graph? A layer that stands for others is used through what went in and out alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from hwprof.measure.capture.layers.ran import Edge, HasToRunError, Ran, Taker
from hwprof.measure.capture.torch_internals import number_of_node


def nodes_below(run: Ran, leaves: Iterable[Any]) -> bool:
    """Whether all that its outputs come from in the graph are its own nodes, its own weights and what went in.

    Inputs that no output comes from are forgotten: they get no gradient.
    """
    own = {id(each) for each in run.layer.parameters()}
    reached: set[Edge] = set()
    todo = [leaf.grad_fn for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.grad_fn is not None]
    todo = [node for node in todo if number_of_node(node) in run.nodes]
    seen: set[int] = set()
    while todo:
        node = todo.pop()
        if number_of_node(node) in seen:
            continue
        seen.add(number_of_node(node))
        for source, result in node.next_functions:
            if source is None:
                continue
            if hasattr(source, "variable"):
                if id(source.variable) not in own:
                    return False
            elif number_of_node(source) in run.nodes:
                todo.append(source)
            elif (number_of_node(source), result) in run.inputs:
                reached.add((number_of_node(source), result))
            else:
                return False
    run.inputs = {edge: place for edge, place in run.inputs.items() if edge in reached}
    return True


def check_graph(roots: Iterable[torch.Tensor], runs: list[Ran]) -> dict[str, list[Taker]]:
    """Nothing else uses what is inside of these layers or their weights; who reads what others read, too.

    Raises:
        HasToRunError: something does, or the outputs of two layers that are to be equal are used in other ways.
    """
    owner = {node: run for run in runs for node in run.nodes}
    weights = {id(each): run for run in runs for each in run.layer.parameters()}
    users: dict[Edge, set[str]] = defaultdict(set)
    within: dict[str, list[tuple[Any, int, Edge]]] = defaultdict(list)
    for node, which, edge, weight in _edges(roots):
        mine = None if node is None else owner.get(number_of_node(node))
        if weight is not None:
            whose = weights.get(weight)
            if whose is not None and whose is not mine:
                raise HasToRunError(whose.stack)
            continue
        made = owner.get(edge[0])
        if made is not None and made is not mine:
            if edge not in made.results:
                raise HasToRunError(made.stack)
            made.used.add(made.results[edge])
        users[edge].add(mine.path if mine else "")
        if mine is not None and edge in mine.inputs:
            within[mine.path].append((node, which, edge))
    shared = {run.path: {edge for edge in run.inputs if users[edge] - {run.path}} for run in runs}
    found = {_unlike(run, run.template, shared) for run in runs if run.template is not None} - {""}
    if found:
        raise HasToRunError(found)
    return {
        run.path: [
            (node, which, run.inputs[edge]) for node, which, edge in within[run.path] if edge in shared[run.path]
        ]
        for run in runs
        if run.template is None and shared[run.path]
    }


def _unlike(run: Ran, template: Ran, shared: dict[str, set[Edge]]) -> str:
    """Which of two layers is used in another way, or starts from what others read, too, as the other does not."""
    mine, its = ({one.inputs[edge] for edge in shared[one.path]} for one in (run, template))
    if run.used != template.used or len(run.inputs) != len(template.inputs) or mine - its:
        return run.path
    return template.path if its - mine else ""


def _edges(roots: Iterable[torch.Tensor]) -> Iterator[tuple[Any, int, Edge, int | None]]:
    """Who uses which result in the graph, as which input, and the ``id`` of a weight, where it is none of a node."""
    todo: list[Any] = []
    for root in roots:
        if root.grad_fn is not None:
            todo.append(root.grad_fn)
            yield None, 0, (number_of_node(root.grad_fn), root.output_nr), None
    seen: set[int] = set()
    while todo:
        node = todo.pop()
        number = number_of_node(node)
        if number in seen:
            continue
        seen.add(number)
        for which, (source, result) in enumerate(node.next_functions):
            if source is not None:
                weight = id(source.variable) if hasattr(source, "variable") else None
                yield node, which, (number_of_node(source), result), weight
                if weight is None:
                    todo.append(source)
