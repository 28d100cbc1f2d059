"""How long does a ZB-V pipeline take? The longest of the chains of passes that can hold up its step.

A chain gets to a stage (the first wait that it can't avoid there: its first pass, or the micro-batch coming up again,
or its gradient going down, or up), stays with the stage's work, and leaves it along one of the last micro-batches. The
orders of ``zero_bubble.zb_v_order`` say how much of a stage's work lies before and after; both outer chunks of the
model are on the first stage.

Letters, as in Qi et al. 2024: p stages, m micro-batches; F, I (there B) and W the passes of a typical chunk (forward,
input gradient, weight gradient), F0 ... of chunk 0 on the way down, F1 ... of chunk 1 on the way up; s one message to
the next stage; j a stage.
"""

from __future__ import annotations

import numpy as np

from hwprof.simulate.closed_forms.times import Floats, Integers, PipelineTimes, longest


def zb_v_span_s(times: PipelineTimes) -> Floats:
    """From the first pass of any stage to the last. [configurations]."""
    chains = _Chains(times)
    p = chains.p
    stages = (np.zeros_like(p), np.minimum(1, p - 1), np.maximum(p - 2, 0), p - 1)
    many_s = longest([chains.starts_s(j) + chains.work_s(j) + chains.ends_s(j) for j in stages])
    return np.where(chains.m >= 2 * p - 1, many_s, chains.few_s())


