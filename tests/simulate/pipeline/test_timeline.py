"""What is read off a timeline: times of each stage that add up, activations in flight, memory over time."""

from __future__ import annotations

import numpy as np
import pytest

from hwprof.simulate.pipeline.engine import simulate_pipeline


@pytest.mark.parametrize("overlap_send", [True, False])
def test_stage_times_add_up_to_the_step(sizes, overlap_send, varied):
    timeline = simulate_pipeline(varied(3, overlap_send=overlap_send, **sizes))
    times = timeline.stage_times
    whole_s = sum(getattr(times, name) for name in type(times).__dataclass_fields__)
    assert whole_s == pytest.approx(np.full(sizes["stages"], timeline.step_s))
    assert (times.bubble_s > -1e-9).all()
    assert (times.message_s == 0).all() or overlap_send or (times.send_s > 0).any()


def test_exposed_sends_hold_the_stage_and_overlapped_ones_make_it_wait(uniform):
    """4 micro-batches, 3 edges: stage 0 sends 4 outputs, the last 4 gradients, the others both."""
    exposed = simulate_pipeline(uniform("1f1b", stages=4, micro_batches=4, send_s=0.25, overlap_send=False))
    assert exposed.stage_times.send_s.tolist() == [1.0, 2.0, 2.0, 1.0]
    overlapped = simulate_pipeline(uniform("1f1b", stages=4, micro_batches=4, send_s=0.25))
    assert overlapped.stage_times.send_s.tolist() == [0.0] * 4
    assert (overlapped.stage_times.message_s > 0).all()


@pytest.mark.parametrize(
    ("schedule", "chunks", "micro_batches", "expected"),
    [
        ("gpipe", 1, 8, [8, 8, 8, 8]),
        ("1f1b", 1, 8, [4, 3, 2, 1]),
        ("1f1b", 1, 3, [3, 3, 2, 1]),
        ("zb-h1", 1, 8, [4, 4, 4, 4]),
        (
            "interleaved",
            2,
            8,
            [11, 9, 7, 5],
        ),  # Korthikanti et al. 2022, section 4.2.3: p(1 + (p - 1)/(p v)) stages' worth
        ("zb-v", 2, 8, [8, 8, 8, 8]),
        ("dualpipe", 2, 8, [5, 5, 5, 5]),
    ],
)
def test_activations_in_flight(schedule, chunks, micro_batches, expected, uniform):
    """Of 4 stages; kept bytes of 1 make the peak the same number."""
    timeline = simulate_pipeline(uniform(schedule, stages=4, chunks=chunks, micro_batches=micro_batches))
    assert expected == [timeline.in_flight(stage) for stage in range(4)]
    assert expected == timeline.peak_bytes.tolist()


def test_peak_holds_what_is_fixed_kept_and_worked_with(uniform):
    stage = {"fixed_bytes": 1000.0}
    work = uniform("1f1b", stages=2, micro_batches=5, kept_bytes=10.0, working_bytes=7.0, stage=stage)
    assert simulate_pipeline(work).peak_bytes.tolist() == [1027.0, 1017.0]


def test_memory_curve_by_hand(uniform):
    """Stage 1 of 2: waits 1 s, then F (1 s) and B (2 s) in turn, 10 bytes each time, 3 more while a pass runs."""
    stage = {"fixed_bytes": 100.0}
    work = uniform("1f1b", stages=2, micro_batches=2, kept_bytes=10.0, working_bytes=3.0, stage=stage)
    times_s, levels_bytes = simulate_pipeline(work).memory_curve(1)
    assert times_s.tolist() == [0, 1, 2, 2, 4, 4, 5, 5, 7]
    assert levels_bytes.tolist() == [100, 113, 110, 113, 100, 113, 110, 113, 100]


def test_memory_ends_where_it_began_and_peaks_where_it_says(sizes, varied):
    timeline = simulate_pipeline(varied(8, overlap_send=True, **sizes))
    for stage in range(sizes["stages"]):
        times_s, levels_bytes = timeline.memory_curve(stage)
        assert levels_bytes[0] == pytest.approx(levels_bytes[-1], abs=1e-9)
        assert (np.diff(times_s) >= 0).all()
        assert levels_bytes.max() == pytest.approx(timeline.peak_bytes[stage])
