"""Claims about several ranks as one report: means, the slowest, who waits for whom, by hand on small numbers."""

import math

import pytest
from made_up_record import made_up_attribution, made_up_ceiling

from hwprof.predict.ranks.merge import merged_ceilings, merged_recording, unequal_devices
from hwprof.predict.ranks.waits import ranks_result
from hwprof.specs.job.parallel import ParallelLayout
from hwprof.specs.record.collective import CollectiveCurve, CollectivePoint
from hwprof.specs.record.rank import RankRecord
from hwprof.specs.record.ranks import CollectiveCall, RankPlace
from hwprof.specs.record.run import OpTime, Recording


def _attribution(compute, exposed, communication, step=10.0):
    return made_up_attribution(
        step,
        compute_s=compute,
        communication_s=communication,
        exposed_communication_s=exposed,
        idle_host_s=step - compute - exposed,
    )


def _op(label, time, calls=2):
    return OpTime(label=label, layer_kind="ffn", phase="forward", direction="forward", calls=calls, time_s=time)


def _recording(**changes):
    fields = {
        "step_samples_s": (10.0, 11.0),
        "bare_step_samples_s": (10.0, 10.0),
        "phase_samples_s": {"forward": (4.0, 4.0)},
        "losses": (5.0, 4.0),
        "attribution": _attribution(6.0, 2.0, 3.0),
        "memory_peak_bytes": 100.0,
    }
    return Recording(**(fields | changes))


def _record(rank, *, host="a", calls=(), stage=0, data=None, tensor=0, **changes):
    place = RankPlace(
        rank=rank, node=0, host=host, device="cpu", stage=stage, data=rank if data is None else data, tensor=tensor
    )
    return RankRecord(place=place, recording=_recording(**changes), calls=calls)


def test_cost_of_events_is_the_mean_of_the_ranks_that_know_it():
    records = [_record(rank, profiling_s=profiling_s) for rank, profiling_s in enumerate((0.2, 0.4, None))]
    assert merged_recording(records).profiling_s == pytest.approx(0.3)


def _call(start, end, *, size=1e6, name="all_reduce", axis="data", exposed=0.0):
    return CollectiveCall(
        collective=name, axis=axis, size_bytes=size, start_s=start, end_s=end, exposed_s=exposed, phase="backward"
    )


def _result(records, layout=None, steps=1):
    layout = layout or ParallelLayout(data_parallel=len(records))
    return ranks_result(records, layout=layout, backend="gloo", world_size=layout.devices, steps=steps)


def test_step_is_that_of_the_slowest_rank_and_phases_are_the_mean_over_all():
    fast = _record(0)
    slow = _record(1, step_samples_s=(12.0, 10.0, 99.0), phase_samples_s={"forward": (6.0, 6.0), "loss": (1.0, 1.0)})
    merged = merged_recording([fast, slow])
    assert merged.step_samples_s == (12.0, 11.0)
    assert merged.phase_samples_s == {"forward": (5.0, 5.0), "loss": (0.5, 0.5)}


def test_operations_are_the_mean_over_all_ranks_also_those_that_do_not_have_them():
    merged = merged_recording([_record(0, ops=(_op("head", 4.0), _op("up", 2.0))), _record(1, ops=(_op("up", 3.0),))])
    assert {op.label: (op.time_s, op.calls) for op in merged.ops} == {"up": (2.5, 2.0), "head": (2.0, 1.0)}


def test_mean_attribution_still_adds_up():
    merged = merged_recording([_record(0), _record(1, attribution=_attribution(4.0, 5.0, 5.0))]).attribution
    assert (merged.compute_s, merged.exposed_communication_s, merged.idle_host_s) == (5.0, 3.5, 1.5)
    assert merged.compute_s + merged.exposed_communication_s + merged.idle_host_s == merged.step_s


def test_losses_come_from_the_ranks_that_have_the_head():
    merged = merged_recording([_record(0, losses=(math.nan, math.nan)), _record(1, losses=(5.0, 3.0))])
    assert merged.losses == (5.0, 3.0)


def test_memory_is_that_of_the_fullest_rank():
    assert merged_recording([_record(0), _record(1, memory_peak_bytes=300.0)]).memory_peak_bytes == 300.0


def test_note_that_one_rank_has_names_it():
    merged = merged_recording([_record(0, notes=("same", "own")), _record(1, notes=("same",))])
    assert merged.notes == ("same", "rank 0: own")


def test_rank_that_timed_no_step_does_not_spoil_the_others():
    merged = merged_recording([_record(0), _record(1, step_samples_s=())])
    assert merged.step_samples_s == (10.0, 11.0)
    assert merged_recording([_record(0, step_samples_s=())]) is None


