"""Does the first screen say the right things?"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.report import palette
from hwprof.report.run.headline import _segments, build_headline, gain_words, ranked_recommendations, top_losses
from hwprof.specs.record.run import MemoryResult, RunRecord

SHARES = st.lists(st.floats(min_value=0, max_value=1.5, allow_subnormal=False), max_size=9)


@given(SHARES)
def test_segments_of_a_bar_fill_it_exactly(shares: list[float]) -> None:
    segments = _segments([(f"part {n}", share, "", palette.BLUE) for n, share in enumerate(shares)], "rest")
    assert all(segment.fraction > 0 for segment in segments)
    if segments:
        assert math.fsum(segment.fraction for segment in segments) == pytest.approx(1, abs=1e-9)


def test_what_the_phases_miss_is_shown_as_a_rest() -> None:
    segments = _segments([("forward", 0.3, "", palette.SKY), ("backward", 0.6, "", palette.BLUE)], "between phases")
    assert [(s.label, round(s.fraction, 9), s.text) for s in segments] == [
        ("forward", 0.3, "30 %"),
        ("backward", 0.6, "60 %"),
        ("between phases", 0.1, "10 %"),
    ]


def test_phases_stand_in_the_order_they_run_without_those_outside_the_step(record: RunRecord) -> None:
    shuffled = record.model_copy(update={"phases": record.phases[::-1]})
    labels = [segment.label for segment in build_headline(shuffled).phases]
    expected = ["data", "host to device", "forward", "loss", "backward", "clip", "optimizer", "between phases"]
    assert expected == labels


def test_five_largest_losses_come_largest_first(record: RunRecord) -> None:
    losses = top_losses(record.ops)
    by_loss = sorted(record.ops, key=lambda op: op.lost_s, reverse=True)[:5]
    assert [(op.label, op.direction, op.advice) for op in by_loss] == [(x.label, x.direction, x.advice) for x in losses]


def test_loss_share_counts_the_lost_part_of_the_operation(record: RunRecord) -> None:
    op = record.ops[0].model_copy(update={"time_s": 0.04, "lost_s": 0.01, "share": 0.2})
    assert top_losses([op])[0].lost_share == "5 %"
    assert top_losses([op])[0].lost == "10 ms"


def test_an_operation_at_its_roof_is_no_loss(record: RunRecord) -> None:
    assert top_losses([record.ops[0].model_copy(update={"lost_s": 0.0})]) == ()


def test_mfu_excludes_recompute_and_hfu_includes_it_in_words(record: RunRecord) -> None:
    cards = {card.title: card for card in build_headline(record).cards}
    assert "recompute excluded" in cards["MFU"].detail
    assert "152 GFLOP/s (measured matmul.fp32: probe on this machine)" in cards["MFU"].detail
    assert "recompute included" in cards["HFU"].detail


def test_mfu_without_a_peak_is_absent_with_its_reason(record: RunRecord) -> None:
    assert record.step is not None
    unknown = {"mfu": None, "hfu": None, "mfu_causal": None, "mfu_peak_flop_per_s": None}
    step = record.step.model_copy(update={**unknown, "mfu_basis": "no matmul.fp32 peak is known"})
    cards = {card.title: card for card in build_headline(record.model_copy(update={"step": step})).cards}
    assert cards["MFU"].value == "–"
    assert "no matmul.fp32 peak is known" in cards["MFU"].detail


def test_prediction_is_compared_with_the_measured_step(record: RunRecord) -> None:
    card = next(card for card in build_headline(record).cards if card.title == "Predicted step")
    assert card.detail.startswith("6 % below the measured 290.3 ms, which is inside the predicted interval")


def test_layout_recommendations_follow_the_settings(record: RunRecord) -> None:
    titles = [item.title for item in ranked_recommendations(record)]
    assert titles[0] == "Compile the model"
    assert titles[-1] == "Two devices: data parallel"


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        ((0.06, 0.14), "saves 6 to 14 % of the step"),
        ((0.0, 0.04), "saves up to 4 % of the step"),
        ((-0.02, 0.0), "no saving expected"),
    ],
)
def test_a_gain_that_may_be_nothing_is_not_promised(gain: tuple[float, float], expected: str) -> None:
    assert expected == gain_words(gain)


def test_unstable_step_time_says_so(record: RunRecord) -> None:
    assert record.step is not None
    shaky = record.model_copy(update={"step": record.step.model_copy(update={"stable": False, "spread": 0.2})})
    assert "unstable" in build_headline(shaky).cards[0].detail


def test_without_a_verdict_the_sentence_says_why(bare_record: RunRecord) -> None:
    headline = build_headline(bare_record)
    assert headline.sentence == "No verdict: the run was interrupted first (Ctrl-C in warm-up)."
    assert (headline.cards, headline.phases, headline.bounds, headline.losses) == ((), (), (), ())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"stable": False, "spread": 0.09, "waited_fraction": 0.01}, "The steps differ: their times spread by 9 %."),
        ({"stable": False, "waited_fraction": 0.75}, "waited 0.75 s for it in each second of the timed steps."),
    ],
)
def test_unsure_numbers_come_with_a_caution_on_the_first_screen(record: RunRecord, changes, words) -> None:
    assert record.step is not None
    caution = build_headline(record.model_copy(update={"step": record.step.model_copy(update=changes)})).caution
    assert words in caution
    assert bool(caution) is bool(words)


def test_few_samples_have_a_range_and_no_confidence_interval(record: RunRecord) -> None:
    assert record.step is not None
    few = record.step.model_copy(update={"samples_s": record.step.samples_s[:5]})
    cards = {card.title: card for card in build_headline(record.model_copy(update={"step": few})).cards}
    assert "range" in cards["Step time"].brief
    assert "95 %" not in cards["Step time"].brief


@pytest.mark.parametrize(
    ("memory", "value", "detail"),
    [
        (
            {"measured_peak_bytes": 181.34e6, "predicted_peak_bytes": 173.9e6, "capacity_bytes": 8.2e9},
            "181.3 MB",
            "measured; predicted 173.9 MB; 2.21 % of 8.2 GB",
        ),
        ({"measured_peak_bytes": 2e9}, "2 GB", "measured"),
        ({"predicted_peak_bytes": 3e9, "capacity_bytes": 8e9}, "3 GB", "predicted; the peak could not be measured"),
    ],
)
def test_peak_memory_is_the_measured_one_beside_the_predicted_and_the_capacity(record, memory, value, detail) -> None:
    changed = record.model_copy(update={"memory": MemoryResult(parts=(), **memory)})
    card = build_headline(changed).cards[-1]
    assert (card.title, card.value, card.detail, card.brief) == ("Peak memory", value, detail, detail)


def test_a_prediction_beyond_its_interval_is_called_outside(record: RunRecord) -> None:
    assert record.prediction is not None
    wrong = record.prediction.model_copy(update={"step_s": 0.58, "interval_s": (0.5, 0.6)})
    cards = {card.title: card for card in build_headline(record.model_copy(update={"prediction": wrong})).cards}
    assert cards["Predicted step"].value == "580 ms"
    assert cards["Predicted step"].detail == (
        "99.8 % above the measured 290.3 ms, which is outside the predicted interval 500 to 600 ms"
    )


def test_recompute_is_named_on_the_card_that_counts_it(record: RunRecord) -> None:
    settings = record.settings.model_copy(update={"recompute": "full"})
    cards = {card.title: card for card in build_headline(record.model_copy(update={"settings": settings})).cards}
    assert "recompute included (recompute: full)" in cards["HFU"].detail


def test_without_ceilings_nothing_is_called_far_below_a_roof(record: RunRecord) -> None:
    phases = tuple(phase.model_copy(update={"bound": "unknown"}) for phase in record.phases)
    bare = build_headline(record.model_copy(update={"ceilings": (), "phases": phases}))
    assert [part.detail for part in bare.bounds if part.label == "unknown"] == ["no roof is known"]
    assert bare.phases[0].detail == "3.1 ms, no roof is known"
    known = build_headline(record.model_copy(update={"phases": phases}))
    assert known.phases[0].detail == "3.1 ms, far below every known roof"


def test_an_operation_without_a_roof_or_advice_says_only_what_is_known(record: RunRecord) -> None:
    op = record.ops[0].model_copy(update={"roof_fraction": None, "advice": "", "time_s": 0.0123456})
    (loss,) = top_losses([op])
    assert loss.where == "attention, takes 12.35 ms per step"
    assert loss.advice == "No setting is known to help."


def test_recommendations_beyond_the_first_four_are_counted(record: RunRecord) -> None:
    headline = build_headline(record)
    assert (len(headline.recommendations), headline.more_recommendations) == (4, 1)
    few = build_headline(record.model_copy(update={"recommendations": record.recommendations[:2]}))
    assert (len(few.recommendations), few.more_recommendations) == (2, 0)
