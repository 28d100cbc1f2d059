import pytest
import torch
from made_up_bench import made_up_bench
from scripted_timer import ScriptedTimer

from hwprof.errors import WorkError
from hwprof.measure.probes.bench import Budget, CannotRunError, attempt, best_ceiling
from hwprof.measure.probes.sampling import Samples
from hwprof.specs.measurement import Skipped


@pytest.fixture
def bench():
    return made_up_bench(ScriptedTimer([]), probe_s=1.0)


def timed(*seconds, waited_fraction=None):
    return Samples(seconds=seconds, warmups=3, repeats=2, discarded=5, waited_fraction=waited_fraction)


def test_a_rate_is_work_over_the_median_time_and_keeps_every_sample(bench):
    found = bench.ceiling("matmul.fp32", "compute", timed(2.0, 1.0, 4.0), work_per_call=8e9)
    assert found.value == 4e9
    assert found.samples == (4e9, 8e9, 2e9)
    assert (found.unit, found.origin) == ("flop_per_s", "measured")
    assert found.source == "median of 3 samples on this machine's Abacus 3000"


def test_bytes_over_seconds_are_bytes_per_second(bench):
    found = bench.ceiling("memory.dram", "memory", timed(0.5, 0.5, 0.5), work_per_call=1e9)
    assert (found.value, found.unit) == (2e9, "byte_per_s")


def test_a_latency_is_the_median_time_itself(bench):
    found = bench.ceiling("latency.dispatch", "latency", timed(3e-6, 1e-6, 2e-6))
    assert (found.value, found.unit) == (2e-6, "s")


def test_how_it_was_sampled_is_among_the_conditions(bench):
    found = bench.ceiling("memory.l3", "memory", timed(1.0), work_per_call=1.0, conditions={"kernel": "add"})
    expected = {"kernel": "add", "warmups": 3, "calls_per_sample": 2, "discarded_samples": 5}
    assert expected.items() <= found.conditions.items()
    assert found.conditions["waited_for_cpu_fraction"] == "unknown"
    assert found.conditions["threads"] == torch.get_num_threads()


def test_equal_samples_are_stable_and_scattered_ones_are_not(bench):
    assert bench.ceiling("x", "latency", timed(1.0, 1.0, 1.0, 1.0, 1.0)).stable is True
    scattered = bench.ceiling("x", "latency", timed(1.0, 2.0, 3.0, 4.0, 5.0))
    assert scattered.spread == pytest.approx(2 / 3)  # quartiles 2 and 4, median 3
    assert scattered.stable is False


def test_few_samples_are_never_called_stable(bench):
    assert bench.ceiling("x", "latency", timed(1e-3, 1e-3, 1e-3, 1e-3)).stable is False


@pytest.mark.parametrize(("seconds", "stable"), [((0.05,) * 3, True), ((0.049,) * 3, False), ((0.05,) * 2, False)])
def test_three_samples_of_a_tenth_of_a_second_are_enough(bench, seconds, stable):
    assert bench.ceiling("x", "latency", timed(*seconds)).stable is stable  # two calls in each sample


def test_equal_samples_on_a_busy_cpu_are_not_called_stable(bench):
    busy = timed(1.0, 1.0, 1.0, 1.0, 1.0, waited_fraction=0.5)
    assert bench.ceiling("x", "latency", busy).stable is False
    quiet = timed(1.0, 1.0, 1.0, 1.0, 1.0, waited_fraction=0.01)
    assert bench.ceiling("x", "latency", quiet).stable is True


def rate(bench, value, *, stable):
    seconds = (1.0, 1.0, 1.0, 1.0, 1.0) if stable else (0.5, 0.7, 1.0, 1.5, 2.0)
    return bench.ceiling("memory.dram", "memory", timed(*seconds), work_per_call=value)


def test_the_highest_stable_rate_is_the_best(bench):
    low, high = rate(bench, 90.0, stable=True), rate(bench, 100.0, stable=True)
    assert best_ceiling([low, high]) is high


def test_a_stable_rate_is_preferred_to_an_unstable_one_that_is_hardly_higher(bench):
    stable, unstable = rate(bench, 96.0, stable=True), rate(bench, 100.0, stable=False)
    assert best_ceiling([unstable, stable]) is stable


def test_an_unstable_rate_far_above_the_stable_ones_is_still_the_best(bench):
    stable, unstable = rate(bench, 94.0, stable=True), rate(bench, 100.0, stable=False)
    assert best_ceiling([unstable, stable]) is unstable


def test_each_piece_of_work_gets_its_part_of_what_is_left():
    timer = ScriptedTimer([2.0, 1.0])
    budget = Budget(timer, total_s=9.0, pieces=3)
    mark = timer.mark()
    assert budget.next_s() == 3.0
    timer.elapsed_s(mark, mark)  # the first used 2 s of its 3 s
    assert budget.next_s() == 3.5
    timer.elapsed_s(mark, mark)
    assert budget.next_s() == 6.0


def test_a_piece_after_an_overrun_still_gets_half_of_an_equal_part():
    timer = ScriptedTimer([5.0])
    budget = Budget(timer, total_s=1.0, pieces=2)
    budget.next_s()
    mark = timer.mark()
    timer.elapsed_s(mark, mark)
    assert budget.next_s() == 0.25


def raising(error):
    def probe():
        raise error

    return probe


def test_a_probe_that_cannot_run_gives_its_reason_and_remedy():
    outcome = attempt("memory.l1", raising(CannotRunError("too small", remedy="use a larger one")))
    assert outcome == Skipped(name="memory.l1", reason="too small", remedy="use a larger one")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("CUDA out of memory.\nmore lines"), "failed with RuntimeError: CUDA out of memory."),
        (WorkError("a product is wrong", remedy="check it"), "failed with WorkError: a product is wrong; check it"),
        (MemoryError(), "failed with MemoryError: no error text"),
    ],
)
def test_a_probe_that_fails_is_skipped_with_the_error_s_first_line(error, reason):
    assert attempt("matmul.fp32", raising(error)) == Skipped(name="matmul.fp32", reason=reason)


def test_an_interrupt_is_no_reason_to_go_on():
    with pytest.raises(KeyboardInterrupt):
        attempt("matmul.fp32", raising(KeyboardInterrupt()))
