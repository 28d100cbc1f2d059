"""Validation: errors by hand, refused rows kept in place, measured numbers never looked at."""

from __future__ import annotations

import pytest

from hwprof.simulate.published.validation import Errors, Validation, ValidationRow, validate
from hwprof.specs.catalogue.published import UnreadableRun, read_published
from hwprof.specs.catalogue.simulator import simulator_parameters


def row(measured, predicted, low=0.0, high=100.0, **more):
    return ValidationRow(id="x", measured_step_s=measured, predicted_step_s=predicted, interval_s=(low, high), **more)


def test_errors_by_hand():
    found = Errors.of([0.1, -0.2, 0.3])
    assert (found.count, found.median_abs_pct, found.max_abs_pct) == (3, pytest.approx(20), pytest.approx(30))
    assert found.bias_pct == pytest.approx(10)
    assert found.p90_abs_pct == pytest.approx(28)
    assert Errors.of([]) is None


def test_a_validation_by_hand():
    rows = (
        row(2.0, 1.0, low=1.5, high=2.5, accelerator="A", kinds=("dense", "FSDP")),
        row(1.0, 1.1, low=1.05, high=1.2, accelerator="B", kinds=("dense",)),
        row(None, 3.0, accelerator="B"),
        ValidationRow(id="y", accelerator="C", refused="why"),
    )
    found = Validation(rows=rows)
    assert found.coverage == 3 / 4
    assert found.step_time.count == 2
    assert found.step_time.max_abs_pct == pytest.approx(50)
    assert found.interval_coverage == 1 / 2
    assert found.refused == {"why": 1}
    assert set(found.by("accelerator")) == {"A", "B"}
    assert found.by("kind")["dense"].count == 2
    assert found.memory is None


def runs(count=12):
    return [run for run in read_published() if run.step_s][:count]


def test_order_is_kept_and_refused_rows_stand_where_they_were():
    first, second, *_ = runs()
    bad = first.model_copy(update={"id": "bad", "accelerator": "Abacus"})
    unreadable = UnreadableRun(id="line 3", reason="tp is 'x'")
    found = validate([second, bad, unreadable, first], simulator_parameters())
    assert [one.id for one in found.rows] == [second.id, "bad", "line 3", first.id]
    assert [bool(one.refused) for one in found.rows] == [False, True, True, False]
    assert found.rows[2].refused == "tp is 'x'"


def test_a_prediction_never_sees_what_was_measured():
    given = runs()
    hidden = [run.model_copy(update={"step_s": None, "peak_mem_gib_per_device": None}) for run in given]
    other = [run.model_copy(update={"step_s": 7.0 * run.step_s}) for run in given]
    table = simulator_parameters()
    seen, unseen, wrong = (validate(each, table) for each in (given, hidden, other))
    expected = [one.predicted_step_s for one in seen.rows]
    assert [one.predicted_step_s for one in unseen.rows] == expected
    assert [one.predicted_step_s for one in wrong.rows] == expected
    assert unseen.step_time is None


def test_one_row_is_predicted_as_it_is_among_others():
    given = runs()
    together = validate(given, simulator_parameters())
    alone = validate(given[5:6], simulator_parameters())
    assert alone.rows[0].predicted_step_s == pytest.approx(together.rows[5].predicted_step_s, rel=1e-9)


def test_nothing_to_compare_is_no_crash():
    found = validate([UnreadableRun(id="a", reason="b")], simulator_parameters())
    assert (found.coverage, found.step_time, found.interval_coverage) == (0.0, None, None)
