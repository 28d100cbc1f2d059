"""Is the roofline drawn where Williams et al. (2009) put it?"""

from __future__ import annotations

import math

import pytest
from made_up_record import made_up_ceiling

from hwprof.report.run.provenance import ceiling_table
from hwprof.report.run.roofline import build_roofline
from hwprof.specs.record.run import RunRecord


def test_ridge_is_where_main_memory_meets_the_roof_of_the_runs_own_type(record: RunRecord) -> None:
    (ridge,) = build_roofline(record).ridges
    assert ridge.x == pytest.approx(8.26087, rel=1e-5)  # 152 GFLOP/s over 18.4 GB/s
    assert ridge.y == 152e9
    assert ridge.label == "ridge of dram and fp32: 8.261 FLOP/B"


def test_slanted_roofs_have_slope_one_and_end_at_the_highest_roof(record: RunRecord) -> None:
    slanted = [roof for roof in build_roofline(record).roofs if roof.slanted]
    bandwidths = {"memory.l1": 310e9, "memory.l2": 142e9, "memory.l3": 55e9, "memory.dram": 18.4e9}
    assert {roof.name for roof in slanted} == set(bandwidths)
    for roof in slanted:
        assert roof.ys[0] / roof.xs[0] == pytest.approx(bandwidths[roof.name])
        assert roof.ys[1] / roof.xs[1] == pytest.approx(bandwidths[roof.name])
        assert roof.ys[1] == 152e9
        assert roof.xs[0] < roof.label_x < roof.xs[1]


def test_flat_roofs_are_one_a_type_and_shapes_stay_in_the_table(record: RunRecord) -> None:
    flat = {roof.name: roof.ys for roof in build_roofline(record).roofs if not roof.slanted}
    assert flat == {"matmul.fp32": (152e9, 152e9), "matmul.bf16": (61e9, 61e9)}


def test_attention_is_no_flat_roof_and_stands_in_the_table(record: RunRecord) -> None:
    attention = [
        made_up_ceiling(
            f"attention.fp32.8x4x2x256x64.{one}",
            900e9,
            dtype="fp32",
            conditions={"counted_flop": "causal: half of all products"},
        )
        for one in ("forward", "backward")
    ]
    with_attention = record.model_copy(update={"ceilings": (*record.ceilings, *attention)})
    assert build_roofline(with_attention) == build_roofline(record)
    rows = {row[0].text: row for row in ceiling_table(with_attention).rows}
    for ceiling in attention:
        texts = [cell.text for cell in rows[ceiling.name]]
        assert "900 GFLOP/s" in texts
        assert "counted flop: causal: half of all products" in texts


def test_a_measured_roof_stands_in_for_the_datasheets(record: RunRecord) -> None:
    sheet = made_up_ceiling("matmul.fp32", 9e12, dtype="fp32", origin="datasheet")
    figure = build_roofline(record.model_copy(update={"ceilings": (sheet, *record.ceilings)}))
    assert [roof.ys[0] for roof in figure.roofs if roof.name == "matmul.fp32"] == [152e9]


def test_a_roof_that_was_not_measured_says_so(record: RunRecord) -> None:
    ceilings = tuple(c.model_copy(update={"origin": "datasheet"}) for c in record.ceilings)
    labels = [roof.label for roof in build_roofline(record.model_copy(update={"ceilings": ceilings})).roofs]
    assert all(label.endswith("(datasheet)") for label in labels)


def test_points_lie_inside_the_axes_and_below_their_roof(record: RunRecord) -> None:
    figure = build_roofline(record)
    assert len(figure.points) == 30
    for point in figure.points:
        assert figure.x_range[0] < point.x < figure.x_range[1]
        assert figure.y_range[0] < point.y < figure.y_range[1]
        assert point.y <= 1.0001 * 152e9


def test_area_grows_with_time(record: RunRecord) -> None:
    points = build_roofline(record).points
    times = sorted((op.time_s for op in record.ops if op.matmul_flop + op.vector_flop > 0), reverse=True)
    ratio = (points[1].diameter_px / points[0].diameter_px) ** 2
    assert ratio == pytest.approx(times[1] / times[0])


def test_operations_without_arithmetic_are_counted_in_the_note(record: RunRecord) -> None:
    assert build_roofline(record).note.startswith("2 of 32 operations move data without counted arithmetic")


def test_not_finite_numbers_are_not_drawn(record: RunRecord) -> None:
    odd = record.ops[0].model_copy(update={"intensity_flop_per_byte": math.inf})
    figure = build_roofline(record.model_copy(update={"ops": (odd, *record.ops[1:])}))
    assert len(figure.points) == 29


def test_without_ceilings_the_picture_says_why_it_is_empty(bare_record: RunRecord) -> None:
    figure = build_roofline(bare_record)
    assert (figure.roofs, figure.points) == ((), ())
    assert "interrupted" in figure.empty


def test_ceilings_without_operations_still_make_a_roofline(record: RunRecord) -> None:
    figure = build_roofline(record.model_copy(update={"ops": ()}))
    assert len(figure.roofs) == 6
    assert figure.empty == ""
