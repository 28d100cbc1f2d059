"""How do tensor ranks share what the plan of a captured model's class leaves whole? As the sizes of its matrices say.

Within one block of a layer, what reads the residual stream is split by outputs and what writes it by inputs; kernels of
convolutions, vectors of channels and heads, and the recurrence between them are split with these (Shoeybi et al. 2019,
section 3; Megatron-Core 0.16, ``ssm/mamba_mixer.py`` and ``ssm/gated_delta_net.py``). Routers, narrow projections and
blocks that are built in another way stay whole.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hwprof.specs.model.captured import CapturedModel, CapturedTensor, Piece, TensorWay

Key = tuple[str, tuple[int, ...]]
Ways = dict[Key, TensorWay]

_RENAMED = (
    *(".attention.query", ".attention.key", ".attention.value", ".attention.output"),
    *(".ffn.gate", ".ffn.up", ".ffn.down"),
)
"""What labels say in place of the names of transformers' projections."""

_COLUMN = re.compile(r"\.(attention\.(query|key|value)|ffn\.(gate|up)|in_proj)$")
_READS = re.compile(r"[._](q|k|v|qkv|query|key|value|gate|up|in|receptance)(_[a-z]+)?$")
"""Names of what reads the stream, however wide."""

_ROW = re.compile(r"\.(attention\.output|ffn\.down|out_proj)$")
_ROUTER = re.compile(r"router|(?<!ffn)\.gate$")
_LAYER = "layers.*"
_NARROWEST = 1 / 16
"""Of the stream; what is narrower is an adapter or a gate, and no network of its own."""

_LEAST = 0.5
"""A rule that leaves most of the layers' weights whole does not know the model."""


def block_of(label: str) -> str:
    """The module that holds a projection."""
    ending = next((each for each in _RENAMED if label.endswith(each)), f".{label.rpartition('.')[2]}")
    return label.removesuffix(ending)


def shared(captured: CapturedModel, *, d_model: int, vocab_size: int) -> CapturedModel:
    """The same with a way for weights of which its class says nothing; as it was where most of the layers stay whole.

    Args:
        captured: the model.
        d_model: width of the residual stream.
        vocab_size: rows of the table of tokens.
    """
    planned = {tensor.label for tensor in captured.tensors if tensor.split}
    places = {label: place for place, label in enumerate(dict.fromkeys(row.label for row in captured.shots[0].rows))}
    open_ones = [tensor for tensor in captured.tensors if tensor.label not in planned]
    open_ones.sort(key=lambda tensor: places.get(tensor.label, len(places)))
    repeats = {(tensor.label, tensor.shape): tensor.repeats for tensor in open_ones}
    found: dict[Key, dict[str, Any]] = {}
    for block, matrices in _blocks(open_ones, d_model).items():
        ways = _matrices(matrices, d_model)
        ways = _with_vectors(block, ways, open_ones) if block != _LAYER or _is_network(ways, d_model) else {}
        found |= {key: {"split": way, "ruled": bool(way)} for key, way in ways.items()}
        for key, (rows, groups) in _grouped_rows(ways, repeats, captured.pieces).items():
            found[key] |= {"grouped_rows": rows, "groups": groups}
    for tensor in open_ones:
        way = _outside_blocks(tensor, d_model, vocab_size)
        if way:
            found[tensor.label, tensor.shape] = {"split": way, "ruled": True}
    ruled = captured.changed(
        tensors=tuple(
            tensor.changed(**found.get((tensor.label, tensor.shape), {})) if tensor.label not in planned else tensor
            for tensor in captured.tensors
        )
    )
    return ruled if ruled.shared_share >= _LEAST else captured


def without_gathering(captured: CapturedModel, *, d_model: int, vocab_size: int) -> CapturedModel:
    """The same where parts around which its class's plan gathers are split like those of which it says nothing.

    Megatron-Core splits such parts and knows no plan (``ssm/gated_delta_net.py``).
    """
    gathered = {
        block_of(tensor.label) for tensor in captured.tensors if tensor.split == "gathered" and _LAYER in tensor.label
    }
    opened = (tensor.changed(split="") if block_of(tensor.label) in gathered else tensor for tensor in captured.tensors)
    return shared(captured.changed(tensors=tuple(opened)), d_model=d_model, vocab_size=vocab_size)


