"""How long does an interleaved pipeline take? The longest of the chains of passes that can hold up its step.

Every chain of passes that wait for each other is a lower bound of the step, and the longest is the step. In the
interleaved schedule (see ``schedules.interleaved_order``) it has three parts:

- It gets to a stage while the pipeline fills: the first micro-batch through chunk after chunk, or a row of forward
  passes on a stage where those take longer.
- It stays on that stage, which is busy without a gap: the first or the last stage, or one between where both have less
  to do. From the last stage it can change to the first where the second group of micro-batches goes on to its second
  chunk; the first stage is then busy to the end.
- It leaves while the pipeline drains, like the start with forward and backward, first and last group exchanged.

Letters: p stages, v chunks, m micro-batches, W the warm-up passes of a stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hwprof.simulate.closed_forms.times import Floats, Integers, PipelineTimes, longest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """The pipeline as it fills (forward passes, first group) or, looking back from the end, as it drains.

    Attributes:
        pass_s: a typical pass in this direction; ``first_s`` and ``last_s`` what the outer chunks take more.
        group: micro-batches in the outermost group; ``neighbour`` in the one next to it.
    """

    pass_s: Floats
    first_s: Floats
    last_s: Floats
    group: Integers
    neighbour: Integers


@dataclass(frozen=True, kw_only=True)
class _Interleaved:
    """Many interleaved pipelines. Items of a stage are counted as in its list: forward passes 0 ..., backward 0 ..."""

    p: Integers
    v: Integers
    m: Integers
    send_s: Floats
    filling: _Side
    draining: _Side

    def warm_up(self, stage: Integers) -> Integers:
        """W: forward passes before the one that the first backward pass follows."""
        return 2 * (self.p - 1 - stage) + (self.v - 1) * self.filling.group

    def first_chunks(self, side: _Side, rows: Integers) -> Integers:
        """How many of the outermost ``rows`` passes of a direction are of chunk 0."""
        first: Integers = np.minimum(side.group, rows) + np.clip(rows - self.v * side.group, 0, side.neighbour)
        return first

    def ramp_s(self, side: _Side, stage: Integers) -> Floats:
        """From the start until W + 1 passes of ``stage`` are done; or from before the last W + 1 to the end.

        W + 1 typical passes, the way to the stage, and the longest of three: all passes on the first stage with what
        its chunk 0 takes more; one micro-batch through all chunks, which takes longer than a row of passes where
        messages travel; the same with a row in the first chunk.
        """
        rows = self.warm_up(stage) + 1
        at_last, at_first = stage == self.p - 1, stage == 0
        slack = rows - 1 - (self.v - 1) * side.group
        unequal = np.where(at_last, (self.v - 1) * (self.filling.group - side.group), 0)
        missed_s = np.minimum(unequal, side.group) * side.last_s
        detour_s = np.maximum(self.p * (side.pass_s + self.send_s) - side.group * side.pass_s, 0.0)
        extra_s = side.first_s
        on_first_s = self.first_chunks(side, rows) * extra_s - missed_s
        on_first_s = np.where(at_first, on_first_s, np.maximum(on_first_s, extra_s))
        swapped = np.minimum(slack, side.group - 1) + np.clip(rows - self.v * side.group, 0, side.neighbour)
        gain_s = np.maximum(extra_s - np.where(at_last, side.last_s, 0.0), 0.0)
        through_s = (self.v - 1) * detour_s + extra_s + swapped * gain_s
        row_s = (self.v - 2) * detour_s + side.group * extra_s - missed_s
        typical_s = rows * side.pass_s + stage * (side.pass_s + self.send_s)
        return typical_s + longest([on_first_s, through_s, row_s]) + np.where(at_last, side.last_s, 0.0)

    def edge_s(self, side: _Side, other: _Side, stage: Integers) -> Floats:
        """The ramp to ``stage`` and the first pass of the other direction there; or through the last stage and back."""
        at_last = stage == self.p - 1
        here_s = self.ramp_s(side, stage) + other.pass_s + np.where(at_last, other.last_s, 0.0)
        back = self.p - 1 - stage
        back_s = other.last_s + (back + 1) * other.pass_s + back * self.send_s
        return longest([here_s, self.ramp_to_last_s(side) + back_s])

    def ramp_to_last_s(self, side: _Side) -> Floats:
        """The ramp to the last stage."""
        return self._to_last_s[0 if side is self.filling else 1]

    @cached_property
    def _to_last_s(self) -> tuple[Floats, Floats]:
        return self.ramp_s(self.filling, self.p - 1), self.ramp_s(self.draining, self.p - 1)

    @cached_property
    def first_edges_s(self) -> tuple[Floats, Floats]:
        """The edges of the first stage, at the start and at the end."""
        first = np.zeros_like(self.p)
        return self.edge_s(self.filling, self.draining, first), self.edge_s(self.draining, self.filling, first)

    @property
    def items(self) -> Integers:
        """Passes of one direction on a stage."""
        return self.m * self.v

    @property
    def pair_s(self) -> Floats:
        """A typical forward and backward pass."""
        return self.filling.pass_s + self.draining.pass_s

    def busy_s(self, stage: Integers) -> Floats:
        """The chain that stays on one stage between the ramps."""
        f, b = self.filling, self.draining
        rows = self.warm_up(stage) + 1
        between_s = (self.items - rows - 1) * self.pair_s
        between_s += np.where(
            stage == 0,
            (self.m - self.first_chunks(f, rows)) * f.first_s + (self.m - self.first_chunks(b, rows)) * b.first_s,
            0.0,
        )
        between_s += np.where(stage == self.p - 1, (self.m - 2) * (f.last_s + b.last_s), 0.0)
        edges_s = self.first_edges_s if not stage.any() else (self.edge_s(f, b, stage), self.edge_s(b, f, stage))
        short = self.items <= rows
        short_s = self._short_s(stage) if short.any() else 0.0
        return np.where(short, short_s, edges_s[0] + between_s + edges_s[1])

    def _short_s(self, stage: Integers) -> Floats:
        """Where a stage has all forward passes behind it before its first backward pass."""
        f, b = self.filling, self.draining
        at_first, at_last = stage == 0, stage == self.p - 1
        way_s = [np.where(at_first, 0.0, side.first_s + stage * (side.pass_s + self.send_s)) for side in (f, b)]
        own_s = [
            self.items * side.pass_s
            + np.where(at_first, self.m * side.first_s, 0.0)
            + np.where(at_last, self.m * side.last_s, 0.0)
            for side in (f, b)
        ]
        back = self.p - 1 - stage
        longest_s = way_s[0] + own_s[0] + own_s[1] + way_s[1]
        for side, other, way, own in ((f, b, way_s[0], own_s[0]), (b, f, way_s[1], own_s[1])):
            back_s = back * (side.pass_s + self.send_s) + np.where(at_last, 0.0, side.last_s)
            longest_s = np.maximum(longest_s, way + own + back_s + self.ramp_to_last_s(other))
        return longest_s

    def single_group_s(self) -> Floats:
        """One micro-batch all the way, the others before or after it where a pass takes longest; needs m < 2p."""
        f, b = self.filling, self.draining
        rows_s = [side.pass_s + np.maximum(np.maximum(side.first_s, side.last_s), 0.0) for side in (f, b)]
        positions = self.p * self.v
        way_s = positions * self.pair_s + 2 * (positions - 1) * self.send_s
        extra_s = f.first_s + f.last_s + b.first_s + b.last_s
        return np.where(self.m < 2 * self.p, way_s + extra_s + (self.m - 1) * np.maximum(*rows_s), -np.inf)

    def change_s(self) -> Floats:
        """The chain that changes from the last stage to the first after a group, back before the last group, or both.

        A change takes place at the first pass of the second group's chunk 0 on the last stage; it is item ``v x group +
        neighbour`` of the first stage.
        """
        f, b = self.filling, self.draining
        first_stage = np.zeros_like(self.p)
        warm_up = self.warm_up(first_stage)
        rows = warm_up + 1
        there, here = self.v * f.group + f.neighbour, self.v * b.group + b.neighbour
        late, early = np.maximum(there - warm_up, 0), np.maximum(here - warm_up, 0)
        into_s, out_s = self._change_edge_s(f, b), self._change_edge_s(b, f)
        after = self.m - f.group - f.neighbour
        before = self.m - b.group - b.neighbour
        to_end_s = (self.items - there - 1) * f.pass_s + after * f.first_s
        to_end_s += (self.items - late - rows) * b.pass_s + (self.m - self.first_chunks(b, rows)) * b.first_s
        from_start_s = (self.items - here - 1) * b.pass_s + before * b.first_s
        from_start_s += (self.items - early - rows) * f.pass_s + (self.m - self.first_chunks(f, rows)) * f.first_s
        both_s = (self.items - there - early) * f.pass_s + after * f.first_s
        both_s += (self.items - late - here) * b.pass_s + before * b.first_s
        to_end_s = into_s + to_end_s + self.first_edges_s[1]
        from_start_s = self.first_edges_s[0] + from_start_s + out_s
        two, three = self.m >= 2 * self.p, self.m >= 3 * self.p
        longest_s = np.where(two & (self.items - late >= rows), to_end_s, -np.inf)
        longest_s = np.maximum(longest_s, np.where(two & (self.items - early >= rows), from_start_s, -np.inf))
        return np.maximum(longest_s, np.where(three, into_s + both_s + out_s, -np.inf))

    def _change_edge_s(self, side: _Side, other: _Side) -> Floats:
        """To the last stage and through the outermost group there, or on the stage before it where that is longer."""
        unequal = (self.v - 1) * (self.filling.group - side.group)
        pairs = np.maximum(side.group - unequal, 0)
        on_last_s = side.group * side.pass_s + pairs * other.pass_s
        on_last_s += (side.group - 1) * side.last_s + pairs * other.last_s
        beside_s = (side.group - 1) * side.pass_s + (pairs - 1) * other.pass_s + other.last_s + 2 * self.send_s
        longest_s = np.maximum(on_last_s, np.where(pairs > 0, beside_s, -np.inf))
        return self.ramp_to_last_s(side) - unequal * side.pass_s + self.send_s + longest_s


def interleaved_span_s(times: PipelineTimes) -> Floats:
    """From the first pass of any stage to the last; v >= 2, p >= 2. [configurations]."""
    inside = times.with_sends_inside()
    p, m = inside.stages, inside.micro_batches
    groups = np.maximum(m // p, 1)
    size, larger = np.divmod(m, groups)
    several = groups > 1
    pipelines = _Interleaved(
        p=p,
        v=inside.chunks,
        m=m,
        send_s=inside.send_s,
        filling=_Side(
            pass_s=inside.typical.forward_s,
            first_s=inside.first.forward_s,
            last_s=inside.last.forward_s,
            group=size + (larger > 0),
            neighbour=np.where(several, size + (larger > 1), 0),
        ),
        draining=_Side(
            pass_s=inside.typical.backward_s,
            first_s=inside.first.backward_s,
            last_s=inside.last.backward_s,
            group=size,
            neighbour=np.where(several, size + (larger > groups - 2), 0),
        ),
    )
    chains_s = [pipelines.busy_s(stage) for stage in (np.zeros_like(p), p - 2, p - 1)]
    chains_s += [pipelines.single_group_s(), pipelines.change_s()]
    return longest(chains_s)
