"""What is the smallest piece of work in a pipeline? A pass, and the item that a stage runs at a time."""

from __future__ import annotations

from typing import Literal, NamedTuple

PassKind = Literal["forward", "backward", "backward_input", "backward_weight"]


class Pass(NamedTuple):
    """One direction of one model chunk for one micro-batch.

    Attributes:
        kind: ``backward`` is the whole backward pass; ``backward_input`` makes the gradient that the chunk before waits
            for, ``backward_weight`` the gradients of the chunk's own weights.
        chunk: which of the stage's chunks, from 0.
        micro_batch: which micro-batch, from 0.
    """

    kind: PassKind
    chunk: int
    micro_batch: int


Item = tuple[Pass, ...]
"""What a stage runs at a time: one pass, or a forward and a backward pass together."""


def forward(chunk: int, micro_batch: int) -> Item:
    """The forward pass of a chunk."""
    return (Pass("forward", chunk, micro_batch),)


def backward(chunk: int, micro_batch: int) -> Item:
    """The whole backward pass of a chunk."""
    return (Pass("backward", chunk, micro_batch),)


def backward_input(chunk: int, micro_batch: int) -> Item:
    """The backward pass of a chunk up to its input gradient; its weight gradients come later."""
    return (Pass("backward_input", chunk, micro_batch),)


def backward_weight(chunk: int, micro_batch: int) -> Item:
    """The weight gradients of a chunk."""
    return (Pass("backward_weight", chunk, micro_batch),)


def together(forward_item: Item, backward_item: Item) -> Item:
    """A forward and a backward pass of different micro-batches that run at the same time."""
    return forward_item + backward_item
