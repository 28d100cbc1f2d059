"""Formulas against the engine, on pipelines drawn at random; uneven outer stages, messages hidden and exposed."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from made_up_pipelines import made_up_chunk, made_up_pipeline, made_up_stage

from hwprof.simulate.closed_forms.forms import pipeline_span_s
from hwprof.simulate.closed_forms.times import PassTimes, PipelineTimes
from hwprof.simulate.pipeline.engine import simulate_pipeline
from hwprof.simulate.pipeline.schedules import pipeline_order, routes, schedule_refusal

PASSES = ("forward_s", "backward_input_s", "backward_weight_s")


def drawn(seed, schedule, count):
    """Up to 8 stages; embedding up to half a chunk, head up to one, messages up to 0.3 of a forward pass."""
    rng = random.Random(seed)
    while count:
        stages = rng.choice([1, 2, 3, 4, 6, 8])
        chunks = {"interleaved": rng.choice([1, 2, 3, 6]), "zb-v": 2, "dualpipe": 2}.get(schedule, 1)
        share = rng.choice(
            [1, 2, 3, stages - 1, stages, stages + 1, 2 * stages, 2 * stages + 3, 4 * stages, 6 * stages]
        )
        micro_batches = max(share, 2 * stages + 2 * rng.randrange(8) if schedule == "dualpipe" else 1)
        if schedule_refusal(schedule, stages=stages, chunks=chunks, micro_batches=micro_batches):
            continue
        count -= 1
        typical = np.array([1.0, rng.uniform(0.9, 1.8), rng.uniform(0.6, 1.1)])
        yield {
            "stages": stages,
            "chunks": chunks,
            "micro_batches": micro_batches,
            "typical": typical,
            "first": typical * rng.choice([0.0, rng.uniform(-0.4, 0.5), rng.uniform(0, 0.2)]),
            "last": typical * rng.choice([0.0, rng.uniform(-0.4, 1.0), rng.uniform(0, 0.4)]),
            "send_s": rng.choice([0.0, rng.uniform(0, 0.1), rng.uniform(0, 0.3)]),
            "overlap_send": rng.random() < 0.6,
        }


def simulated_span_s(schedule, drawn_one, **more):
    """What the engine says."""
    stages, chunks = drawn_one["stages"], drawn_one["chunks"]
    ways = routes(schedule, stages=stages, chunks=chunks)
    firsts, lasts = {way[0] for way in ways}, {way[-1] for way in ways}

    def chunk(place):
        times = drawn_one["typical"] + (place in firsts) * drawn_one["first"] + (place in lasts) * drawn_one["last"]
        return made_up_chunk(**dict(zip(PASSES, times, strict=True)), send_s=drawn_one["send_s"], **more)

    work = made_up_pipeline(
        *(made_up_stage(*(chunk((i, k)) for k in range(chunks))) for i in range(stages)),
        micro_batches=drawn_one["micro_batches"],
        schedule=schedule,
        overlap_send=drawn_one["overlap_send"],
    )
    return simulate_pipeline(work).span_s


def as_times(many):
    """The drawn pipelines as arrays."""

    def column(name):
        return np.array([one[name] for one in many])

    def passes(name):
        return PassTimes(**dict(zip(PASSES, column(name).T, strict=True)))

    return PipelineTimes(
        **{name: column(name) for name in ("stages", "chunks", "micro_batches", "send_s", "overlap_send")},
        **{name: passes(name) for name in ("typical", "first", "last")},
        hidden_s=np.zeros(len(many)),
    )


def errors(schedule, many):
    """Closed form over engine, minus 1."""
    expected = np.array([simulated_span_s(schedule, one) for one in many])
    return pipeline_span_s(schedule, as_times(many)) / expected - 1


def test_gpipe_is_exact():
    assert np.abs(errors("gpipe", list(drawn(1, "gpipe", 100)))).max() < 1e-9


def test_1f1b_agrees_to_one_percent():
    off = np.abs(errors("1f1b", list(drawn(2, "1f1b", 200))))
    assert off.max() < 0.01
    assert off.mean() < 0.0005


def test_1f1b_of_equal_stages_is_exact():
    """With messages that take time too: (m + p - 1)(F + B + 2s) less what the last stages don't send."""
    even = [
        one | {"first": one["first"] * 0, "last": one["last"] * 0, "overlap_send": True} for one in drawn(3, "1f1b", 60)
    ]
    even = [one for one in even if one["micro_batches"] > one["stages"]]
    assert np.abs(errors("1f1b", even)).max() < 1e-9


