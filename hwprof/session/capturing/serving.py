"""What of a captured model does serving need to know? Its matrices, and what its own cache keeps for each sequence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from hwprof.count.blocks.parameters import parameter_tensors, parameters
from hwprof.deploy.model import Feed, Matrix, Mixing, ServedModel
from hwprof.specs.job.labels import layer_kind
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.captured import Cached

_EXPERT_MATRICES = 3
"""Matrices of an expert, as all of them are counted: other numbers of them count as wider or narrower experts."""


def served_capture(spec: ModelSpec, cache: Iterable[Cached]) -> ServedModel:
    """The model, with the cache after prompts of one sequence.

    Args:
        spec: the captured model.
        cache: of one sequence.
    """
    tensors = parameter_tensors(spec)
    own_head = any(tensor.label == "head" and len(tensor.shape) > 1 for tensor in tensors)
    matrices = tuple(_matrices(spec))
    found = ServedModel(
        name=spec.name,
        d_model=spec.d_model,
        vocab=spec.vocab_size,
        mixing=tuple(_mixing(spec, list(cache))),
        feed=(_dense(matrices, spec.d_model), *_routed(spec)),
        matrices=matrices,
        tied=not own_head,
        assumptions=(spec.notes, "what is kept for a sequence is what that class keeps"),
    )
    return found.beside(parameters(spec).total - found.parameters)


def _matrices(spec: ModelSpec) -> Iterator[Matrix]:
    """Those of linear layers in the stack of layers; what is outside, towers among it, is held and not multiplied."""
    for tensor in parameter_tensors(spec):
        if tensor.linear and "layers.*" in tensor.label and tensor.experts == 1:
            out, inside = tensor.shape
            yield Matrix(out=out, inside=inside, count=tensor.repeats, dense=layer_kind(tensor.label) == "ffn")


def _dense(matrices: Iterable[Matrix], d_model: int) -> Feed:
    """Layers with a dense network, by the matrices that lead back from it; its weights are among the matrices."""
    back = [matrix.count for matrix in matrices if matrix.dense and matrix.out == d_model]
    return Feed(layers=max(back, default=0), width=0)


def _routed(spec: ModelSpec) -> Iterator[Feed]:
    """Layers with routed experts, those of one size together."""
    elements: Counter[tuple[int, int]] = Counter()
    layers: dict[tuple[int, int], int] = defaultdict(int)
    for tensor in parameter_tensors(spec):
        if tensor.experts > 1:
            joined = tensor.shape[0] == tensor.experts and len(tensor.shape) > 1
            size = tensor.experts, tensor.top_k
            elements[size] += tensor.total
            layers[size] = max(layers[size], tensor.repeats if joined else tensor.repeats // tensor.experts)
    for (experts, top_k), total in elements.items():
        each = total / (layers[experts, top_k] * experts * spec.d_model * _EXPERT_MATRICES)
        yield Feed(
            layers=layers[experts, top_k],
            width=0,
            experts=experts,
            top_k=top_k,
            expert_width=round(each),
            matrices=_EXPERT_MATRICES,
        )


def _mixing(spec: ModelSpec, cache: list[Cached]) -> Iterator[Mixing]:
    """Layers that keep the same for a sequence."""
    by_layer: dict[int, list[Cached]] = defaultdict(list)
    for each in cache:
        by_layer[each.layer].append(each)
    alike = Counter(tuple(held) for held in by_layer.values())
    for held, layers in alike.items():
        tokens = [each for each in held if each.kind in {"tokens", "window"} and len(each.shape) == _KEYS]
        index = [each for each in held if each.kind == "tokens" and len(each.shape) < _KEYS]
        states = [each for each in held if each.kind == "state"]
        state_bytes = sum(each.elements * each.element_bytes for each in states)
        numbers = sum(each.elements for each in states)
        parts = [each.shape[1] for each in states if len(each.shape) > _SEQUENCES]
        keys, values = (tokens[0].shape, tokens[-1].shape) if tokens else ((1, 1, 1, 1), (1, 1, 1, 1))
        yield Mixing(
            layers=layers,
            kind="heads" if tokens else "linear",
            heads=spec.heads if tokens or not parts else min(parts),  # of a recurrence heads, else channels
            kv_heads=keys[1],
            head_dim=keys[-1],
            value_dim=values[-1],
            window=max((each.window for each in tokens), default=0),
            index_dim=sum(each.shape[-1] for each in index),
            held_bytes=state_bytes,
            held_numbers=numbers,
        )


_SEQUENCES = 1
"""Sizes before the parts of a state that ranks share."""

_KEYS = 4
"""Sizes of keys: sequences, heads, tokens, width."""
