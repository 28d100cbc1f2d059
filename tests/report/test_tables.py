"""Do the tables show everything that the record has?"""

from __future__ import annotations

from records import make_ranks

from hwprof.report.cells import Table
from hwprof.report.run.view import build_view
from hwprof.specs.record.run import KernelTime, RunRecord


def column(table: Table, name: str) -> list[str]:
    place = [column.name for column in table.columns].index(name)
    return [row[place].text for row in table.rows]


def test_every_ceiling_stands_with_its_origin_and_value(record: RunRecord) -> None:
    table = build_view(record).tables["ceilings"]
    shown = dict(zip(column(table, "ceiling"), column(table, "origin"), strict=True))
    assert shown == {ceiling.name: ceiling.origin for ceiling in record.ceilings}
    assert column(table, "value")[:2] == ["152 GFLOP/s", "61 GFLOP/s"]


def test_an_unstable_ceiling_is_called_unstable(record: RunRecord) -> None:
    table = build_view(record).tables["ceilings"]
    verdicts = dict(zip(column(table, "ceiling"), column(table, "stable"), strict=True))
    assert (verdicts["memory.l3"], verdicts["memory.l2"]) == ("unstable", "stable")


def test_what_hwprof_costs_tells_events_apart_from_what_the_window_took(record: RunRecord) -> None:
    costs = {"recorder_overhead_fraction": 0.001, "profiler_overhead_fraction": -0.02, "profiler_own_fraction": 0.06}
    note = build_view(record.model_copy(update=costs)).tables["phases"].note
    assert "changes the time of a step by -2 % (its events on the host, counted one by one, take 6 %)" in note


def test_what_marks_cost_stands_with_its_interval(record: RunRecord) -> None:
    costs = {"recorder_overhead_fraction": 0.0123456, "marked_over_bare_interval": (-0.001, 0.0256)}
    note = build_view(record.model_copy(update=costs)).tables["phases"].note
    assert note.startswith(
        "What hwprof itself costs: recording the phases changes the time of a step by 1.23 % (steps with marks against "
        "steps without: -0.1 to 2.56 %, 95 % interval); profiling"
    )


def test_every_skipped_probe_stands_with_its_reason(record: RunRecord) -> None:
    table = build_view(record).tables["skipped"]
    assert column(table, "reason") == ["no NVIDIA driver is loaded", "host and device share memory"]


def test_operations_are_all_there_most_time_first(record: RunRecord) -> None:
    values = [row[3].value for row in build_view(record).tables["ops"].rows]
    assert sorted((op.time_s for op in record.ops), reverse=True) == values


def test_an_operation_above_its_roof_is_reported_as_an_error_in_the_ceiling(record: RunRecord) -> None:
    fast = record.ops[0].model_copy(update={"roof_fraction": 1.3})
    changed = record.model_copy(update={"ops": (fast, *record.ops[1:])})
    assert build_view(changed).tables["ops"].note.endswith("measured too low: 1 of 32.")
    assert build_view(record).tables["ops"].note == ""


def test_forty_slowest_kernels_are_shown_and_the_rest_is_counted(record: RunRecord) -> None:
    kernels = tuple(
        KernelTime(name=f"k{n}", label="head", phase="forward", direction="forward", calls=1, time_s=1e-6 * n)
        for n in range(1, 61)
    )
    table = build_view(record.model_copy(update={"kernels": kernels})).tables["kernels"]
    assert column(table, "kernel") == [f"k{n}" for n in range(60, 20, -1)]
    assert "40 slowest of 60" in table.note


def test_layouts_that_do_not_fit_come_last_with_their_reason(record: RunRecord) -> None:
    table = build_view(record.model_copy(update={"layouts": record.layouts[::-1]})).tables["layouts"]
    assert column(table, "fits") == ["yes", "no"]
    assert column(table, "reason")[-1] == "needs 97.2 GB, device has 80 GB"


def test_a_phase_outside_the_step_has_no_share_of_it(record: RunRecord) -> None:
    table = build_view(record).tables["phases"]
    shares = dict(zip(column(table, "phase"), column(table, "share"), strict=True))
    assert shares["evaluation"] == "–"


def test_telemetry_summary_has_units(record: RunRecord) -> None:
    table = build_view(record).tables["telemetry"]
    assert column(table, "max") == ["98 %", "96 %", "3 GHz", "649.8 MB", "4 MB/s"]


def test_loss_table_says_whether_the_loss_fell(record: RunRecord) -> None:
    falling = build_view(record.model_copy(update={"losses": (4.0, 3.0)})).tables["losses"]
    rising = build_view(record.model_copy(update={"losses": (3.0, 4.5)})).tables["losses"]
    assert falling.note == "The loss fell by 25 % over 2 steps."
    assert rising.note == "The loss rose by 50 % over 2 steps."


def test_environment_table_has_settings_model_device_and_environment(record: RunRecord) -> None:
    table = build_view(record).tables["environment"]
    facts = {(row[0].text, row[1].text): row[2].text for row in table.rows}
    assert facts["environment", "torch"] == "2.13.0"
    assert facts["settings", "micro batch"] == "8"
    assert facts["model", "parameters"] == "3,277,056"
    assert facts["device", "catalogue entry"] == "none: only measured ceilings are used"


