"""What was seen of a model that nobody described? Rows of its operations, captured at some shapes, and its weights."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Annotated, Literal

from pydantic import Field

from hwprof.specs.frozen import Record

TensorWay = Literal["", "column", "gathered", "row", "inside"]
"""How tensor ranks share a weight: not at all; by outputs, which stay split or are gathered at once; by inputs; with
what it works on, channels and heads that are split already."""

Amount = Annotated[int, Field(ge=0, strict=True)]


class CapturedCost(Record):
    """Work and traffic of one direction.

    Attributes:
        matmul_flop: of matrix multiplications, with all of attention.
        causal_matmul_flop: the same with half of attention that was called with ``is_causal``.
        vector_flop: all other.
        read_bytes, write_bytes: what its kernels load and store.
    """

    matmul_flop: Amount = 0
    causal_matmul_flop: Amount = 0
    vector_flop: Amount = 0
    read_bytes: Amount = 0
    write_bytes: Amount = 0


class CapturedRow(Record):
    """One operator of one module; equal layers are one row, its numbers those of one instance.

    Attributes:
        label: of the module, in the words of :mod:`hwprof.specs.job.labels`.
        kind: of the op table where it is like one of it, else the operator's name.
        layer_kind: the kind of layer, a word of ``hwprof.specs.job.settings.LayerKind``.
        repeats: how many instances there are.
        calls: of the operator in the forward pass of one instance.
        forward, backward, recompute: costs.
        saved_bytes: kept for backward.
        weight_saved_bytes: how much less that is of a frozen model; below 0 where an operator after another that had
            kept a memory first now has to keep it. 0 where this was not asked.
        weight_copy_bytes: narrow copies of weights, kept for backward.
        output_bytes: size of the result, of the head alone.
        parameters: of one instance.
    """

    label: str
    kind: str
    layer_kind: str
    repeats: Amount
    calls: Annotated[int, Field(ge=1, strict=True)] = 1
    forward: CapturedCost
    backward: CapturedCost
    recompute: CapturedCost
    saved_bytes: Amount
    weight_saved_bytes: int = 0
    weight_copy_bytes: Amount
    output_bytes: Amount = 0
    parameters: Amount = 0


class CapturedShot(Record):
    """One pass, forward and backward.

    Attributes:
        batch_size: sequences.
        seq_len: tokens of a sequence, of the source in an encoder-decoder.
        target_len: tokens of an encoder-decoder's target; None = there is none.
        rows: what ran.
    """

    batch_size: int
    seq_len: int
    target_len: int | None = None
    rows: tuple[CapturedRow, ...]


class CapturedTensor(Record):
    """Weights of one shape of one row.

    Attributes:
        label: of the row.
        shape: as torch stores it.
        repeats: how many there are.
        experts: how many experts' weights it is one of, or joins; 1 = it is of none.
        top_k: how many of these a token meets.
        linear: whether it is the matrix of a linear layer.
        trained: whether it gets a gradient.
        split: how tensor ranks share it; empty = each has all of it.
        ruled: whether its class says nothing of that (:mod:`hwprof.specs.model.sharing`).
        grouped_rows: how many of its rows belong to groups of heads.
        groups: how many groups there are; more ranks than these repeat them.
    """

    label: str
    shape: tuple[int, ...]
    repeats: int
    experts: int = 1
    top_k: int = 1
    linear: bool = False
    trained: bool = True
    split: TensorWay = ""
    ruled: bool = False
    grouped_rows: Amount = 0
    groups: Amount = 1


def rank_share(ranks: int, *, grouped: float, groups: int) -> float:
    """Which share of a split weight a rank has, of which such a share belongs to groups of heads."""
    return (1 - grouped) / ranks + grouped / min(groups, ranks)


class Piece(Record):
    """What of a recurrence no rank can have a part of.

    Attributes:
        what: in words.
        count: how many there are.
        repeated: whether ranks beyond these may have the same.
    """

    what: str
    count: Annotated[int, Field(ge=1, strict=True)]
    repeated: bool = False


class CapturedModel(Record):
    """A model that was captured.

    Attributes:
        by: whose class it is.
        tensors: its weights.
        shots: passes of the same model at several batch sizes.
        pieces: of its recurrences.
    """

    by: str
    tensors: tuple[CapturedTensor, ...]
    shots: tuple[CapturedShot, ...]
    pieces: tuple[Piece, ...] = ()

    @property
    def tensor_plan(self) -> bool:
        """Whether it is known how tensor ranks share weights of its layers."""
        return any(tensor.split and "layers.*" in tensor.label for tensor in self.tensors)

    @property
    def shared_share(self) -> float:
        """Share of the layers' weights that tensor ranks split."""
        return self._share(lambda tensor: bool(tensor.split))

    @property
    def ruled_share(self) -> float:
        """Share of the layers' weights that are split though its class does not say so."""
        return self._share(lambda tensor: tensor.ruled)

    def _share(self, chosen: Callable[[CapturedTensor], bool]) -> float:
        layers = [tensor for tensor in self.tensors if "layers.*" in tensor.label]
        sizes = [prod(tensor.shape) * tensor.repeats for tensor in layers]
        split = [size for tensor, size in zip(layers, sizes, strict=True) if chosen(tensor)]
        return sum(split) / max(sum(sizes), 1)

    def expert_width(self, d_model: int) -> int:
        """Numbers of a token that go to each of its experts: the residual stream's, or a latent width's.

        Experts of a latent width stand behind projections of their own (Nemotron 3 Super).
        """
        stacks = [tensor.shape for tensor in self.tensors if tensor.experts > 1]
        return d_model if not stacks or any(d_model in shape for shape in stacks) else stacks[0][-1]

    @property
    def routed(self) -> tuple[int, int, int]:
        """How many routed experts a layer has, how many a token meets, and how many layers have some; 1, 0, 0: none."""
        found = [tensor for tensor in self.tensors if tensor.experts > 1]
        if not found:
            return 1, 0, 0
        most = max(found, key=lambda tensor: tensor.repeats * tensor.shape[0])
        joined = most.shape[0] == most.experts
        return most.experts, most.top_k, most.repeats if joined else most.repeats // most.experts