class _Chains:
    """Chains of passes; stage indices are arrays. [configurations].

    Attributes:
        p, m, s, f, i, w: the letters, in seconds where they are times.
        down_f, down_i, down_w: what F0, I0, W0 of stage 0 take more: its chunk is the first of the model.
        up_f, up_i, up_w: what F1, I1, W1 of stage 0 take more: its chunk is the last of the model.
        turn_f, turn_i: what F0 and I1 of the last stage take more: below zero where sends are exposed, as the chunks on
            either side of the turn are on the same stage and send nothing.
    """

    def __init__(self, times: PipelineTimes) -> None:
        inside = times.with_sends_inside()
        self.p, self.m, self.s = inside.stages, inside.micro_batches, inside.send_s
        typical, down, up = inside.typical, inside.first, inside.last
        self.f, self.i, self.w = typical.forward_s, typical.backward_input_s, typical.backward_weight_s
        self.down_f, self.down_i, self.down_w = down.forward_s, down.backward_input_s, down.backward_weight_s
        self.up_f, self.up_i, self.up_w = up.forward_s, up.backward_input_s, up.backward_weight_s
        self.turn_f = self.turn_i = times.typical.forward_s - typical.forward_s

    def work_s(self, j: Integers) -> Floats:
        """All passes of stage j."""
        outer_s = self.down_f + self.down_i + self.down_w + self.up_f + self.up_i + self.up_w
        turn_s = self.turn_f + self.turn_i
        extra_s = np.where(j == 0, outer_s, 0.0) + np.where(j == self.p - 1, turn_s, 0.0)
        work_s: Floats = self.m * (2 * (self.f + self.i + self.w) + extra_s)
        return work_s

    def starts_s(self, j: Integers) -> Floats:
        """The longest way to one of the places where stage j waits, less its work before that.

        ``to_*`` is the way there through other stages, ``before_*`` what stage j has done by then, item after item of
        ``zero_bubble.zb_v_order``: F0 in a row; j times F1 and F0; F1, I1 and W1, p - j times.
        """
        p, s, f, i, w = self.p, self.s, self.f, self.i, self.w
        at_first, at_last, later = j == 0, j == p - 1, j > 0
        down_f, up_f, up_i = (np.where(at_first, extra_s, 0.0) for extra_s in (self.down_f, self.up_f, self.up_i))
        turn_f, turn_i = np.where(at_last, self.turn_f, 0.0), np.where(at_last, self.turn_i, 0.0)
        rows = 2 * (p - j) - 1  # F0 before the first F1
        before_f1 = rows * (f + down_f + turn_f)
        before_i1 = before_f1 + j * (2 * f + turn_f) + f + up_f
        before_last_i1 = before_i1 + (p - j - 1) * (i + w + f + turn_i)
        next_f = np.where(self.m > 2 * p - 1 - j, f + down_f + turn_f, 0.0)
        up_w = np.where(at_first, self.up_w, 0.0)
        before_i0 = before_i1 + (p - j) * (i + w + up_i + up_w + turn_i) + (p - j - 1) * (f + up_f) + next_f
        way = j * (f + s)
        through = self.down_f + self.turn_f + 2 * (p - 1) * s  # the first micro-batch to the turn and up
        on_first = (2 * p - 1) * self.down_f  # all that stage 0 has to do before that micro-batch is back
        longer = np.maximum(through, on_first)
        gradient_down = np.where(later, j * (i + s) + self.up_i, 0.0)
        to_f1 = (2 * p - 1 - j) * f + through - j * s
        to_i1 = 2 * p * f + self.up_f + longer + gradient_down
        busy_first = (p - j) * (f + self.up_f + i + self.up_i + w + self.up_w) - (w + self.up_w)
        to_last_i1 = (2 * p - 1) * f + longer + busy_first + (j - 1) * i + j * s
        # Between the turning gradient and I0 on the last stage: W1, and F0 where there is a micro-batch more.
        at_turn = w + np.where(self.m > p, f + self.turn_f, 0.0)
        to_i0 = 2 * p * f + self.up_f + longer + self.up_i + self.turn_i + (p - 1) * s
        to_i0 += (2 * p - 1 - j) * i + (p - 1 - j) * s + at_turn
        return longest(
            [
                np.where(later, way + self.down_f, 0.0),  # the first F0
                np.where(later, way + rows * self.down_f, 0.0),  # the last F0 of the row, where stage 0 is slower
                to_f1 - before_f1,  # the first F1: the first micro-batch comes up again
                to_i1 - before_i1,  # the first I1: its gradient comes down
                np.where(later, to_last_i1 - before_last_i1, -np.inf),  # the last I1 before the first I0
                np.where(p > 1, to_i0 - before_i0, -np.inf),  # the first I0: the gradient comes up
            ]
        )

    def ends_s(self, j: Integers) -> Floats:
        """The longest way from one of the places where stage j is waited for, less its work after that.

        ``after_*`` is what stage j has yet to do from there: j times I0 and I1, then I0 and W0, then weight gradients.
        ``early`` is p - 2 micro-batches before the last.
        """
        p, s, f, i, w = self.p, self.s, self.f, self.i, self.w
        later, at_last = j > 0, j == p - 1
        turn_f, turn_i = np.where(at_last, self.turn_f, 0.0), np.where(at_last, self.turn_i, 0.0)
        after_i1 = self._after_i1_s(j)
        rest = p - 2
        after_i0 = j * (2 * i + turn_i) - i + after_i1
        after_f1 = i + w + np.where(later, turn_i + j * (2 * i + turn_i), self.up_i - w) + after_i1
        after_early_f1 = i + w + rest * (f + 2 * i + 2 * w) + (j - 1) * (f + turn_f) + 2 * j * i + after_i1
        after_early_f1 += (rest + 1 + j) * turn_i
        to_last = (p - 1) * (i + s) + self.turn_i + self._from_i1_s(p - 1)  # from the last I1 of stage 0
        outer_s = self.up_f + self.up_i + self.up_w + self.down_i + self.down_w
        over_first = j * (f + s) + self.up_f + i + self.up_i + to_last
        over_first_early = over_first + rest * (f + 2 * i + 2 * w + outer_s)
        over_second = (j - 1) * (f + s) + 3 * i + w + to_last - (i + s)
        down_and_up = (j - 1) * (i + s) + i + to_last - (i + s)
        down_i, down_w = i + self.down_i, w + self.down_w
        stays_on_first = (j - 1) * i + j * s + down_i + down_w + (p - 1) * (down_i + down_w)
        inner = later & (p > 2)
        chains_s = [
            self._from_i1_s(j) - after_i1,  # the last I1
            # the same, on to the turn
            (p - 1 - j) * (i + s) + np.where(at_last, 0.0, self.turn_i) + self._from_i1_s(p - 1) - after_i1,
            np.where(
                later, np.maximum(down_and_up, stays_on_first) - after_i0, -np.inf
            ),  # the first I0 once no F is left
            np.where(later, over_first - after_f1, -np.inf),  # the last F1, over stage 0
            np.where(inner, over_second - after_f1, -np.inf),  # the last F1, over stage 1
            np.where(inner, over_first_early - after_early_f1, -np.inf),  # an early F1, over stage 0
        ]
        return longest(chains_s)

    def _after_i1_s(self, j: Integers) -> Floats:
        """The work of stage j after its last I1."""
        on_first_s = self.w + self.up_w + self.p * (self.down_i + self.down_w)
        return (self.p - j) * (self.i + self.w) + 2 * j * self.w + np.where(j == 0, on_first_s, 0.0)

    def _from_i1_s(self, j: Integers) -> Floats:
        """That, or on the way down with its last I0 and a weight gradient on stage 0."""
        after_i0_s = (1 + 2 * j) * self.w
        down_s = j * (self.i + self.s) + self.down_i + self.w + self.down_w
        return self._after_i1_s(j) + np.where(j > 0, np.maximum(down_s - after_i0_s, 0.0), 0.0)

    def few_s(self) -> Floats:
        """Where the first stage takes in all micro-batches before the first comes back; for 2 <= p, m < 2p - 1."""
        p, m, s, f, i, w = self.p, self.m, self.s, self.f, self.i, self.w
        odd = m - 1 + m % 2
        through = self.down_f + self.turn_f + 2 * (p - 1) * s
        in_a_row = odd * self.down_f + np.maximum(2 * p - odd - 1, 0) * s + np.where(odd == 1, self.turn_f, 0.0)
        back_up = (2 * p - 1) * f + np.maximum(through, in_a_row)
        down_w, up_w = w + self.down_w, w + self.up_w
        going_up = f + self.up_f + i + self.up_i
        late = np.maximum(m - p, 0)
        on_first = back_up + m * (going_up + up_w) + late * (i + self.down_i + down_w)
        rest_on_first = (m - late) * (i + self.down_i + down_w)
        to_turn = (p - 1) * (i + s) + self.turn_i
        to_end = (p - 1) * (i + s) + self.down_i + down_w
        weights = np.minimum(m, p) + np.minimum(m - 1, p - 1)
        rows = 2 * m * i + weights * w - i
        on_last = rows + 2 * late * f + (m - 1) * self.turn_i
        before = np.maximum(m - p + 1, 0) + np.maximum(m - p - 1, 0)
        past_first = (2 * p + 1) * f + self.down_f + 2 * self.turn_f + (p - 1) * i + self.turn_i + (3 * p - 5) * s
        chains_s = [
            np.where(m > 1, past_first + on_last + np.maximum(to_end, (2 * m - weights) * w), -np.inf),
            on_first + rest_on_first,
            on_first - up_w + to_turn + np.where(late, 0.0, w) + i + to_end,
            back_up + going_up + to_turn + on_last + np.maximum(to_end, (2 * m - weights) * w),
            back_up + going_up + to_turn - self.turn_i + rows + before * f + to_end - 2 * (i + s),
        ]
        stays = [np.where(j > 0, j * (f + s) + self.down_f, 0.0) + self.work_s(j) for j in (0 * p, p - 2, p - 1)]
        return longest([*chains_s, *stays])
