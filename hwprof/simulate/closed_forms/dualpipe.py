"""How long does a DualPipe pipeline take? The longest of the chains of passes that can hold up its step.

Once both directions have filled the pipeline, stages run pairs: a forward pass of one direction with a backward pass
of the other. A pair waits for the pair before it on its own stage and for those on both neighbours, so a chain of pairs
can go to a neighbour or stay at every step: it takes ``m - p/2 - 2`` pairs whichever way it goes, and messages make
going the longer way. The two end stages hold the first and the last chunk of the model (of one direction each), so
staying there counts where these take longer, and avoiding them where they take less.

Letters, as in DeepSeek-V3, section 3.2.1: p (there PP) stages, m micro-batches over both directions; F, B the passes of
a typical chunk, I and W the two parts of B; s one message to the next stage.
"""

from __future__ import annotations

import numpy as np

from hwprof.simulate.closed_forms.times import Floats, PipelineTimes, longest


def dualpipe_span_s(times: PipelineTimes) -> Floats:
    """From the first pass of any stage to the last. [configurations]."""
    chains = _Chains(times)
    starts_s = chains.starts_s()
    two = chains.p == 2
    many_s = longest([starts_s + chains.pairs_s(), chains.end_stage_s(starts_s)])
    few_s = longest([starts_s + chains.pairs_of_two_s(), chains.end_stage_s(starts_s)])
    return np.where(two, few_s, many_s)


class _Chains:
    """Chains of passes. [configurations].

    Attributes:
        p, m, s, f, b, i, w: the letters; an exposed send is part of the passes before it.
        half: stages of half the pipeline; ``rest`` those between an end stage and the middle.
        held: the exposed part of a send; ``saved`` what a typical pair saves against its passes one after the other.
        pair: a typical pair, of whose two sends at the same time one counts; ``pairs`` how many a chain has.
        entry_f ...: what the first chunk takes more; exit_f ... the last one. Neither the last chunk's output nor the
            first one's gradient is sent.
        leaving: what a pair of an end stage takes more if it ends both ways: forward of the last chunk, backward of the
            first; ``entering`` the other kind.
    """

    def __init__(self, times: PipelineTimes) -> None:
        inside = times.with_sends_inside()
        self.p, self.m, self.s = inside.stages, inside.micro_batches, inside.send_s
        self.half, self.rest = self.p // 2, self.p // 2 - 1
        held = inside.typical.forward_s - times.typical.forward_s
        self.f, self.i, self.w = (
            inside.typical.forward_s,
            inside.typical.backward_input_s,
            inside.typical.backward_weight_s,
        )
        self.b = self.i + self.w
        self.entry_f, self.entry_i, self.entry_w = (
            inside.first.forward_s,
            inside.first.backward_input_s,
            inside.first.backward_weight_s,
        )
        self.entry_b = self.entry_i + self.entry_w
        self.exit_f, self.exit_i, self.exit_b = (
            inside.last.forward_s,
            inside.last.backward_input_s,
            inside.last.backward_s,
        )
        self.saved = times.hidden_s + held
        self.held = held
        self.pair = self.f + self.b - self.saved
        self.leaving = self.exit_f + self.entry_b + held
        self.entering = self.entry_f + self.exit_b
        self.pairs = self.m - self.half - 2

    def starts_s(self) -> Floats:
        """Until the first whole backward pass has ended, in the middle.

        A micro-batch there and back, or the forward passes of both directions that the middle stages take in first.
        """
        p, s, f = self.p, self.s, self.f
        row = np.maximum(self.entry_f + (p - 1) * s, (p - 1) * self.entry_f)
        back = p * f + row + self.exit_f + self.rest * (self.i + s) + self.exit_i + self.b
        taken_in = 3 * self.half * f + self.entry_f + (p - 1) * s + self.b
        of_two = 3 * f + 2 * self.entry_f + self.exit_f + s + self.b + self.exit_b
        return np.where(p == 2, of_two, np.maximum(back, taken_in))

    def _end_s(self) -> Floats:
        """After the last pair: a whole backward pass, then input gradients across the stages and weight gradients."""
        return self.b + longest([self._across_s(), self.half * (self.b + self.entry_b)])

    def _across_s(self) -> Floats:
        """Input gradients to the stages in the middle or to the other end, and the weight gradients left there."""
        inner_s = np.where(self.p > 2, self.half * (self.i + self.s + self.w), -np.inf)
        whole_s = (self.p - 1) * (self.i + self.s) + self.entry_i + self.w + self.entry_w
        return longest([inner_s, whole_s])

    def pairs_s(self) -> Floats:
        """The pairs and what follows them, for p > 2."""
        p, n, s = self.p, self.pairs, self.s
        end_s = self._end_s()
        turns = 1 + np.maximum(np.ceil((n - self.rest - p + 1) / p), 0)
        going_s = n * self.pair + (np.maximum(n - turns, 0) + 1) * s
        at_end = n - self.rest - p + 1
        staying_s = n * self.pair + np.ceil(at_end / 2) * self.leaving + np.floor(at_end / 2) * self.entering
        staying_s += self.leaving + (self.half + p - 1) * s + end_s + self.exit_b
        return longest(
            [
                going_s + self.leaving + end_s + self.exit_b,
                going_s - self.f + end_s,  # the end stage left out
                np.where(at_end > 0, staying_s, -np.inf),
            ]
        )

    def pairs_of_two_s(self) -> Floats:
        """The same of two stages: both are end stages, and every second pair is on the other one."""
        end_s = self._end_s()
        crossings = (self.pairs - 1) // 2
        pairs_s = self.pairs * self.pair + (crossings + 1) * (self.leaving + self.s) + crossings * self.entering
        return pairs_s + end_s + self.exit_b

    def end_stage_s(self, starts_s: Floats) -> Floats:
        """The chain that is on an end stage from its first pass, or from its first leaving pair, until near the end."""
        p, m, s, rest = self.p, self.m, self.s, self.rest
        near_s, far_s = self.f + self.entry_f, self.f + self.exit_f
        gradient_near_s, gradient_far_s = self.b + self.entry_b, self.b + self.exit_b
        pairs = np.where(p > 2, m - 2 * p + self.half + 1, m - 3)
        leaving_pairs = np.where(p > 2, m // 2 - p + 1 + rest, (pairs + 1) // 2)
        work_s = m // 2 * (near_s + far_s + gradient_near_s + gradient_far_s) - pairs * self.saved
        work_s += leaving_pairs * self.held
        before_s = (2 * rest + 2) * near_s + (rest + 2) * far_s + (rest + 1) * gradient_far_s + gradient_near_s
        before_s += self.held - np.where(p > 2, 2, 1) * self.saved
        first_s = np.maximum((p - 1) * s - (p - 2) * self.entry_f, 0.0)
        enter_s = np.maximum(first_s, starts_s + self.half * (self.pair + s) + self.leaving - before_s)
        stays_s = self.half * gradient_near_s
        return enter_s + work_s + np.maximum(self._across_s() - stays_s, 0.0)