def test_every_missing_part_is_named_with_the_reason(bare_record: RunRecord) -> None:
    view = build_view(bare_record)
    assert len(view.missing) == 8
    assert all("interrupted" in sentence for sentence in view.missing)
    empty = {name for name, table in view.tables.items() if table.empty}
    assert empty == set(view.tables) - {"environment"}


def test_a_complete_run_misses_nothing(record: RunRecord) -> None:
    view = build_view(record)
    assert (view.missing, view.status_text) == ((), "")
    assert [name for name, table in view.tables.items() if table.empty] == []


def test_times_of_a_phase_share_a_unit_so_that_they_can_be_compared(record: RunRecord) -> None:
    slow = record.phases[0].model_copy(update={"median_s": 0.4, "predicted_s": 1.7, "roof_s": 0.2})
    table = build_view(record.model_copy(update={"phases": (slow, *record.phases[1:])})).tables["phases"]
    units = {column.name: column.unit for column in table.columns}
    assert (units["median_s"], units["predicted_s"], units["roof_s"]) == ("s", "s", "s")


def test_the_peak_is_said_to_be_predicted_and_measured_or_not(record: RunRecord) -> None:
    def note(**changes: float | None) -> str:
        assert record.memory is not None
        memory = record.memory.model_copy(update=changes)
        return build_view(record.model_copy(update={"memory": memory})).tables["memory"].note

    assert note() == "Predicted peak 173.9 MB; measured 181.3 MB (torch profiler, allocated bytes)."
    assert note(measured_peak_bytes=None) == "Predicted peak 173.9 MB; not measured."
    assert note(predicted_peak_bytes=None) == (
        "Peak not predicted; measured 181.3 MB (torch profiler, allocated bytes)."
    )


def test_parts_of_memory_stand_largest_first_with_their_share_of_the_peak(record: RunRecord) -> None:
    table = build_view(record).tables["memory"]
    assert column(table, "part")[:2] == ["saved activations", "optimizer state"]
    assert column(table, "size")[:2] == ["118.4", "26.2"]
    assert column(table, "share")[:2] == ["68.1", "15.1"]


def test_a_layout_is_written_as_the_product_that_its_devices_are(record: RunRecord) -> None:
    with_context = record.layouts[0].model_copy(update={"data_parallel": 2, "tensor_parallel": 2})
    table = build_view(record.model_copy(update={"layouts": (record.layouts[0], with_context)})).tables["layouts"]
    assert column(table, "layout") == ["8 × 1 × 1 = 8 devices", "2 × 2 × 1 × 2 = 8 devices"]
    assert column(table, "interval") == ["2.2 to 4.9 ms", "2.2 to 4.9 ms"]


def test_layouts_beyond_the_first_two_hundred_are_counted(record: RunRecord) -> None:
    many = tuple(record.layouts[0].model_copy(update={"rank": rank}) for rank in range(1, 204))
    table = build_view(record.model_copy(update={"layouts": many})).tables["layouts"]
    assert len(table.rows) == 200
    assert table.note.endswith("by the event engine. 3 more stand in plan.csv.")
    assert build_view(record).tables["layouts"].note.endswith("by the event engine.")
    measured = record.layouts[0].model_copy(update={"rank": 0})
    assert build_view(record.model_copy(update={"layouts": (measured,)})).tables["layouts"].note == ""


def test_phases_with_few_samples_have_no_interval(record: RunRecord) -> None:
    few = tuple(phase.model_copy(update={"samples_s": phase.samples_s[:5]}) for phase in record.phases)
    assert set(column(build_view(record.model_copy(update={"phases": few})).tables["phases"], "interval")) == {"–"}
    assert column(build_view(record).tables["phases"], "interval")[2] == "86.01 to 87.92 ms"


def test_several_ranks_and_counters_have_tables_of_their_own(record: RunRecord) -> None:
    several = make_ranks(record)
    assert {"ranks", "rank_phases", "collectives", "links"} <= set(build_view(several).tables)
    assert not {"ranks", "links", "counters"} & set(build_view(record).tables)
    assert build_view(several).subtitle.endswith("4 ranks")
    assert "ranks" not in build_view(record).subtitle


def test_the_basis_of_a_prediction_is_said_with_what_it_does_not_explain(record: RunRecord) -> None:
    assert build_view(record).basis == (
        "Basis of the prediction: measured ceilings, roofline with dispatch cost. "
        "6 % of the measured step is not predicted."
    )
    assert build_view(record.model_copy(update={"prediction": None})).basis == ""


def test_sizes_and_work_of_the_model_are_told_as_elsewhere(record: RunRecord) -> None:
    facts = {(row[0].text, row[1].text): row[2].text for row in build_view(record).tables["environment"].rows}
    assert facts["device", "memory"] == "8.2 GB (psutil)"
    assert facts["model", "work of a step, full attention"] == "21.34 GFLOP"
    assert facts["model", "bytes moved (estimate)"] == "1.9 GB"
    assert facts["run", "evaluation loss"] == "2.31 nats per token"
    assert facts["model", "source of all"] == "made for a quick first run"
