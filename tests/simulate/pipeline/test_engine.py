"""Item times against a second simulator, and the step against the bubbles that the papers state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_up_pipelines import made_up_chunk, made_up_pipeline, made_up_stage

from hwprof.errors import InputError
from hwprof.simulate.pipeline.engine import simulate_pipeline


@pytest.mark.parametrize("overlap_send", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_items_start_when_an_event_driven_simulator_starts_them(sizes, overlap_send, seed, varied, event_driven):
    work = varied(seed, overlap_send=overlap_send, **sizes)
    timeline = simulate_pipeline(work)
    for stage, starts_s in enumerate(event_driven(work)):
        assert [span.start_s for span in timeline.spans(stage)] == pytest.approx(starts_s, abs=1e-12)


@pytest.mark.parametrize(("stages", "micro_batches"), [(4, 4), (4, 8), (8, 32), (2, 2), (1, 5)])
@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_bubble_of_equal_stages_is_p_minus_1_passes(schedule, stages, micro_batches, uniform):
    """Huang et al. 2019; Narayanan et al. 2021: (p - 1)(F + B), a fraction (p - 1)/(m + p - 1) of the step."""
    timeline = simulate_pipeline(uniform(schedule, stages=stages, micro_batches=micro_batches))
    assert timeline.step_s == pytest.approx(3 * (micro_batches + stages - 1))
    bubble = timeline.stage_times.bubble_s / timeline.step_s
    assert bubble == pytest.approx((stages - 1) / (micro_batches + stages - 1))


@pytest.mark.parametrize(("stages", "chunks", "micro_batches"), [(4, 2, 8), (8, 4, 16), (4, 4, 4), (16, 8, 16)])
def test_interleaving_divides_the_bubble_by_the_chunks(stages, chunks, micro_batches, uniform):
    """Narayanan et al. 2021, section 2.2.2: (p - 1)(F + B)/v with F and B of a whole stage."""
    timeline = simulate_pipeline(uniform("interleaved", stages=stages, chunks=chunks, micro_batches=micro_batches))
    stage_s = 3 * chunks
    assert timeline.step_s == pytest.approx(micro_batches * stage_s + (stages - 1) * stage_s / chunks)


@pytest.mark.parametrize(("stages", "micro_batches"), [(4, 8), (8, 8), (8, 30)])
@pytest.mark.parametrize("weight_s", [1.0, 0.7, 0.4])
def test_zb_h1_bubble(stages, micro_batches, weight_s, uniform):
    """Qi et al. 2023, table 2: (p - 1)(F + B - W)."""
    times = {"forward_s": 1.0, "backward_input_s": 1.1, "backward_weight_s": weight_s}
    timeline = simulate_pipeline(uniform("zb-h1", stages=stages, micro_batches=micro_batches, **times))
    assert timeline.step_s == pytest.approx(micro_batches * (2.1 + weight_s) + (stages - 1) * (2.1 - weight_s))


@pytest.mark.parametrize(("stages", "micro_batches"), [(4, 7), (4, 12), (8, 15), (8, 32)])
def test_zb_v_stages_never_wait_once_they_have_started(stages, micro_batches, uniform):
    """Qi et al. 2023, section 6: no bubble where F = B = W; stages start and end in a slant of one pass each."""
    timeline = simulate_pipeline(uniform("zb-v", stages=stages, chunks=2, micro_batches=micro_batches))
    for stage in range(stages):
        spans = list(timeline.spans(stage))
        assert spans[0].start_s == pytest.approx(stage)
        assert spans[-1].end_s - spans[0].start_s == pytest.approx(2 * micro_batches * 3)


@pytest.mark.parametrize(("stages", "micro_batches"), [(4, 8), (8, 20), (8, 40), (16, 32)])
@pytest.mark.parametrize("weight_s", [1.0, 0.8, 0.5])
def test_dualpipe_bubble(stages, micro_batches, weight_s, uniform):
    """DeepSeek-AI 2024, table 2: (p/2 - 1)(F&B + B - 3W), B the whole backward pass; F = B - W."""
    work = uniform("dualpipe", stages=stages, chunks=2, micro_batches=micro_batches, backward_weight_s=weight_s)
    backward_s = 1 + weight_s
    bubble_s = (stages / 2 - 1) * ((1 + backward_s) + backward_s - 3 * weight_s)
    assert simulate_pipeline(work).step_s == pytest.approx(micro_batches * (1 + backward_s) + bubble_s)


def test_dualpipe_hides_communication_behind_the_other_direction(uniform):
    """A pair takes max(4 - 1.5, 1.5) = 2.5 s instead of 4 s; communication is part of a pass."""
    apart = uniform("dualpipe", stages=2, chunks=2, micro_batches=40, forward_s=2.0)
    shares = {"forward_communication_s": 0.5, "backward_communication_s": 1.0}
    hidden = uniform("dualpipe", stages=2, chunks=2, micro_batches=40, forward_s=2.0, **shares)
    pairs = sum(len(span.item) == 2 for span in simulate_pipeline(hidden).spans(0))
    assert simulate_pipeline(apart).step_s - simulate_pipeline(hidden).step_s == pytest.approx(pairs * 1.5)


def test_work_is_conserved_under_every_schedule(uniform):
    """8 micro-batches x 6 s a stage; two chunks are half as long."""
    busy = []
    for schedule, chunks in (("gpipe", 1), ("1f1b", 1), ("zb-h1", 1), ("interleaved", 2), ("zb-v", 2)):
        times = dict.fromkeys(("forward_s", "backward_input_s", "backward_weight_s"), 2.0 / chunks)
        timeline = simulate_pipeline(uniform(schedule, stages=4, chunks=chunks, micro_batches=8, **times))
        busy.append(timeline.stage_times.computation_s)
    assert np.array(busy) == pytest.approx(np.full((5, 4), 8 * 6.0))
    dualpipe = uniform(
        "dualpipe", stages=4, chunks=2, micro_batches=8, forward_s=2, backward_input_s=2, backward_weight_s=2
    )
    assert simulate_pipeline(dualpipe).stage_times.computation_s == pytest.approx(np.full(4, 8 * 6.0))


@pytest.mark.parametrize("overlap_send", [True, False])
def test_a_faster_chunk_is_never_slower(sizes, overlap_send, varied):
    work = varied(11, overlap_send=overlap_send, **sizes)
    step_s = simulate_pipeline(work).step_s
    for number, stage in enumerate(work.stages):
        for field in ("forward_s", "backward_input_s", "backward_weight_s", "send_s"):
            shares = {"forward_communication_s": 0.0, "backward_communication_s": 0.0}
            base = replace(work.stages[number].chunks[0], **shares)
            slow = _with_chunk(work, number, base)
            fast = _with_chunk(work, number, replace(base, **{field: getattr(base, field) / 2}))
            assert simulate_pipeline(fast).step_s <= simulate_pipeline(slow).step_s + 1e-12
        slower_start = replace(stage, before_s=stage.before_s + 1)
        stages = (*work.stages[:number], slower_start, *work.stages[number + 1 :])
        assert simulate_pipeline(replace(work, stages=stages)).step_s >= step_s - 1e-12


def _with_chunk(work, number, chunk):
    stage = replace(work.stages[number], chunks=(chunk, *work.stages[number].chunks[1:]))
    return replace(work, stages=(*work.stages[:number], stage, *work.stages[number + 1 :]))


def test_a_message_that_overlaps_is_never_slower(sizes, varied):
    hidden = simulate_pipeline(varied(5, overlap_send=True, **sizes))
    exposed = simulate_pipeline(varied(5, overlap_send=False, **sizes))
    assert hidden.step_s <= exposed.step_s + 1e-12


def test_two_stages_by_hand():
    """F 0-2 on stage 0, 1 s of travel, F 3-6 and B 6-11 on stage 1, B 12-16, reduced at 17, update to 18.5."""
    first = made_up_chunk(forward_s=2, backward_input_s=3, backward_weight_s=1, send_s=1, kept_bytes=10)
    second = made_up_chunk(forward_s=3, backward_input_s=4, backward_weight_s=1, send_s=0, kept_bytes=20)
    work = made_up_pipeline(
        made_up_stage(first, reduce_s=1, optimizer_s=1),
        made_up_stage(second, reduce_s=4, optimizer_s=1.5),
        micro_batches=1,
        schedule="1f1b",
    )
    timeline = simulate_pipeline(work)
    assert [(span.start_s, span.end_s) for span in timeline.spans(0)] == [(0, 2), (12, 16)]
    assert [(span.start_s, span.end_s) for span in timeline.spans(1)] == [(3, 6), (6, 11)]
    assert timeline.span_s == 16
    assert timeline.step_s == 18.5
    assert simulate_pipeline(replace(work, optimizer_barrier=False)).step_s == 18
    assert timeline.stage_times.message_s.tolist() == [1.0, 1.0]
    assert timeline.stage_times.bubble_s.tolist() == [9.5, 2.0 + 2.0]


def test_nonsense_is_refused(uniform):
    with pytest.raises(InputError, match="forward_s of a chunk is -1"):
        uniform("1f1b", stages=2, micro_batches=2, forward_s=-1)
    with pytest.raises(InputError, match="kept_bytes of a chunk is nan"):
        uniform("1f1b", stages=2, micro_batches=2, kept_bytes=float("nan"))
    with pytest.raises(InputError, match=r"forward_communication_s = 2.0 is more than the 1.0 s of its pass"):
        uniform("1f1b", stages=2, micro_batches=2, forward_communication_s=2.0)
    with pytest.raises(InputError, match="optimizer_s of a stage is inf"):
        uniform("1f1b", stages=2, micro_batches=2, stage={"optimizer_s": float("inf")})
    with pytest.raises(InputError, match="dualpipe needs an even number"):
        uniform("dualpipe", stages=2, chunks=2, micro_batches=5)
    chunk = made_up_chunk()
    uneven = (made_up_stage(chunk), made_up_stage(chunk, chunk))
    with pytest.raises(InputError, match=r"stages hold \[1, 2\] chunks"):
        made_up_pipeline(*uneven, micro_batches=2, schedule="interleaved")