def _blocks(tensors: Sequence[CapturedTensor], d_model: int) -> dict[str, list[CapturedTensor]]:
    """Matrices by the module that holds them, in the order in which they run."""
    blocks: defaultdict[str, list[CapturedTensor]] = defaultdict(list)
    for tensor in tensors:
        if tensor.linear and tensor.experts == 1 and tensor.label.startswith(f"{_LAYER}."):
            blocks[block_of(tensor.label)].append(tensor)
    deepest = max((block.count(".") for block in blocks), default=0)
    for depth in range(deepest, _LAYER.count("."), -1):
        for block in [each for each in blocks if each.count(".") == depth]:
            if not _matrices(blocks[block], d_model):
                blocks[block.rpartition(".")[0]] += blocks.pop(block)  # a part of it, as a gate of two matrices
    order = {id(tensor): place for place, tensor in enumerate(tensors)}
    return {block: sorted(found, key=lambda tensor: order[id(tensor)]) for block, found in blocks.items()}


def _matrices(matrices: Sequence[CapturedTensor], d_model: int) -> Ways:
    """Ways of one block's matrices, in the order in which they run; none where nothing reads or writes the stream."""
    known = [each for each in matrices if len(each.shape) == 2 and not _ROUTER.search(each.label)]
    rows = _writers(known, d_model)
    inner = {each.shape[1] for each in known if each.label in rows}
    widest = max(d_model, *inner, 0)
    ways: Ways = {}
    narrow: list[int] = []
    for each in known:
        out, inside = each.shape
        reads = inside == d_model or _COLUMN.search(each.label)
        if each.label in rows or (not reads and inside in inner):
            ways[each.label, each.shape] = "row"  # of a narrow result, whole from there on
        elif reads and out > 1:
            ways[each.label, each.shape] = "column"
        elif inside < widest:
            ways[each.label, each.shape] = "column"
            narrow.append(inside)
    if not any(way == "row" and shape[0] != d_model for (_, shape), way in ways.items()):
        for width in narrow:
            before = [
                key
                for key, way in ways.items()
                if way == "column" and width <= key[1][0] < widest and key[1][1] == d_model
            ]
            nearest = min(before, key=lambda key: key[1][0], default=None)
            if nearest is not None:  # it makes what is narrow, on each rank
                ways[nearest] = ""
    known_block = {"column", "row"} <= set(ways.values()) and max(inner) >= _NARROWEST * d_model
    return ways if known_block else {}


def _writers(known: Sequence[CapturedTensor], d_model: int) -> set[str]:
    """Labels of what writes the stream; of matrices as wide as it on both sides that which runs last."""
    open_ones = [each for each in known if not _COLUMN.search(each.label)]
    rows = {each.label for each in open_ones if each.shape[0] == d_model != each.shape[1] or _ROW.search(each.label)}
    for repeats in {each.repeats for each in known}:
        own = [each for each in open_ones if each.repeats == repeats]
        square = [each.label for each in own if set(each.shape) == {d_model} and not _READS.search(each.label)]
        if square and not rows & {each.label for each in own}:
            rows.add(square[-1])
    return rows


def _is_network(ways: Ways, d_model: int) -> bool:
    """Whether matrices right below a layer are its feed-forward network, and no narrow projection of each layer."""
    outs = {shape[0] for (_, shape), way in ways.items() if way == "column"}
    insides = {shape[1] for (_, shape), way in ways.items() if way == "row"}
    return bool(outs) and outs == insides and min(outs) >= d_model