def test_ceiling_is_that_of_the_middle_rank_with_the_extremes_beside_it():
    ceilings = [(made_up_ceiling("matmul.fp32", value),) for value in (3.0, 1.0, 2.0)]
    records = [_record(rank).model_copy(update={"ceilings": each}) for rank, each in enumerate(ceilings)]
    (merged,) = merged_ceilings(records)
    assert merged.value == 2.0
    assert (merged.conditions["lowest_rank"], merged.conditions["highest_rank"]) == (1.0, 3.0)
    assert "rank 1 multiplies matrices at 50 %" in unequal_devices(records)[0]
    assert unequal_devices(records[:1]) == ()


def test_time_before_the_last_entry_is_waiting_and_after_it_transfer():
    early = _record(0, calls=(_call(1.0, 5.0, exposed=4.0), _call(10.0, 12.0)))
    late = _record(1, calls=(_call(4.0, 5.0, exposed=1.0), _call(10.5, 12.0)))
    found = _result([early, late])
    first, second = found.ranks
    assert (first.wait_s, first.late_s, first.last_fraction) == (3.5, 0.0, 0.0)
    assert (second.wait_s, second.late_s, second.last_fraction) == (0.0, 3.5, 1.0)
    assert found.skew_s == 1.75
    assert found.straggler == 1
    assert "Rank 1 on a is the straggler: it enters 100 % of the collectives last" in found.sentence
    (row,) = found.collectives
    assert (row.calls, row.time_s, row.exposed_s, row.transfer_s) == (2.0, 4.25, 2.5, 1.25)
    assert row.bus_byte_per_s == pytest.approx(1e6 / 1.25)  # two ranks: busbw equals algbw


def test_times_are_per_step_of_the_window():
    records = [_record(rank, calls=(_call(1.0, 5.0), _call(10.0, 14.0))) for rank in range(2)]
    assert _result(records, steps=2).collectives[0].calls == 1.0


def test_ranks_that_take_turns_in_being_late_are_no_stragglers():
    first = _record(0, calls=(_call(1.0, 5.0), _call(12.0, 14.0)))
    second = _record(1, calls=(_call(2.0, 5.0), _call(11.0, 14.0)))
    found = _result([first, second])
    assert found.straggler is None
    assert "none of which stands out" in found.sentence


def test_clock_of_another_machine_is_set_by_the_common_ends():
    near = _record(0, calls=(_call(1.0, 5.0), _call(10.0, 12.0)))
    far = _record(1, host="b", calls=(_call(103.0, 105.0), _call(110.5, 112.0)))
    found = _result([near, far])
    assert [rank.wait_s for rank in found.ranks] == [2.5, 0.0]


def test_collectives_meet_inside_their_groups_only():
    layout = ParallelLayout(data_parallel=2, tensor_parallel=2, zero_stage=3)
    records = [
        _record(rank, data=rank // 2, tensor=rank % 2, calls=(_call(1.0 + rank, 6.0, axis=axis),))
        for axis in ("tensor",)
        for rank in range(4)
    ]
    waits = [rank.wait_s for rank in _result(records, layout).ranks]
    assert waits == [1.0, 0.0, 1.0, 0.0]  # 0 meets 1 and 2 meets 3


def test_messages_of_a_pipeline_have_no_bandwidth_and_make_nobody_late():
    layout = ParallelLayout(pipeline_parallel=2)
    records = [
        _record(rank, stage=rank, data=0, calls=(_call(1.0, 3.0, name="send_recv", axis="pipeline"),))
        for rank in (0, 1)
    ]
    found = _result(records, layout)
    assert found.skew_s is None
    assert (found.collectives[0].transfer_s, found.collectives[0].bus_byte_per_s) == (None, None)


def test_bandwidth_stands_against_the_probe_at_the_same_size_and_axis():
    curve = CollectiveCurve(
        collective="all_reduce",
        scope="node",
        backend="gloo",
        ranks=2,
        nodes=1,
        points=(
            CollectivePoint(
                size_bytes=1_000_000,
                samples_s=(0.5,),
                time_s=0.5,
                algorithm_byte_per_s=2e6,
                bus_byte_per_s=2e6,
                spread=0.0,
            ),
        ),
        fit=None,
        stable=True,
        conditions={"axis": "data"},
    )
    records = [_record(rank, calls=(_call(1.0, 2.0),)).model_copy(update={"links": (curve,)}) for rank in (0, 1)]
    (row,) = _result(records).collectives
    assert (row.bus_byte_per_s, row.probe_bus_byte_per_s, row.probe_fraction) == (1e6, 2e6, 0.5)


def test_hidden_communication_is_what_is_not_exposed():
    assert _result([_record(0), _record(1)]).ranks[0].hidden_s == 1.0


def test_rank_that_handed_in_nothing_is_named():
    found = ranks_result(
        [_record(0), _record(2)], layout=ParallelLayout(data_parallel=3), backend="gloo", world_size=3, steps=1
    )
    assert found.missing == (1,)
