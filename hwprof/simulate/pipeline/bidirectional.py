"""In which order does a stage work when micro-batches enter from both ends? DualPipe.

DeepSeek-AI 2024, "DeepSeek-V3 Technical Report", section 3.2.1, and the schedule that its authors published
(github.com/deepseek-ai/DualPipe). Every stage holds two chunks, one of each copy of the model; half of the
micro-batches enter at the first stage, half at the last. In the steady state the forward pass of one direction runs
together with the backward pass of the other, so that each hides the other's communication. Bubble
(p/2 - 1)(F&B + B - 3W) with B the whole backward pass, which takes the forward pass to last as long as the
input-gradient pass; activations of p + 1 micro-batches, weights twice.
"""

from __future__ import annotations

from collections import deque

from hwprof.simulate.pipeline.passes import Item, Pass, backward, backward_input, backward_weight, forward, together


def dualpipe_order(*, stages: int, micro_batches: int, stage: int) -> list[Item]:
    """The items of ``stage``; chunk 0 serves the micro-batches that enter at the first stage (the first half of them).

    ``near`` is the direction whose entry is closer to the stage, ``far`` the other; the two halves of the pipeline
    mirror each other.
    """
    near = int(stage >= stages // 2)
    depth = min(stage, stages - 1 - stage)
    queue = _TwoWayQueue(half=micro_batches // 2)
    _fill(queue, near=near, depth=depth, rest=stages // 2 - 1 - depth)
    for _ in range(micro_batches // 2 - stages + depth):
        queue.together(near, 1 - near)
        queue.together(1 - near, near)
    _drain(queue, near=near, depth=depth, rest=stages // 2 - 1 - depth)
    return queue.items


def _fill(queue: _TwoWayQueue, *, near: int, depth: int, rest: int) -> None:
    """Until forward and backward passes of both directions are there; ``rest`` stages on is the middle."""
    far = 1 - near
    for _ in range(2 * rest):
        queue.forward(near)
    for _ in range(depth + 1):
        queue.forward(near)
        queue.forward(far)
    for _ in range(rest):
        queue.backward_input(far)
        queue.backward_weight()
        queue.forward(far)
    if rest:
        queue.together(near, far)
    else:  # in the very middle they start earlier apart
        queue.forward(near)
        queue.backward(far)
    queue.together(far, near)


def _drain(queue: _TwoWayQueue, *, near: int, depth: int, rest: int) -> None:
    """The backward passes that are left; weight gradients are put off to fill the gaps between them."""
    far = 1 - near
    for _ in range(rest):
        queue.backward(far)
        queue.together(far, near)
    for k in range(2 * (depth + 1)):  # the second half of these backward passes is split
        chunk = (far, near)[k % 2]
        if k > depth:
            queue.backward_input(chunk)
        else:
            queue.backward(chunk)
    for _ in range(rest):
        queue.backward_weight()
        queue.backward_input(near)
    for _ in range(depth + 1):
        queue.backward_weight()


class _TwoWayQueue:
    """Items of one stage of DualPipe while they are being put in order."""

    def __init__(self, *, half: int) -> None:
        self.items: list[Item] = []
        self._forwards = [0, half]
        self._backwards = [0, half]
        self._put_off: deque[Pass] = deque()

    def _next(self, counters: list[int], chunk: int) -> int:
        counters[chunk] += 1
        return counters[chunk] - 1

    def forward(self, chunk: int) -> None:
        self.items.append(forward(chunk, self._next(self._forwards, chunk)))

    def backward(self, chunk: int) -> None:
        self.items.append(backward(chunk, self._next(self._backwards, chunk)))

    def backward_input(self, chunk: int) -> None:
        item = backward_input(chunk, self._next(self._backwards, chunk))
        self._put_off.append(item[0])
        self.items.append(item)

    def backward_weight(self) -> None:
        oldest = self._put_off.popleft()
        self.items.append(backward_weight(oldest.chunk, oldest.micro_batch))

    def together(self, forward_chunk: int, backward_chunk: int) -> None:
        forward_item = forward(forward_chunk, self._next(self._forwards, forward_chunk))
        backward_item = backward(backward_chunk, self._next(self._backwards, backward_chunk))
        self.items.append(together(forward_item, backward_item))
