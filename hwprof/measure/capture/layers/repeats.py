"""Which layers need not run to be captured? One that is equal to one that ran, on equal inputs, does what that did.

A layer that is not run gives outputs of the shapes of the one that was, and stands as one node in autograd's graph.
What was recorded of the one that ran is recorded again at its own places. Where it can't be shown that both do the
same, all of them run: a part looks at its number, changes something, or something else uses what is inside.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from hwprof.measure.capture.fake import ShapesOnly
from hwprof.measure.capture.layers.alike import Stack, stacks_of
from hwprof.measure.capture.layers.graph import check_graph, nodes_below
from hwprof.measure.capture.layers.ran import HasToRunError, Ran
from hwprof.measure.capture.layers.seen import PLAIN, Seen, Traits, of_gradient
from hwprof.measure.capture.layers.shared import Sums, added_by
from hwprof.measure.capture.layers.unread import State, Unread, inside, numbers_of, numbers_unread
from hwprof.measure.capture.mode import CallRecorder
from hwprof.measure.capture.torch_internals import WEIGHTS, newest_node
from hwprof.measure.watch.hooks import Hook
from hwprof.specs.record.captured import PlacedCall


class Repeats:
    """Layers of a module that are run once for all that are equal.

    Args:
        module: the whole.
        recorder: what records it.
        fake: the mode of its tensors.
        without: paths of layers that have to run.
        strides: of gradients, as ``HasToRunError`` tells them.
    """

    def __init__(
        self,
        module: nn.Module,
        recorder: CallRecorder,
        fake: ShapesOnly,
        without: AbstractSet[str],
        strides: Mapping[tuple[str, int], Traits],
    ) -> None:
        self._strides = strides
        self._recorder = recorder
        self._fake = fake
        self._stacks = list(stacks_of(module, fake.values))
        self._without = without
        self._states: dict[str, State] = {}
        self._ran: dict[str, Ran] = {}
        self._marks: list[tuple[int, Ran]] = []
        self._sums: dict[str, Sums] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The layers run so while this is open."""
        changed: list[nn.Module] = []
        try:
            for stack in self._stacks:
                for path in stack.layers.keys() - self._without:
                    layer = stack.layers[path]
                    changed.append(layer)
                    layer.forward = self._instead(stack, path, layer)
                    self._states[path] = State(layer)
            yield
        finally:
            for layer in changed:
                vars(layer).pop("forward", None)

    @property
    def used(self) -> bool:
        """Whether a layer did not run."""
        return any(run.template is not None for run in self._ran.values())

    def check(self, roots: Iterable[torch.Tensor]) -> None:
        """After the forward pass: nothing uses what is inside of a layer that stands for others.

        Raises:
            HasToRunError: something does.
        """
        runs = [run for run in self._ran.values() if run.template is not None or run.repeated]
        if not runs:
            return
        of = {run.path: run for run in runs}
        self._sums = {path: Sums(of[path], each, self._recorder) for path, each in check_graph(roots, runs).items()}
        inside = {one: run for run in runs if run.template is None for one in run.internal}
        ranges = sorted((run.calls for run in runs), key=lambda calls: calls.start)
        for number, placed in enumerate(self._recorder.calls):
            while ranges and number >= ranges[0].stop:
                ranges.pop(0)
            if not (ranges and number in ranges[0]):
                for tensor in placed.call.inputs:
                    if tensor.storage in inside:
                        raise HasToRunError(inside[tensor.storage].stack)

    def with_backward(self, start: int) -> list[PlacedCall]:
        """All calls, those of the backward pass (from ``start`` on) also of layers that did not run.

        Raises:
            HasToRunError: gradients do not look alike.
        """
        calls, done = self._recorder.calls, 0
        backward: dict[str, tuple[list[PlacedCall], list[int | None]]] = {}
        found: list[PlacedCall] = []
        following = [number for number, _ in self._marks[1:]] + [len(calls)]
        for (number, run), after in zip(self._marks, following, strict=False):
            assert run.template is not None
            sums = self._sums.get(run.template.path)
            template = run.check_gradients(sums.expected if sums else ())
            if sums:
                sums.check(run)
            found += calls[done:number]
            done, added = self._added(run, number)
            if template.path not in backward:
                backward[template.path] = self._backward_of(template, start)
            if done != after and not self._recorder.is_placed(self._recorder.nodes[done]):
                raise HasToRunError({run.path})  # it belongs to what ran before, which did not run
            missing = set(sums.expected if sums else ()) - added
            kept = []
            for placed, place in zip(*backward[template.path], strict=True):
                if place in missing:
                    missing.discard(place)  # the first part of a gradient is not added to anything
                else:
                    kept.append(placed)
            found += run.placed(kept)
        return found + calls[done:]

    def _added(self, run: Ran, number: int) -> tuple[int, set[int]]:
        """The number of the call after those that add a layer's gradients to others', and to which places' they do."""
        nodes, found = self._recorder.nodes, set()
        while number < len(nodes) and nodes[number] in run.nodes:
            place = run.handed.get(added_by(self._recorder.calls[number]))
            if place is None:
                raise HasToRunError({run.path})
            found.add(place)
            number += 1
        return number, found

    def _backward_of(self, template: Ran, start: int) -> tuple[list[PlacedCall], list[int | None]]:
        """Its calls, and of each to which place's gradient it adds a part."""
        found: list[PlacedCall] = []
        places: list[int | None] = []
        sums = self._sums[template.path].additions() if template.path in self._sums else {}
        for number in range(start, len(self._recorder.calls)):
            placed, node = self._recorder.calls[number], self._recorder.nodes[number]
            held = template.holds(placed.place.path)
            if node in template.nodes and not held:
                raise HasToRunError(template.stack)
            if held and node is not None and node not in template.nodes and node < WEIGHTS:
                raise HasToRunError({template.path})
            if held:
                found.append(placed)
                places.append(sums.get(number))
        return found, places

    def _instead(self, stack: Stack, path: str, layer: nn.Module) -> Callable[..., Any]:
        forward = layer.forward
        alike = frozenset(stack.layers)

        @functools.wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            if path in self._ran:
                raise HasToRunError(alike)
            if not self._states.pop(path).lasts():  # changed from outside since it was compared: compare anew
                raise HasToRunError(())
            given, form = tree_flatten((args, kwargs))
            held = (each for leaf in given if isinstance(leaf, Mapping) for each in inside(leaf))
            given += [each for each in held if isinstance(each, torch.Tensor)]
            own = numbers_of(stack, layer)
            seen = [Seen.of(leaf, self._fake, self._recorder.storages, own) for leaf in given]
            template = next(
                (one for one in self._ran.values() if one.stack == alike and one.may_stand_for(seen, form)), None
            )
            mine = self._ran[path] = Ran(path=path, layer=layer, stack=alike, seen=seen, form=form, template=template)
            if template is not None:
                template.repeated += 1
                return self._repeat(mine, template, given)
            return self._run(stack, mine, forward, given)

        return run

    def _run(self, stack: Stack, mine: Ran, forward: Callable[..., Any], given: list[Any]) -> Any:
        """Run it, and see whether it may stand for others."""
        handed = [Unread(leaf) if seen.own_number else leaf for seen, leaf in zip(mine.seen, given, strict=True)]
        args, kwargs = tree_unflatten(handed[: mine.form.num_leaves], mine.form)
        before, start, node = State(mine.layer), self._recorder.mark(), newest_node()
        memory = self._recorder.storages.fresh()
        try:
            with numbers_unread(stack, mine.layer, handed) as unread:
                result = forward(*args, **kwargs)
        except HasToRunError:
            raise
        except Exception as error:  # a number that notes who looks is no number
            raise HasToRunError(mine.stack) from error
        mine.nodes = range(node + 1, newest_node() + 1)
        mine.memory = range(memory, self._recorder.storages.fresh())
        mine.passage = self._recorder.since(start)
        mine.calls = range(start[0], len(self._recorder.calls))
        (after, form), leaves = tree_flatten((args, kwargs)), tree_flatten(result)
        unchanged = form == mine.form and all(
            seen.own_number or seen.is_itself(leaf) for seen, leaf in zip(mine.seen, after, strict=False)
        )
        mine.usable = (
            unread()
            and before.lasts()
            and unchanged
            and not _hooked(mine.layer)
            and all(isinstance(leaf, (FakeTensor, *PLAIN)) for leaf in leaves[0])
            and self._understood(mine, given, *leaves)
        )
        return result

    def _understood(self, mine: Ran, given: list[Any], leaves: list[Any], form: Any) -> bool:
        """Note what came out, and how it hangs in the graph; whether that could be done for another layer, too."""
        storages = self._recorder.storages
        mine.note_outputs(given, leaves, form, self._fake, storages)
        for place, leaf in enumerate(given):
            if isinstance(leaf, torch.Tensor) and leaf.requires_grad:
                if leaf.grad_fn is None:
                    return False
                mine.note_input(place, leaf)
        if not mine.is_closed() or not nodes_below(mine, leaves):
            return False
        if not mine.inputs and any(isinstance(leaf, torch.Tensor) and leaf.requires_grad for leaf in leaves):
            return False
        mine.watch(given, leaves)
        return True

    def _repeat(self, mine: Ran, template: Ran, given: list[Any]) -> Any:
        """Outputs of the same shapes, and the same recorded again."""
        recorder = self._recorder
        places = list(template.inputs.values())
        for place in places:
            mine.note_input(place, given[place])
        start = len(recorder.calls)
        with self._unseen():
            made = _Repeat.apply(self, mine, *(given[place] for place in places)) if places else self.made(template)  # type: ignore[no-untyped-call]
        leaves = template.with_fresh(given, made)
        for place, out in template.fresh.items():
            if out.value is not None:
                self._fake.values[leaves[place]] = out.value
        mine.note_repeated(leaves, recorder)
        mine.calls = range(start, len(recorder.calls))
        return tree_unflatten(leaves, template.out_form)

    def made(self, template: Ran) -> tuple[torch.Tensor, ...]:
        """Tensors like those that came out."""
        return tuple(out.like() for out in template.fresh.values())

    @contextmanager
    def _unseen(self) -> Iterator[None]:
        before, self._recorder.paused = self._recorder.paused, True
        try:
            yield
        finally:
            self._recorder.paused = before

    def gradients(self, mine: Ran, got: tuple[torch.Tensor | None, ...]) -> list[torch.Tensor]:
        """What goes on to its inputs."""
        assert mine.template is not None
        fresh = mine.template.fresh
        mine.got = {place: of_gradient(each) for place, each in zip(fresh, got, strict=True) if each is not None}
        self._marks.append((len(self._recorder.calls), mine))
        with self._unseen():
            lies = {place: self._strides.get((mine.template.path, place)) for place in mine.template.inputs.values()}
            found = [mine.seen[place].gradient(strides) for place, strides in lies.items()]
        numbers = map(self._recorder.storages.number, found)
        mine.handed = dict(zip(numbers, mine.template.inputs.values(), strict=True))
        mine.gave = {place: of_gradient(each) for place, each in zip(mine.template.inputs.values(), found, strict=True)}
        return found


class _Repeat(torch.autograd.Function):
    """A layer that does not run."""

    @staticmethod
    def forward(ctx: Any, repeats: Repeats, mine: Ran, *_inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Give tensors of the right shapes."""
        assert mine.template is not None
        ctx.repeats, ctx.mine = repeats, mine
        ctx.set_materialize_grads(False)
        found = repeats.made(mine.template)
        fresh = mine.template.fresh.values()
        ctx.mark_non_differentiable(*(each for out, each in zip(fresh, found, strict=True) if not out.requires_grad))
        return found

    @staticmethod
    def backward(ctx: Any, *got: torch.Tensor | None) -> tuple[Any, ...]:
        """Give gradients of the right shapes."""
        return None, None, *ctx.repeats.gradients(ctx.mine, got)


def _hooked(layer: nn.Module) -> bool:
    """Whether somebody else waits for a part of it to run."""
    return any(
        not isinstance(hook, Hook)
        for part in layer.modules()
        for hooks in (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)  # noqa: SLF001
        for hook in hooks.values()
    )
