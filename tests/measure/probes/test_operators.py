"""Are operators counted forward and backward, and does a long call warm up what comes after it?"""

import pytest
import torch
from made_up_bench import made_up_bench
from scripted_timer import ScriptedTimer

from hwprof.measure.probes.operators import operators_of, warmed_up


def test_operators_are_counted_once_autograd_is_done_with_them():
    x = torch.ones(3, requires_grad=True)
    assert operators_of(lambda: x * 2 + 1) == 2
    y = (x * x).sum()
    assert operators_of(lambda: torch.autograd.grad(y, x, retain_graph=True)) >= 3  # of ones, two products, a sum


@pytest.mark.parametrize(
    ("call_s", "warmups", "deadline_s"), [(0.05, 1, 3.0), (0.5, 0, 2.5), (2.0, 0, 1.0), (0.9, 0, 2.1)]
)
def test_a_long_call_needs_no_warm_ups_and_is_sampled_three_times_within_a_second(call_s, warmups, deadline_s):
    timer = ScriptedTimer([call_s])
    warm = warmed_up(made_up_bench(timer), lambda: timer.elapsed_s(timer.mark(), timer.mark()), deadline_s=3.0)
    assert (warm.bench.warmups, warm.operators) == (warmups, 0)
    assert warm.deadline_s == pytest.approx(deadline_s)


def test_a_call_longer_than_its_time_still_gets_a_second():
    timer = ScriptedTimer([5.0])
    warm = warmed_up(made_up_bench(timer), lambda: timer.elapsed_s(timer.mark(), timer.mark()), deadline_s=0.1)
    assert warm.deadline_s == 1.0
