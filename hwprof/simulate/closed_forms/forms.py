"""How long does a pipeline take, without simulating it? Formulas over arrays of pipelines, for a search over many.

Each holds to what the engine gives for the same times; ``tests/simulate/closed_forms/test_forms.py`` says how closely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from hwprof.simulate.closed_forms.dualpipe import dualpipe_span_s
from hwprof.simulate.closed_forms.interleaved import interleaved_span_s
from hwprof.simulate.closed_forms.times import Floats, Integers, PipelineTimes, longest
from hwprof.simulate.closed_forms.zb_h1 import zb_h1_span_s
from hwprof.simulate.closed_forms.zb_v import zb_v_span_s
from hwprof.specs.job.schedules import Schedule

_BLOCK = 4096
"""Configurations at a time: the arrays of a formula then stay in the processor's cache."""


def pipeline_span_s(schedule: Schedule, times: PipelineTimes) -> Floats:
    """From the start of a pipeline's first pass to the end of its last, in seconds. [configurations].

    The numbers of stages, chunks and micro-batches must be such as the schedule can run
    (:func:`hwprof.simulate.pipeline.schedules.schedule_refusal`).
    """
    formula = _SPANS[schedule]
    span_s = np.empty(len(times.stages))
    for start in range(0, len(span_s), _BLOCK):
        block = slice(start, start + _BLOCK)
        span_s[block] = formula(times.at(block))
    return span_s


def _gpipe_span_s(times: PipelineTimes) -> Floats:
    """One micro-batch there and back, the others behind it at the pace of the slowest stage of each direction."""
    chain = _Chain(times.with_sends_inside())
    everywhere = np.zeros_like(chain.p), chain.p - 1
    slowest_s = chain.slowest_forward_s(*everywhere) + chain.slowest_backward_s(*everywhere)
    return chain.there_and_back_s(*everywhere) + (chain.m - 1) * slowest_s


def _one_forward_one_backward_span_s(times: PipelineTimes) -> Floats:
    """The longest chain of passes that wait for each other, over the stages that it can stay on."""
    chain = _Chain(times.with_sends_inside())
    p, m, first = chain.p, chain.m, np.zeros_like(chain.p)
    on_last_s = chain.way_s(p - 1) + m * chain.there_and_back_s(p - 1, p - 1)
    stages = (first, np.minimum(first + 1, p - 1), np.clip(p - m + 1, 0, p - 1))
    return longest([on_last_s, *(chain.span_through_s(stage) for stage in stages)])


class _Chain:
    """Chains of passes through pipelines of one chunk a stage. Stage indices are arrays: [configurations].

    In 1F1B stage j runs p - 1 - j forward passes before its first backward pass. A chain that goes down from stage j to
    stage k and back comes to a forward pass k - j + 1 micro-batches later: such loops make up the steady state.
    """

    def __init__(self, times: PipelineTimes) -> None:
        self.p, self.m, self.send_s = times.stages, times.micro_batches, times.send_s
        self.typical, self.first, self.last = times.typical, times.first, times.last

    def there_and_back_s(self, j: Integers, k: Integers | Floats) -> Floats:
        """One micro-batch forward from stage j to k and backward from k to j."""
        outer_s = np.where(j == 0, self.first.both_s, 0.0) + np.where(k == self.p - 1, self.last.both_s, 0.0)
        whole_s: Floats = (k - j + 1) * self.typical.both_s + outer_s + 2 * (k - j) * self.send_s
        return whole_s

    def slowest_forward_s(self, j: Integers, k: Integers) -> Floats:
        """The longest forward pass on the stages j to k."""
        return self._slowest_s(self.typical.forward_s, self.first.forward_s, self.last.forward_s, j, k)

    def slowest_backward_s(self, j: Integers, k: Integers) -> Floats:
        """The longest backward pass on the stages j to k."""
        return self._slowest_s(self.typical.backward_s, self.first.backward_s, self.last.backward_s, j, k)

    def _slowest_s(self, typical_s: Floats, first_s: Floats, last_s: Floats, j: Integers, k: Integers) -> Floats:
        p = self.p
        outermost_s = [
            np.where(j == 0, typical_s + first_s + np.where(p == 1, last_s, 0.0), -np.inf),
            np.where(k == p - 1, typical_s + last_s + np.where(p == 1, first_s, 0.0), -np.inf),
            np.where(np.maximum(j, 1) <= np.minimum(k, p - 2), typical_s, -np.inf),
        ]
        return longest(outermost_s)

    def way_s(self, j: Integers) -> Floats:
        """One micro-batch from the first stage to the one before j, and back."""
        return np.where(j > 0, self.first.both_s, 0.0) + j * (self.typical.both_s + 2 * self.send_s)

    def span_through_s(self, j: Integers) -> Floats:
        """The longest chain whose loops begin at stage j.

        To stage j; down from there while the pipeline fills; loops; down again while it drains; back to the first.
        """
        p, m, top = self.p, self.m, np.zeros_like(self.p)
        turns = (j, np.maximum(p - 2, j), p - 1)
        downs_s, ups_s, shorts_s = [], [], []
        for k in turns:
            loop_s = self.there_and_back_s(j, k)
            forward_s, backward_s = self.slowest_forward_s(top, k), self.slowest_backward_s(top, k)
            downs_s.append(loop_s + (p - 1 - k) * forward_s)
            ups_s.append(loop_s + (p - 1 - k) * backward_s)
            both = np.minimum(p - 1 - k, m - 1)
            rows_s = (m - 1 - both) * np.maximum(forward_s, backward_s) + both * (forward_s + backward_s)
            shorts_s.append(loop_s + rows_s)
        steady_s = longest(downs_s) + self._loops_s(j, m - 1 - (p - j), turns[1:]) + longest(ups_s)
        return self.way_s(j) + np.where(m > p - j, steady_s, longest(shorts_s))

    def _loops_s(self, j: Integers, micro_batches: Integers, turns: Iterable[Integers]) -> Floats:
        """The longest way to go on by a number of micro-batches in loops from stage j."""
        advance = np.maximum(micro_batches, 0)
        single_s = self._slowest_s(self.typical.both_s, self.first.both_s, self.last.both_s, j, self.p - 1)
        longest_s = advance * single_s
        for k in turns:
            loops = np.floor(advance / (k - j + 1))
            rest = advance - loops * (k - j + 1)
            rest_s = np.maximum(self.there_and_back_s(j, j + rest - 1), rest * single_s)
            loops_s = loops * self.there_and_back_s(j, k) + np.where(rest > 0, rest_s, 0.0)
            longest_s = np.maximum(longest_s, loops_s)
        return longest_s


def _interleaved_span_s(times: PipelineTimes) -> Floats:
    """With one chunk a stage the interleaved schedule is 1F1B."""
    span_s = np.empty(len(times.stages))
    for one, formula in ((True, _one_forward_one_backward_span_s), (False, interleaved_span_s)):
        chosen = (times.chunks == 1) == one
        if chosen.any():
            span_s[chosen] = formula(times.at(chosen))
    return span_s


_SPANS: dict[Schedule, Callable[[PipelineTimes], Floats]] = {
    "gpipe": _gpipe_span_s,
    "1f1b": _one_forward_one_backward_span_s,
    "interleaved": _interleaved_span_s,
    "zb-h1": zb_h1_span_s,
    "zb-v": zb_v_span_s,
    "dualpipe": dualpipe_span_s,
}
