"""What fits a device: against published peaks, closed forms, and a search one by one."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest

from hwprof.plan.fit.nearest import nearest_change, smallest_of
from hwprof.plan.fit.question import FitQuestion
from hwprof.plan.fit.rows import Room, fit_of, memory_row, row_of
from hwprof.predict.machine import machine_of
from hwprof.predict.stacks import stack_named
from hwprof.specs.catalogue.lookup import load_cluster, load_model
from hwprof.specs.catalogue.simulator import simulator_parameters

TABLE = simulator_parameters()
GIB = 2**30


def question(model="llama-3.1-8b", stack="huggingface", batches=(2,), lengths=(2048,), **fields):
    found = stack_named(stack)
    compiled = fields.pop("compiled", None)
    switches = {**found.compiling(compiled), **fields.pop("switches", {})}
    usual = {"rank": 16, "batches": batches, "lengths": lengths}
    return FitQuestion(model=load_model(model), stack=found, switches=switches, **usual | fields)


def room(capacity_bytes=24e9):
    return Room(name="made up", capacity_bytes=capacity_bytes)


TORCHTUNE = (
    ("lora", "full", {}, 16.2),
    ("lora", "none", {}, 30.3),
    ("qlora", "full", {}, 7.4),
    ("full-8bit", "full", {"optimizer_paged": True, "update_in_backward": True}, 18.9),
)
"""Way, recompute, switches, peak in GiB: Llama 3.1 8B, 2 x 2048 tokens, compiled (pytorch/torchtune, README.md,
"Memory and training speed"). LoRA on an A6000 is without checkpointing, full on a 4090 with a paged 8-bit optimizer
that steps in backward (``recipes/configs/llama3_1/8B_full_single_device.yaml``)."""


def test_peaks_that_torchtune_published():
    """None of them took part when the memory rules were made."""
    errors = []
    for way, recompute, switches, measured_gib in TORCHTUNE:
        asked = question(
            stack="torchtune",
            compiled=True,
            switches=switches,
            rank=8,
            targets="attention",
            recompute=recompute,
            adaptations=(way,),
        )
        found = memory_row(asked, room(), TABLE, (way, 2, 2048))
        errors.append(found.peak_bytes / GIB / measured_gib - 1)
        assert found.interval_bytes[0] < measured_gib * GIB < found.interval_bytes[1]
    assert statistics.median(map(abs, errors)) < 0.06
    assert max(map(abs, errors)) < 0.12


def test_a_logit_of_transformers_takes_14_bytes():
    """Narrow logits, fp32 log-softmax and its two gradients: 2 + 4 + 4 + 4, as torch's profiler saw it."""
    asked = question(adaptations=("lora",))
    wider = replace(asked, model=asked.model.model_copy(update={"vocab_size": asked.model.vocab_size + 64000}))
    one, other = (memory_row(each, room(), TABLE, ("lora", 2, 2048)).peak_bytes for each in (asked, wider))
    tables = 2 * 64000 * 4096 * 2  # embedding and head, narrow and frozen
    assert (other - one - tables) / (64000 * 2 * 2048) == pytest.approx(14, abs=0.01)


def test_the_second_model_of_dpo_is_two_bytes_a_parameter():
    """8.03e9 parameters; a pair is two sequences; adapters need no copy."""
    plain, pairs = question(adaptations=("full",)), question(adaptations=("full",), task="dpo")
    as_sequences = memory_row(plain, room(), TABLE, ("full", 4, 2048))
    as_pairs = memory_row(pairs, room(), TABLE, ("full", 2, 2048))
    assert as_pairs.peak_bytes - as_sequences.peak_bytes == pytest.approx(16.06e9, rel=1e-3)
    adapted = [memory_row(each, room(), TABLE, ("lora", batch, 2048)) for each, batch in ((plain, 4), (pairs, 2))]
    assert adapted[0].peak_bytes == adapted[1].peak_bytes


def test_a_reward_model_has_no_logits():
    asked = question(adaptations=("qlora",))
    plain = memory_row(asked, room(), TABLE, ("qlora", 4, 2048))
    scores = memory_row(replace(asked, task="reward"), room(), TABLE, ("qlora", 2, 2048))
    assert plain.peak_bytes - scores.peak_bytes > 10 * 4 * 2048 * 128256


def test_the_largest_batch_is_the_one_after_which_nothing_fits():
    found = fit_of(question(adaptations=("qlora",), lengths=(512,)), room(), TABLE).largest[0]
    verdicts = [memory_row(question(), room(), TABLE, ("qlora", batch, 512)).verdict for batch in range(1, 30)]
    assert found.likely.batch_size == sum(verdict != "no" for verdict in verdicts)
    assert found.sure.batch_size == verdicts.count("fits")
    assert verdicts == sorted(verdicts, key=["fits", "tight", "no"].index)


def test_the_nearest_change_works_and_nothing_was_fit_before():
    asked = question(adaptations=("full",), batches=(4,), lengths=(4096,))
    assert not fit_of(asked, room(), TABLE).any_fits
    found = nearest_change(asked, room(), TABLE)
    assert found.words == ("--loss fused-linear", "--adaptation qlora")
    assert found.row.device_bytes <= 24e9
    for words in ({"switches": asked.switches | {"loss": "fused-linear"}}, {"adaptations": ("qlora",)}):
        assert not fit_of(replace(asked, **words), room(), TABLE).any_fits


def test_nothing_helps_a_model_that_is_too_large():
    assert nearest_change(question("llama-3.1-405b"), room(8e9), TABLE) is None


def test_the_smallest_device_is_the_one_with_least_memory_that_has_enough():
    rooms = [Room(name=name, capacity_bytes=size) for name, size in (("b", 80e9), ("a", 24e9), ("c", 12e9))]
    asked = question(adaptations=("qlora", "full"), batches=(1,), lengths=(512,))
    one, several = smallest_of(asked, rooms, TABLE)
    assert (one.devices, [each.name for each in one.rooms]) == (1, ["a", "b"])
    assert several.devices in {4, 8}
    assert all(several.row.device_interval_bytes[1] <= each.capacity_bytes for each in several.rooms)


def test_tokens_per_s_are_those_of_the_step():
    machine = machine_of(load_cluster("1xrtx-4090"))
    on_card = Room(name="rtx-4090", capacity_bytes=machine.capacity_bytes, machine=machine)
    found = row_of(question(accumulation=4), on_card, TABLE, ("qlora", 2, 2048))
    assert found.tokens_per_s == pytest.approx(4 * 2 * 2048 / found.step_s)
    assert found.step_interval_s[0] < found.step_s < found.step_interval_s[1]
