"""How long does a ZB-H1 pipeline take? The longest of the chains of passes that can hold up its step.

As in 1F1B a chain goes to a stage, stays there while it is busy, and goes back. Stage j begins with weight gradients
(W) only after its input gradient (I) of micro-batch j, so a stage has done m - 1 - j of them when its last input
gradient is done, and min(j + 1, m) are left. A chain can therefore leave the stage by its last input gradients, which
the stages before it wait for, and end with what is left there.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from hwprof.simulate.closed_forms.times import Floats, Integers, PipelineTimes, longest


def zb_h1_span_s(times: PipelineTimes) -> Floats:
    """From the first pass of any stage to the last. [configurations]."""
    chains = _Chains(times.with_sends_inside())
    p, m = chains.p, chains.m
    first, last = np.zeros_like(p), p - 1
    stages = (first, np.minimum(1, last), np.clip(p - m + 1, 0, last), last)
    return longest([*(chains.through_s(stage) for stage in stages), chains.short_s()])


class _Chains:
    """Chains of passes; stage indices are arrays. [configurations]."""

    def __init__(self, times: PipelineTimes) -> None:
        self.p, self.m, self.send_s = times.stages, times.micro_batches, times.send_s
        self.times = times

    def forward_s(self, j: Integers, k: Integers) -> Floats:
        """Forward passes of one micro-batch on the stages j to k."""
        return self._sum_s("forward_s", j, k)

    def input_s(self, j: Integers, k: Integers) -> Floats:
        """Input-gradient passes of one micro-batch on the stages j to k."""
        return self._sum_s("backward_input_s", j, k)

    def weight_s(self, j: Integers) -> Floats:
        """The weight-gradient pass of stage j."""
        return self._sum_s("backward_weight_s", j, j)

    def _sum_s(self, which: str, j: Integers, k: Integers) -> Floats:
        outer_s = np.where(j == 0, getattr(self.times.first, which), 0.0)
        outer_s += np.where(k == self.p - 1, getattr(self.times.last, which), 0.0)
        return np.where(k >= j, (k - j + 1) * getattr(self.times.typical, which) + outer_s, 0.0)

    def through_s(self, j: Integers) -> Floats:
        """The longest chain that comes to stage j first, and stays there or on the last stage."""
        p, m = self.p, self.m
        last, below = p - 1, p - 1 - j
        way_s = self.forward_s(0 * j, j - 1) + j * self.send_s
        forward_s, input_s = self.forward_s(j, j), self.input_s(j, j)
        loop_s = self.forward_s(j, last) + self.input_s(j, last) + 2 * below * self.send_s
        fill_s = np.maximum((below + 1) * forward_s + input_s, loop_s)
        leave_s = self.leave_s(j)
        advance = np.maximum(m - 2 - below, 0)
        weights = np.maximum(m - p, 0)
        single_s = advance * (forward_s + input_s) + weights * self.weight_s(j)
        on_last_s = advance * (self.forward_s(last, last) + self.input_s(last, last)) + weights * self.weight_s(last)
        stays_s = fill_s + single_s + leave_s
        chain_s = way_s + longest([stays_s, loop_s + on_last_s + leave_s])
        rows_s = (m - 1) * input_s + np.maximum(m - 1 - j, 0) * self.weight_s(j) + self.tail_s(j)
        few_s = way_s + longest([loop_s + rows_s, (m - 1) * forward_s + leave_s])
        slowest_s: Floats = np.where(m > below + 1, chain_s, few_s)
        return slowest_s

    def leave_s(self, j: Integers) -> Floats:
        """From the last forward pass of stage j to the end: down to a stage where it turns back."""
        forward_s, below = self.forward_s(j, j), self.p - 1 - j
        to_before_s = self.forward_s(j, self.p - 2) + (below - 1) * self.send_s + self._turned_s[0]
        to_last_s = self.forward_s(j, self.p - 1) + below * self.send_s + self._turned_s[1]
        return longest([forward_s + self.turned_s(j), np.where(below > 0, to_before_s, -np.inf), to_last_s])

    @cached_property
    def _turned_s(self) -> tuple[Floats, Floats]:
        return self.turned_s(np.maximum(self.p - 2, 0)), self.turned_s(self.p - 1)

    def turned_s(self, k: Integers) -> Floats:
        """From the input gradient of stage k that follows its last forward pass.

        Back up to stage i with that micro-batch, and there through the others, the weight gradients between included.
        """
        left, chains_s = self.p - 1 - k, []
        first, second = np.zeros_like(k), np.minimum(1, k)
        for i, tail_s in ((first, self.weight_s(first)), (second, self.tail_s(second)), (k, self.tail_s(k))):
            up_s = self.input_s(i, k) + (k - i) * self.send_s
            rows_s = left * self.input_s(i, i) + np.clip(self.m - 1 - i, 0, left) * self.weight_s(i)
            chains_s.append(up_s + rows_s + tail_s)
        return np.where(self.m > left, longest(chains_s), -np.inf)

    def tail_s(self, j: Integers) -> Floats:
        """What follows the last input gradient of stage j: weight gradients there or on a stage before it."""
        chains_s = []
        for i in (0 * j, np.minimum(self.m - 1, j), j):
            up_s = self.input_s(i, j - 1) + (j - i) * self.send_s
            chains_s.append(up_s + np.minimum(i + 1, self.m) * self.weight_s(i))
        return longest(chains_s)

    def short_s(self) -> Floats:
        """Where there are no more micro-batches than stages: one there and back, the others where they take longest.

        The step from one input gradient to the next on a stage has a forward pass in it near the end of the pipeline,
        a weight gradient near its start.
        """
        p, m = self.p, self.m
        first, last = np.zeros_like(p), p - 1
        second, before = np.minimum(1, last), np.maximum(p - 2, 0)
        way_s = self.forward_s(first, last) + self.input_s(first, last) + 2 * last * self.send_s
        down = {k: self.forward_s(s, s) + self.input_s(s, s) for k, s in (("last", last), ("before", before))}
        up = {k: self.weight_s(s) + self.input_s(s, s) for k, s in (("first", first), ("second", second))}
        rows_s = [
            (m - 1) * self.forward_s(first, first),
            (m - 1) * self.forward_s(before, before),
            (m - 1) * down["last"],
            np.where(m > 1, (m - 2) * down["before"] + up["first"], 0.0),
            np.where(m > 2, (m - 2) * down["before"] + up["second"], 0.0),
            np.where(m > 2, (m - 2) * up["second"] + np.maximum(down["last"], down["before"]), 0.0),
        ]
        return np.where(m <= p, way_s + longest(rows_s) + self.tail_s(first), -np.inf)
