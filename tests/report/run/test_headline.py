"""Does the first screen say the right things?"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.report import palette
from hwprof.report.run.headline import _segments, build_headline, gain_words, ranked_recommendations, top_losses
from hwprof.specs.record.run import RunRecord

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
        ("forward", 0.3, "30.0 %"),
        ("backward", 0.6, "60.0 %"),
        ("between phases", 0.1, "10.0 %"),
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
    assert top_losses([op])[0].lost_share == "5.00 %"
    assert top_losses([op])[0].lost == "10.0 ms"


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
    assert card.detail.startswith("6.00 % below the measured 290 ms, which is inside the predicted interval")


def test_layout_recommendations_follow_the_settings(record: RunRecord) -> None:
    titles = [item.title for item in ranked_recommendations(record)]
    assert titles[0] == "Compile the model"
    assert titles[-1] == "Two devices: data parallel"


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        ((0.06, 0.14), "saves 6.0 to 14 % of the step"),
        ((0.0, 0.04), "saves up to 4.0 % of the step"),
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


def relative_luminance(colour: str) -> float:
    """WCAG 2.1, relative luminance of an sRGB colour."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", sorted({*palette.PHASE_COLOURS.values(), *palette.BOUND_COLOURS.values()}))
def test_text_on_every_colour_has_readable_contrast(colour: str) -> None:
    dark, light = sorted((relative_luminance(colour), relative_luminance(palette.ink(colour))))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_phases_and_bound_classes_have_distinct_colours() -> None:
    for colours in (palette.PHASE_COLOURS, palette.BOUND_COLOURS):
        assert len(set(colours.values())) == len(colours)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"stable": False, "spread": 0.09, "waited_fraction": 0.01}, "The steps differ: their times spread by 9.00 %."),
        ({"stable": False, "waited_fraction": 0.75}, "waited 0.750 s for it in each second of the timed steps."),
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
