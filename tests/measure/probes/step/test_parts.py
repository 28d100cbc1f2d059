"""Claims about what of a step is probed, in which order and for how long."""

import pytest
from made_up_bench import made_up_bench
from scripted_timer import ScriptedTimer

from hwprof.measure.probes.attention import AttentionPass, AttentionShape
from hwprof.measure.probes.matmul import MatmulShape
from hwprof.measure.probes.step.parts import Part, Shares, ranked
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.job.step_kernels import StepKernel


def part(calls, *, flop=0.0, moved_bytes=0.0):
    return Part(work=MatmulShape(1, 1, 1), calls=calls, flop=flop, moved_bytes=moved_bytes)


def order(*parts, timer=None):
    bench = made_up_bench(timer or ScriptedTimer([]), minimum_sample_s=0.02)
    return ranked(parts, bench, flop_per_s=10.0, byte_per_s=100.0)


def test_parts_are_ranked_by_their_time_in_the_step_at_the_roofs():
    # 20 FLOP at 10 a second once; 100 bytes at 100 a second three times; 5 FLOP and 200 bytes, the longer of both, once
    found = order(part(1, flop=20), part(3, moved_bytes=100), part(1, flop=5, moved_bytes=200))
    assert [one.call_s for one in found] == [1.0, 2.0, 2.0]
    assert [one.share for one in found] == pytest.approx([3 / 7, 2 / 7, 2 / 7])


def test_a_short_part_needs_a_round_of_samples_and_a_long_one_three_calls():
    short, long, middle = order(part(1e6, flop=1e-3), part(1, flop=10), part(1, flop=0.5))
    assert short.need_s == pytest.approx(6 * 0.02)  # a warm-up and five samples of at least 20 ms
    assert middle.need_s == 0.25
    assert long.need_s == 3.0


def test_the_largest_part_is_measured_though_it_takes_longer_than_there_is_time():
    found = order(part(2, flop=50), part(1, flop=50))
    shares = Shares(ScriptedTimer([]), found, total_s=2.0)
    assert shares.reason(found[0]) == ""
    assert shares.next_s(found[0]) == 15.0  # three calls of 5 s


def test_smaller_parts_fill_the_time_that_a_larger_one_does_not_fit_into():
    first, second, third = order(part(2, flop=30), part(1, flop=40), part(1, flop=1))
    shares = Shares(ScriptedTimer([]), (first, second, third), total_s=10.0)
    assert [bool(shares.reason(one)) for one in (first, second, third)] == [False, True, False]
    assert "40 % of the step" not in shares.reason(second)
    assert "it is 39.6 % of the step at the roofs, a call takes at least 4 s" in shares.reason(second)


def test_time_beyond_the_needs_goes_by_share_of_the_step_and_what_is_left_over_goes_on():
    timer = ScriptedTimer([1.0])
    first, second = order(part(3, flop=10), part(1, flop=10))
    shares = Shares(timer, (first, second), total_s=14.0)
    mark = timer.mark()
    assert shares.next_s(first) == 3 + 8 * 3 / 4  # each needs 3 s; 8 s are left, three quarters for the first
    timer.elapsed_s(mark, mark)  # it used 1 s
    assert shares.next_s(second) == 13.0


def test_names_are_those_of_the_ceilings():
    attention = AttentionPass(AttentionShape(spec=load_model("tiny"), batch=8, seq_len=256), "backward")
    kernel = StepKernel("rope", "halves", "fp32", (8, 256, 4, 2, 64), "forward")
    names = [Part(work=work, calls=1).name("bf16") for work in (MatmulShape(1, 2, 3), attention, kernel)]
    assert names == [
        "matmul.bf16.1x2x3",
        "attention.bf16.8x4x2x256x64.backward",
        "rope.halves.fp32.8x256x4x2x64.forward",
    ]
