"""Do the tables show everything that the record has?"""

from __future__ import annotations

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
    assert column(table, "value")[:2] == ["152 GFLOP/s", "61.0 GFLOP/s"]


def test_an_unstable_ceiling_is_called_unstable(record: RunRecord) -> None:
    table = build_view(record).tables["ceilings"]
    verdicts = dict(zip(column(table, "ceiling"), column(table, "stable"), strict=True))
    assert (verdicts["memory.l3"], verdicts["memory.l2"]) == ("unstable", "stable")


def test_what_hwprof_costs_tells_events_apart_from_what_the_window_took(record: RunRecord) -> None:
    costs = {"recorder_overhead_fraction": 0.001, "profiler_overhead_fraction": -0.02, "profiler_own_fraction": 0.06}
    note = build_view(record.model_copy(update=costs)).tables["phases"].note
    assert "changes the time of a step by -2.00 % (its events on the host, counted one by one, take 6.00 %)" in note


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
    assert column(table, "reason")[-1] == "needs 97.2 GB, device has 80.0 GB"


def test_a_phase_outside_the_step_has_no_share_of_it(record: RunRecord) -> None:
    table = build_view(record).tables["phases"]
    shares = dict(zip(column(table, "phase"), column(table, "share"), strict=True))
    assert shares["evaluation"] == "–"


def test_telemetry_summary_has_units(record: RunRecord) -> None:
    table = build_view(record).tables["telemetry"]
    assert column(table, "max") == ["97.97 %", "96.00 %", "3.000 GHz", "649.8 MB", "4.000 MB/s"]


def test_loss_table_says_whether_the_loss_fell(record: RunRecord) -> None:
    falling = build_view(record.model_copy(update={"losses": (4.0, 3.0)})).tables["losses"]
    rising = build_view(record.model_copy(update={"losses": (3.0, 4.5)})).tables["losses"]
    assert falling.note == "The loss fell by 25.0 % over 2 steps."
    assert rising.note == "The loss rose by 50.0 % over 2 steps."


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
    assert (units["median"], units["predicted"], units["roof"]) == ("s", "s", "s")