def _with_vectors(block: str, ways: Ways, tensors: Sequence[CapturedTensor]) -> Ways:
    """The same with what lies between the matrices: biases, kernels of convolutions, vectors of channels and heads."""
    inner = {shape[1] for (_, shape), way in ways.items() if way == "row"}
    of_label = {label: way for (label, _), way in ways.items()}
    kernels = {block, *(tensor.label for tensor in tensors if len(tensor.shape) > _MATRIX)}
    last = max((place for place, each in enumerate(tensors) if of_label.get(each.label) == "row"), default=0)
    found = dict(ways)
    for place, tensor in enumerate(tensors):
        key = tensor.label, tensor.shape
        if key in ways or tensor.experts > 1 or (tensor.linear and tensor.label != block):
            continue
        if tensor.label in of_label:
            found[key] = "column" if of_label[tensor.label] == "column" else ""
        elif block != _LAYER and f"{tensor.label}.".startswith(f"{block}."):
            own = tensor.label in kernels or (tensor.shape[0] in inner and place < last)
            found[key] = "inside" if tensor.shape[0] > 1 and own else ""
    return found


_MATRIX = 2
"""Sizes of a matrix; kernels of convolutions have more."""


def _grouped_rows(ways: Ways, repeats: Mapping[Key, int], pieces: Sequence[Piece]) -> dict[Key, tuple[int, int]]:
    """Rows that belong to groups of heads, B and C of a state space, and how many groups there are."""
    groups = next((piece.count for piece in pieces if piece.repeated), 0)
    kernels = [key for key, way in ways.items() if way == "inside" and len(key[1]) > _MATRIX]
    if not groups or not kernels:
        return {}
    channels, often = kernels[0][1][0], repeats[kernels[0]]
    inner = [key[1][1] for key, way in ways.items() if way == "row" and repeats[key] == often]
    rows = channels - max(inner, default=channels)
    wide = {key for key, way in ways.items() if way == "column" and key[1][0] >= 2 * channels - rows}
    if rows <= 0 or rows % groups:
        return {}
    grouped = wide | {key for key, way in ways.items() if way == "inside" and key[1][0] == channels}
    return dict.fromkeys((key for key in grouped if repeats[key] == often), (rows, groups))


def _outside_blocks(tensor: CapturedTensor, d_model: int, vocab_size: int) -> TensorWay:
    """Of matrices of experts, and of tables of tokens, whose results are gathered."""
    if tensor.experts > 1 and len(tensor.shape) > 1 and _LAYER in tensor.label:
        return "column" if tensor.shape[-1] == d_model else "row"
    return "gathered" if tensor.shape == (vocab_size, d_model) and _LAYER not in tensor.label else ""


def narrow_widths(tensors: Iterable[CapturedTensor], block: str, d_model: int) -> set[int]:
    """Widths between the matrices of a block that are whole on each rank."""
    own = [each for each in tensors if each.linear and len(each.shape) == _MATRIX and block_of(each.label) == block]
    whole = {each.shape[0] for each in own if not each.split}
    read = {each.shape[1] for each in own if each.split == "column"}
    summed = [each.shape[0] for each in own if each.split == "row" and each.shape[0] != d_model]
    return {*(whole | read) - {d_model}, *range(1, max(summed, default=0) + 1)}  # what is summed has parts


def undivided(captured: CapturedModel, ranks: int) -> str:
    """What so many ranks can't share by this rule, and the nearest numbers of ranks that can; empty where they can."""
    fact = next(_facts(captured, ranks), "")
    if not fact:
        return ""
    fit = [degree for degree in range(1, 2 * ranks + 1) if not any(_facts(captured, degree))]
    near = [*[degree for degree in fit if degree < ranks][-1:], *[degree for degree in fit if degree > ranks][:1]]
    return f"{fact} do not divide by tensor parallel {ranks} (nearest: {' and '.join(map(str, near))})"


def _facts(captured: CapturedModel, ranks: int) -> Iterator[str]:
    ruled = [tensor for tensor in captured.tensors if tensor.ruled and tensor.experts == 1 and _LAYER in tensor.label]
    if any(tensor.split == "inside" and len(tensor.shape) > _MATRIX for tensor in ruled):
        for piece in captured.pieces:
            if piece.count % ranks and not (piece.repeated and ranks % piece.count == 0):
                yield f"{piece.count} {piece.what}"
    for tensor in ruled:
        width = tensor.shape[1] if tensor.split == "row" else tensor.shape[0]
        if width % ranks and not tensor.grouped_rows:
            yield f"{width} channels of {tensor.label}"
