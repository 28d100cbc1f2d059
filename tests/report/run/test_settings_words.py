"""Is what ran told in words, of our own loop and of somebody else's?"""

from __future__ import annotations

import pytest
from made_up_record import made_up_step

from hwprof.report.run.settings_words import batch_words, rate_text, setting_words
from hwprof.specs.record.loop import LoopSettings
from hwprof.specs.record.run import RunSettings

PLAIN = {"model": "tiny", "device": "cpu", "micro_batch": 8, "seq_len": 1024}
LOOP = {"model": "Net", "device": "cuda", "warmup_steps": 1, "steps": 5, "profiled_steps": 1}


def words(settings):
    return [word for word in setting_words(settings) if word]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["fp32", "micro-batch 8 × 1,024 tokens", "adamw (for-loop)"]),
        (
            {"gradient_accumulation": 4, "recompute": "full", "compile": True, "dtype": "bf16"},
            [
                "bf16",
                "micro-batch 8 × 1,024 tokens",
                "accumulation 4",
                "adamw (for-loop)",
                "full recompute",
                "compiled",
            ],
        ),
    ],
)
def test_our_own_loop_names_what_was_set(changes, expected):
    assert words(RunSettings(**PLAIN | changes)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        (
            {"dtype": "tf32", "inputs": ("ids 8x128 int64", "mask 8x128 bool")},
            ["tf32", "ids 8x128 int64, mask 8x128 bool"],
        ),
        ({"optimizer": "Adam", "optimizer_implementation": "foreach"}, ["Adam (foreach)"]),
        ({"optimizer": "Lion", "gradient_accumulation": 2}, ["accumulation 2", "Lion"]),
        ({"recompute": "seen", "compile": True, "gradient_accumulation": 1}, ["recompute", "compiled"]),
    ],
)
def test_somebody_else_s_loop_names_what_was_seen_and_nothing_else(changes, expected):
    assert words(LoopSettings(**LOOP | changes)) == expected


@pytest.mark.parametrize(
    ("settings", "brief", "detail"),
    [
        (
            RunSettings(**PLAIN, gradient_accumulation=2),
            "16,384 tokens per step and rank",
            "16,384 tokens per step and rank = 8 sequences × 2 accumulation × 1,024 tokens",
        ),
        (
            LoopSettings(**LOOP, tokens_per_step=4096, samples_per_step=32),
            "4,096 tokens per step and rank",
            "4,096 tokens per step and rank; 4,096 tokens, 32 samples, as seen at the module's inputs",
        ),
        (
            LoopSettings(**LOOP, samples_per_step=32),
            "32 samples per step and rank",
            "32 samples per step and rank; 32 samples, as seen at the module's inputs",
        ),
        (LoopSettings(**LOOP), "what a step takes in was not seen", "what a step takes in was not seen"),
    ],
)
def test_a_step_takes_in_what_was_counted(settings, brief, detail):
    assert batch_words(settings) == (brief, detail)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"tokens_per_s": 3527.4}, "3,527 tokens/s"),
        ({"tokens_per_s": 12.3456}, "12.35 tokens/s"),
        ({"tokens_per_s": None, "samples_per_s": 31.0}, "31 samples/s"),
        ({"tokens_per_s": None}, "– tokens/s"),
    ],
)
def test_the_rate_is_of_tokens_or_else_of_samples(rates, expected):
    assert rate_text(made_up_step(1.0, **rates)) == expected
