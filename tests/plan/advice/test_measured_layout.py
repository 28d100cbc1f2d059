"""The run's own layout as a row: what was measured, never what was predicted."""

from __future__ import annotations

from hwprof.plan.advice.measured_layout import measured_layout
from hwprof.specs.record.memory import MemoryResult


def test_a_run_on_one_device_is_its_own_yardstick(build):
    record = build()
    row = measured_layout(record)
    assert (row.rank, row.devices, row.fits, row.bound) == (0, 1, True, record.bound)
    assert (row.step_s, row.step_lo_s, row.step_hi_s) == (record.step.median_s, *record.step.interval_s)
    assert row.tokens_per_s_per_device == record.step.tokens_per_s
    assert (row.micro_batch, row.gradient_accumulation) == (8, record.run_settings.gradient_accumulation)


def test_ranks_share_the_tokens(build):
    record = build()
    many = record.model_copy(update={"world_size": 4})
    assert measured_layout(many).tokens_per_s_per_device == record.step.tokens_per_s / 4


def test_without_a_step_only_memory_is_said(build):
    memory = MemoryResult(measured_peak_bytes=None, predicted_peak_bytes=5e9, parts=())
    row = measured_layout(build().model_copy(update={"step": None, "memory": memory}))
    assert (row.step_s, row.tokens_per_s_per_device, row.mfu) == (None, None, None)
    assert row.memory_bytes == 5e9
    assert measured_layout(build().model_copy(update={"memory": None})).memory_bytes == 0.0
