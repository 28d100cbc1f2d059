"""One rank's prediction made that of a layout: traffic by the probe's rates, bubbles by the textbook."""

from __future__ import annotations

import pytest

from hwprof.predict.ranks.prediction import core_sharing, traffic_s, with_ranks
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.record.collective import Meetings
from hwprof.specs.record.ranks import CollectiveResult, RankPlace
from hwprof.specs.record.run import Prediction

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


def ranked(*collectives, device="cpu", micro_batches=4, meetings=(), sharing=1.0, **layout):
    return with_ranks(
        ALONE,
        collectives,
        ParallelLayout(**layout),
        micro_batches=micro_batches,
        device=device,
        meetings=meetings,
        sharing=sharing,
    )


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


MEETINGS = (
    Meetings(piece_s=0.1, met_s=0.14, pieces=10),
    Meetings(piece_s=10.0, met_s=12.0, pieces=8),
)


@pytest.mark.parametrize(
    ("calls", "slower"),
    [
        (4, 0.3),  # a second apart: in the middle between the probed lengths, by their logarithm
        (4000, 0.4),  # closer than any that was probed: as the closest
        (0.1, 0.2),
    ],
)
def test_ranks_that_meet_are_slower_by_what_the_probe_found_for_meetings_as_far_apart(calls, slower):
    plain = ranked(collective(calls=calls, rate=None), data_parallel=2)
    met = ranked(collective(calls=calls, rate=None), data_parallel=2, meetings=MEETINGS)
    assert met.step_s - plain.step_s == pytest.approx(4.0 * slower)
    assert met.phase_s["backward"] - plain.phase_s["backward"] == pytest.approx(4.0 * slower)
    assert met.interval_s == (plain.interval_s[0], pytest.approx(plain.interval_s[1] + 4.0 * slower))
    assert f"ranks that meet are {100 * slower:g} % slower" in met.basis


def test_waiting_stands_where_the_meetings_are():
    gathers = collective("all_gather", calls=3, rate=None)
    sums = collective("reduce_scatter", calls=1, rate=None)
    met = ranked(gathers, sums, data_parallel=2, meetings=MEETINGS)
    assert met.phase_s["forward"] == pytest.approx(1.0 + 4.0 * 0.3 * 3 / 8)


def test_ranks_that_do_not_meet_do_not_wait():
    assert ranked(data_parallel=2, meetings=MEETINGS).step_s == 4.0


@pytest.mark.parametrize(
    ("sharing", "piped_s"),
    [
        (1.0, 3.0 * 1.5),  # a core for each: the bubble is lost
        (1.2, 3.0 * 1.25),  # what waits leaves a sixth of its time to the others
        (2.0, 3.0),  # twice as many ranks as cores: some other rank always has work for them
    ],
)
def test_cores_that_ranks_share_are_not_idle_while_one_of_them_waits(sharing, piped_s):
    found = ranked(micro_batches=2, sharing=sharing, pipeline_parallel=2)
    assert found.step_s == pytest.approx(piped_s + 1.0)
    assert ("threads of ranks share" in found.basis) == (sharing > 1)


def test_threads_of_all_ranks_on_the_machine_share_its_cores():
    places = [
        RankPlace(rank=rank, node=rank // 3, host="ab"[rank // 3], device="cpu", stage=0, data=rank, tensor=0)
        for rank in range(4)
    ]
    known = {"torch.threads": "2", "process.cpus_allowed": "4"}
    assert core_sharing(known, places) == 3 * 2 / 4
    assert core_sharing(known | {"process.cpus_allowed": "64"}, places) == 1
    assert core_sharing({"torch.threads": "2", "process.cpus_allowed": "unknown"}, places) == 1
