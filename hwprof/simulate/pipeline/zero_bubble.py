"""In which order does a stage work when weight gradients fill the bubbles? ZB-H1 and ZB-V.

ZB-H1: Qi et al. 2023, "Zero Bubble Pipeline Parallelism", section 2.1: 1F1B with the backward pass split in two, weight
gradients put off so long that every stage keeps as many micro-batches as the first, and cool-down gaps filled with
them. Bubble (p - 1)(F + B - W), activations of p micro-batches on every stage.

ZB-V: the same paper, section 6, and Qi et al. 2024, "Pipeline Parallelism with Controllable Memory": every stage holds
two chunks, the model goes down the stages and up again, so the last chunk is on the first stage. No bubble where F, B
and W of a chunk take equally long; activations of 2p chunks (half the size of 1F1B's) on every stage.
"""

from __future__ import annotations

from hwprof.simulate.pipeline.passes import Item, backward_input, backward_weight, forward


def zb_h1_order(*, stages: int, micro_batches: int, stage: int) -> list[Item]:
    """The items of ``stage``: 1F1B with the weight gradients ``stage`` micro-batches late."""
    warm_up = min(stages - 1 - stage, micro_batches)
    items = [forward(0, k) for k in range(warm_up)]
    done = 0
    for k in range(micro_batches):
        if warm_up + k < micro_batches:
            items.append(forward(0, warm_up + k))
        items.append(backward_input(0, k))
        if k >= stage:
            items.append(backward_weight(0, done))
            done += 1
    return items + [backward_weight(0, k) for k in range(done, micro_batches)]


def zb_v_order(*, stages: int, micro_batches: int, stage: int) -> list[Item]:
    """The items of ``stage``; chunk 0 is on the way down, chunk 1 on the way up.

    The order is that of at least 2p - 1 micro-batches, of which those beyond ``micro_batches`` are left out.
    """
    queue = _VQueue(padded := max(micro_batches, 2 * stages - 1))
    for _ in range(2 * (stages - stage) - 1):
        queue.forward(0)
    for _ in range(stage):
        queue.forward(1)
        queue.forward(0)
    for _ in range(stages - stage):
        queue.forward(1)
        queue.backward_both(1)
    while queue.forwards[1] < padded:
        if queue.forwards[0] < padded:
            queue.forward(0)
        queue.backward_both(0)
        queue.forward(1)
        queue.backward_both(1)
    for _ in range(stage):
        queue.backward_input(0)
        queue.backward_input(1)
    for _ in range(stages - stage):
        queue.backward_input(0)
        queue.backward_weight(0)
    for chunk in (1, 0):
        while queue.weights[chunk] < padded:
            queue.backward_weight(chunk)
    return [item for item in queue.items if item[0].micro_batch < micro_batches]


class _VQueue:
    """Items of one stage of ZB-V while they are being put in order: the next micro-batch of each kind and chunk."""

    def __init__(self, micro_batches: int) -> None:
        self.micro_batches = micro_batches
        self.items: list[Item] = []
        self.forwards = [0, 0]
        self.inputs = [0, 0]
        self.weights = [0, 0]

    def forward(self, chunk: int) -> None:
        self.items.append(forward(chunk, self.forwards[chunk]))
        self.forwards[chunk] += 1

    def backward_input(self, chunk: int) -> None:
        self.items.append(backward_input(chunk, self.inputs[chunk]))
        self.inputs[chunk] += 1

    def backward_weight(self, chunk: int) -> None:
        self.items.append(backward_weight(chunk, self.weights[chunk]))
        self.weights[chunk] += 1

    def backward_both(self, chunk: int) -> None:
        self.backward_input(chunk)
        self.backward_weight(chunk)
