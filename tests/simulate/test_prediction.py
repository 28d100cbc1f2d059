"""One prediction: engine next to closed form, parts that add up, everything that it states."""

from __future__ import annotations

import random

import pytest

from hwprof.count.job.model_flop import job_flop
from hwprof.simulate.prediction import predict_job
from hwprof.specs.catalogue.simulator import simulator_parameters

CLOSED_FORM_ERROR = {"gpipe": 0.006, "1f1b": 0.006, "interleaved": 0.02}
"""The worst of 320 random layouts: 0.3 %, 0.43 % and 1.2 %; layers that do not divide, heads and messages."""

CONSERVATIVE = ("zb-h1", "zb-v", "dualpipe")
"""The step formula gives these the bubble of 1F1B, so it is never faster than the engine."""

MODELS = ("llama-3.1-8b", "llama-3.1-70b", "mixtral-8x7b", "gpt3-175b")


def random_jobs(placed, schedule, count, seed=7):
    draw = random.Random(seed)
    while count:
        model, tensor = draw.choice(MODELS), draw.choice([1, 2, 4, 8])
        stages = draw.choice([2, 4, 8])
        virtual = draw.choice([2, 4]) if schedule == "interleaved" else 1
        data = draw.choice([1, 2, 4])
        devices = tensor * stages * data
        if devices > 8 and devices % 8:
            continue
        layout = {
            "tensor_parallel": tensor,
            "pipeline_parallel": stages,
            "virtual_stages": virtual,
            "data_parallel": data,
            "schedule": schedule,
        }
        batch = data * stages * draw.choice([2, 3, 4])
        count -= 1
        yield placed(model, devices, layout=layout, seq_len=draw.choice([1024, 2048]), global_batch=batch)


@pytest.mark.parametrize("schedule", sorted(CLOSED_FORM_ERROR))
def test_engine_and_closed_form_agree(schedule, placed, closed_form_s):
    table, worst = simulator_parameters(), 0.0
    for job, machine, stack in random_jobs(placed, schedule, 25):
        closed, _ = closed_form_s(job, machine, stack)
        worst = max(worst, abs(predict_job(job, machine, stack, table).step_s / closed - 1))
    assert 0 < worst <= CLOSED_FORM_ERROR[schedule]


@pytest.mark.parametrize("schedule", CONSERVATIVE)
def test_the_closed_form_of_schedules_with_smaller_bubbles_is_conservative(schedule, placed, closed_form_s):
    for job, machine, stack in random_jobs(placed, schedule, 15):
        closed, _ = closed_form_s(job, machine, stack)
        engine = predict_job(job, machine, stack, simulator_parameters()).step_s
        assert 0.65 <= engine / closed <= 1.005


@pytest.mark.parametrize(
    ("model", "devices", "changes"),
    [
        ("llama-3.1-8b", 8, {"layout": {"data_parallel": 8, "zero_stage": 3}, "stack": "torch"}),
        ("llama-3.1-70b", 64, {"layout": {"tensor_parallel": 8, "pipeline_parallel": 4, "data_parallel": 2}}),
        ("mixtral-8x7b", 16, {"layout": {"data_parallel": 16, "expert_parallel": 8}, "dtype": "fp8"}),
        ("llama-3.1-8b", 4, {"layout": {"context_parallel": 4}, "recompute": "full"}),
    ],
)
def test_a_prediction_is_consistent(model, devices, changes, placed):
    job, machine, stack = placed(model, devices, **changes)
    found = predict_job(job, machine, stack, simulator_parameters())
    assert sum(found.breakdown_s.values()) == pytest.approx(found.step_s, rel=1e-9)
    assert found.step_s == found.timeline.step_s
    low, high = found.interval_s
    assert low < found.step_s < high
    assert found.memory_interval_bytes[0] < found.memory.device_bytes < found.memory_interval_bytes[1]
    assert found.tokens_per_s_per_device * found.step_s * devices == pytest.approx(job.tokens)
    rate = machine.peak_flop_per_s(job.dtype) * devices
    assert found.mfu * found.step_s * rate == pytest.approx(job_flop(job).model)
    assert 0 < found.mfu_causal < found.mfu <= found.hfu < 1
    assert found.fits == (found.memory.device_bytes <= machine.capacity_bytes)
    assert [line for line in found.basis if line.startswith("parameters ")]
    assert [line for line in found.basis if line.startswith("interval: published runs")]


def test_an_architecture_without_a_published_run_widens_the_interval_and_says_so(placed):
    def width(hardware):
        job, machine, stack = placed("llama-3.1-8b", 8, hardware=hardware, layout={"data_parallel": 8})
        found = predict_job(job, machine, stack, simulator_parameters())
        return found.interval_s[1] / found.interval_s[0], " ".join(found.basis)

    known, words = width("h100-sxm")
    wider, other_words = width("gaudi3")
    assert "assumed" not in words
    assert "device not fitted" not in words
    assert "kernels not measured" not in words
    assert wider > known
    assert "assumed for" in other_words
    assert "device not fitted: wider; kernels not measured: wider" in other_words


def test_what_fills_the_step_is_its_bound(placed):
    """A tiny model waits for its host, a big one for its products."""
    table = simulator_parameters()
    small = predict_job(*placed("gpt2-124m", 1, seq_len=1024, global_batch=1), table)
    big = predict_job(*placed("llama-3.1-70b", 8, layout={"tensor_parallel": 8}), table)
    assert small.bound in {"host", "memory"}
    assert big.bound == "compute"
