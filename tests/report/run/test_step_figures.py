"""Do the waterfall and the three steps (measured, predicted, best possible) say what the record says?"""

from __future__ import annotations

import pytest

from hwprof.report.run.step_figures import targets_picture, waterfall_picture
from hwprof.specs.record.run import RunRecord


def rows(record: RunRecord):
    """Row name -> its bars, without the number that stands in the label."""
    found = {}
    for bar in targets_picture(record).bars:
        found.setdefault(bar.label.partition("\n")[0], []).append(bar)
    return found


def test_waterfall_parts_follow_each_other_and_end_with_the_step(record):
    *parts, step = waterfall_picture(record).bars
    end = 0.0
    for bar in parts:
        assert bar.start == pytest.approx(end)
        end = bar.start + bar.length
    assert (step.start, step.length) == (0, pytest.approx(end))
    assert step.label == "step"


def test_waterfall_says_how_much_is_explained(record):
    assert waterfall_picture(record).note.startswith("99.3 % of the step has a cause and a place; 98.8 %")


def test_compute_is_parted_at_the_least_time_of_the_operations(record):
    op = record.ops[0]
    pair = tuple(op.model_copy(update={"time_s": time_s, "roof_s": roof_s}) for time_s, roof_s in [(3, 1), (2, 5)])
    attribution = record.attribution.model_copy(update={"compute_s": 6.0})
    parted = waterfall_picture(record.model_copy(update={"ops": pair, "attribution": attribution}))
    least, above = parted.bars[:2]
    assert (least.label, above.label) == ("compute: least time (roofs)", "compute: above its roofs")
    assert least.length / above.length == pytest.approx(3 / 3)  # 1 and 2 of the operations, of 6 s: 3 s; 3 s above


def test_without_roofs_compute_is_one_part(record):
    unknown = tuple(op.model_copy(update={"roof_name": ""}) for op in record.ops)
    assert waterfall_picture(record.model_copy(update={"ops": unknown})).bars[0].label == "compute"


def test_each_row_adds_up_to_its_step(record):
    for name, whole_s in (("measured", record.step.median_s), ("predicted", record.prediction.step_s)):
        *parts, whole = rows(record)[name]
        assert sum(bar.length for bar in parts) == pytest.approx(1e3 * whole_s)
        assert whole.start == pytest.approx(1e3 * whole_s)
    assert rows(record)["measured"][-1].interval == pytest.approx([1e3 * end for end in record.step.interval_s])


def test_best_possible_is_the_sum_of_the_roofs_of_the_phases(record):
    named = [
        phase.model_copy(update={"roof_s": {"forward": 0.010, "backward": 0.025}.get(phase.name)})
        for phase in record.phases
    ]
    found = rows(record.model_copy(update={"phases": tuple(named)}))["best possible"]
    assert [(bar.detail, bar.length) for bar in found[:-1]] == [
        ("best possible: forward 10 ms", pytest.approx(10)),
        ("best possible: backward 25 ms", pytest.approx(25)),
    ]
    assert found[0].label == "best possible\n35 ms"


def test_what_is_not_known_has_no_row_and_a_run_without_steps_says_why(record, bare_record):
    phases = tuple(phase.model_copy(update={"roof_s": None}) for phase in record.phases)
    bare = record.model_copy(update={"phases": phases, "prediction": None})
    assert list(rows(bare)) == ["measured"]
    assert "Best possible is not known" in targets_picture(bare).note
    assert targets_picture(bare_record).empty.startswith("No step and phase times: the run was interrupted")
