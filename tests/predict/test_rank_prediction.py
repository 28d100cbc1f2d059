"""One rank's prediction made that of a layout: traffic by the probe's rates, bubbles by the textbook."""

from __future__ import annotations

import pytest

from hwprof.predict.rank_prediction import traffic_s, with_ranks
from hwprof.specs.parallel import ParallelLayout
from hwprof.specs.ranks import CollectiveResult
from hwprof.specs.run import Prediction

ALONE = Prediction(
    step_s=4.0,
    interval_s=(2.0, 6.0),
    basis="counts",
    phase_s={"forward": 1.0, "backward": 2.0, "optimizer": 1.0},
)


def collective(name="all_reduce", axis="data", calls=4.0, size=1e9, rate=2e9, ranks=2):
    measured = dict.fromkeys(("time_s", "exposed_s", "hidden_s"), 99.0)  # what it took is not what is predicted
    return CollectiveResult(
        collective=name,
        axis=axis,
        ranks=ranks,
        calls=calls,
        size_bytes=size,
        largest_bytes=size,
        transfer_s=9.0,
        bus_byte_per_s=1.0,
        probe_bus_byte_per_s=rate,
        **measured,
    )


def ranked(*collectives, device="cpu", micro_batches=4, **layout):
    return with_ranks(ALONE, collectives, ParallelLayout(**layout), micro_batches=micro_batches, device=device)


@pytest.mark.parametrize(("name", "ranks", "factor"), [("all_reduce", 4, 1.5), ("all_gather", 4, 0.75)])
def test_a_collective_takes_its_bus_traffic_over_the_probes_bus_bandwidth(name, ranks, factor):
    assert traffic_s(collective(name, ranks=ranks)) == pytest.approx(4 * 1e9 * factor / 2e9)


def test_on_a_cpu_nothing_hides_and_gradients_belong_to_the_backward_pass():
    found = ranked(collective(), data_parallel=2)
    assert found.step_s == pytest.approx(4.0 + 2.0)
    assert found.phase_s["backward"] == pytest.approx(4.0)
    assert found.interval_s == (2.0, pytest.approx(8.0))


def test_on_a_gpu_traffic_of_data_ranks_hides_behind_the_backward_pass_as_far_as_it_lasts():
    assert ranked(collective(), device="cuda", data_parallel=2).step_s == pytest.approx(4.0)
    assert ranked(collective(size=3e9), device="cuda", data_parallel=2).step_s == pytest.approx(4.0 + 6.0 - 2.0)


def test_traffic_of_tensor_ranks_is_exposed_half_in_each_direction():
    found = ranked(collective(axis="tensor"), device="cuda", tensor_parallel=2)
    assert (found.phase_s["forward"], found.phase_s["backward"]) == (pytest.approx(2.0), pytest.approx(3.0))


@pytest.mark.parametrize(("stages", "chunks", "micro_batches"), [(2, 1, 4), (4, 1, 8), (4, 2, 8)])
def test_a_pipeline_waits_for_its_bubble(stages, chunks, micro_batches):
    layout = {"pipeline_parallel": stages, "virtual_stages": chunks}
    layout |= {"schedule": "interleaved"} if chunks > 1 else {}
    found = ranked(micro_batches=micro_batches, **layout)
    assert found.step_s == pytest.approx(1.0 + 3.0 * (1 + (stages - 1) / chunks / micro_batches))
    assert "pipeline bubble" in found.basis


def test_what_was_not_probed_is_left_out_and_said():
    found = ranked(collective(rate=None), data_parallel=2)
    assert found.step_s == pytest.approx(4.0)
    assert "1 that were not probed left out" in found.basis
