"""What does a closed form need to know of a pipeline? Times of a typical chunk and how the outer two differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Selection = npt.NDArray[np.bool_] | slice


@dataclass(frozen=True, slots=True, kw_only=True)
class PassTimes:
    """Seconds of the three passes of a chunk for one micro-batch, or what they take more or less. [configurations].

    Attributes:
        forward_s: the forward pass.
        backward_input_s: the backward pass up to the input gradient.
        backward_weight_s: the gradients of the chunk's weights.
    """

    forward_s: Floats
    backward_input_s: Floats
    backward_weight_s: Floats

    def at(self, chosen: Selection) -> Self:
        """Some of the configurations."""
        return type(self)(
            forward_s=self.forward_s[chosen],
            backward_input_s=self.backward_input_s[chosen],
            backward_weight_s=self.backward_weight_s[chosen],
        )

    @property
    def backward_s(self) -> Floats:
        """The whole backward pass."""
        return self.backward_input_s + self.backward_weight_s

    @property
    def both_s(self) -> Floats:
        """Forward and backward pass."""
        return self.forward_s + self.backward_s


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineTimes:
    """Many pipelines with the same schedule, one an element; every array is [configurations].

    Attributes:
        stages: pipeline stages p.
        chunks: model chunks v on each.
        micro_batches: micro-batches m of a step.
        typical: a chunk in the middle of the model.
        first: what the first chunk of the model takes more (embedding) or, below zero, less (fewer layers).
        last: what the last chunk takes more (output head, loss) or less.
        send_s: passing an output to the next stage, or its gradient back.
        overlap_send: messages travel while the sender goes on working.
        hidden_s: what a forward and a backward pass save when they run together (DualPipe).
    """

    stages: Integers
    chunks: Integers
    micro_batches: Integers
    typical: PassTimes
    first: PassTimes
    last: PassTimes
    send_s: Floats
    overlap_send: npt.NDArray[np.bool_]
    hidden_s: Floats

    def at(self, chosen: Selection) -> Self:
        """Some of the configurations."""
        return type(self)(
            stages=self.stages[chosen],
            chunks=self.chunks[chosen],
            micro_batches=self.micro_batches[chosen],
            typical=self.typical.at(chosen),
            first=self.first.at(chosen),
            last=self.last.at(chosen),
            send_s=self.send_s[chosen],
            overlap_send=self.overlap_send[chosen],
            hidden_s=self.hidden_s[chosen],
        )

    def with_sends_inside(self) -> Self:
        """The same pipelines with exposed sends as part of the passes before them: only travelling messages are left.

        A stage that waits for its message to arrive is as busy as with a longer pass. The last chunk sends no output,
        the first no gradient.
        """
        send_s = np.where(self.stages > 1, self.send_s, 0.0)
        exposed_s = np.where(self.overlap_send, 0.0, send_s)
        return replace(
            self,
            typical=replace(
                self.typical,
                forward_s=self.typical.forward_s + exposed_s,
                backward_input_s=self.typical.backward_input_s + exposed_s,
            ),
            first=replace(self.first, backward_input_s=self.first.backward_input_s - exposed_s),
            last=replace(self.last, forward_s=self.last.forward_s - exposed_s),
            send_s=send_s - exposed_s,
            overlap_send=np.ones_like(self.overlap_send),
        )


def longest(chains_s: Iterable[Floats]) -> Floats:
    """The longest of several chains of passes, for each configuration."""
    longest_s: Floats = np.maximum.reduce(list(chains_s))
    return longest_s