def test_interleaved_agrees_to_one_percent():
    """To two where micro-batches do not divide by stages, so that groups are unequal."""
    many = list(drawn(4, "interleaved", 250))
    off = np.abs(errors("interleaved", many))
    unequal = np.array(
        [one["micro_batches"] > one["stages"] and one["micro_batches"] % one["stages"] > 0 for one in many]
    )
    assert off[~unequal].max() < 0.01
    assert off[unequal].max() < 0.02
    assert off.mean() < 0.0005


@pytest.mark.parametrize(
    ("schedule", "most", "on_average"),
    [("zb-h1", 0.01, 0.0005), ("zb-v", 0.03, 0.002), ("dualpipe", 0.03, 0.003)],
)
def test_zero_bubble_schedules_agree(schedule, most, on_average):
    """ZB-H1 to one percent; ZB-V and DualPipe to three, a few tenths on average."""
    off = np.abs(errors(schedule, list(drawn(7, schedule, 250))))
    assert off.max() < most
    assert off.mean() < on_average


def test_zb_v_with_enough_micro_batches_agrees_to_two_percent():
    """From 2p - 1 micro-batches on, where the pipeline fills before the first one comes back."""
    many = [one for one in drawn(8, "zb-v", 400) if one["micro_batches"] >= 2 * one["stages"] - 1]
    off = np.abs(errors("zb-v", many))
    assert off.max() < 0.02
    assert off.mean() < 0.0005


@pytest.mark.parametrize(("schedule", "most"), [("zb-h1", 1e-9), ("zb-v", 1e-9), ("dualpipe", 1e-9)])
def test_zero_bubble_schedules_of_equal_stages_without_messages(schedule, most):
    plain = {"send_s": 0.0, "typical": np.ones(3), "first": np.zeros(3), "last": np.zeros(3)}
    even = [one | plain for one in drawn(9, schedule, 120)]
    even = [one for one in even if one["micro_batches"] >= 2 * one["stages"]]
    assert np.abs(errors(schedule, even)).max() < most


def test_what_runs_together_hides_communication_in_dualpipe():
    """Hidden seconds of a pair against the engine, where communication is a share of each pass."""
    many = [one | {"first": np.zeros(3), "last": np.zeros(3)} for one in drawn(10, "dualpipe", 60)]
    times = as_times(many)
    shares = {"forward_communication_s": 0.3, "backward_communication_s": 0.4}
    expected = np.array([simulated_span_s("dualpipe", one, **shares) for one in many])
    off = pipeline_span_s("dualpipe", replace(times, hidden_s=np.full(len(many), 0.7))) / expected - 1
    assert np.abs(off).max() < 0.03


def test_a_block_more_changes_nothing():
    """Configurations are worked on in blocks; the last one is shorter."""
    many = list(drawn(5, "1f1b", 7))
    repeated = pipeline_span_s("1f1b", as_times(many * 1000))
    assert repeated.reshape(1000, 7) == pytest.approx(np.tile(pipeline_span_s("1f1b", as_times(many)), (1000, 1)))


def test_orders_are_not_made_for_the_closed_form():
    pipeline_order.cache_clear()
    pipeline_span_s("1f1b", as_times(list(drawn(6, "1f1b", 5))))
    assert pipeline_order.cache_info().currsize == 0
