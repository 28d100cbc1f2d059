"""What is recommended for somebody else's loop: in torch's words, and only what needs no model spec."""

from __future__ import annotations

from typing import get_args

import pytest

from hwprof.plan.advice.loops import LOOP_RULES, _facts, exposed_communication, in_torch, loop_advice, recommend_loop
from hwprof.specs.record.loop import LoopSettings, ModuleSpec
from hwprof.specs.record.run import BoundClass, LayerKind


@pytest.fixture
def loop_record(build):
    def made(*, settings=None, **changes):
        seen = {"model": "Net", "device": "cuda", "dtype": "fp32", "warmup_steps": 5, "steps": 10, "profiled_steps": 3}
        return build(**changes).model_copy(
            update={
                "settings": LoopSettings.model_validate(seen | (settings or {})),
                "model": ModuleSpec(name="Net", parameters=10, trainable_parameters=10),
            }
        )

    return made


@pytest.mark.parametrize("rule", LOOP_RULES, ids=lambda rule: rule.__name__)
def test_a_loop_at_its_roofs_gets_no_advice(rule, loop_record):
    assert rule(_facts(loop_record())) is None
    assert recommend_loop(loop_record()) == ()


@pytest.mark.parametrize("faster", [None, "bf16"])
def test_no_option_of_the_command_line_is_left_in_any_advice(faster):
    texts = [loop_advice(kind, bound, faster=faster) for kind in get_args(LayerKind) for bound in get_args(BoundClass)]
    assert not [text for text in texts if "--" in text]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--dtype bf16", "torch.autocast with dtype=torch.bfloat16"),
        ("a larger --micro-batch", "a larger batch"),
        ("--optimizer-implementation foreach", "foreach=True in the optimizer"),
        ("prepare batches earlier: more --workers", "prepare batches earlier: more num_workers in the DataLoader"),
    ],
)
def test_options_are_said_in_torchs_words(option, words):
    assert in_torch(option) == words


def test_fused_optimizer_is_for_optimizers_that_torch_can_fuse(loop_record, hand):
    update = hand.op(label="optimizer", direction="update", phase="optimizer", read_bytes=12e9, write_bytes=8e9)
    changes = {"ops": (hand.op(), update), "phases": (hand.phase("optimizer", 0.2),)}
    seen = {"optimizer": "AdamW", "optimizer_implementation": "for-loop"}
    (answer,) = recommend_loop(loop_record(settings=seen, **changes))
    assert answer.change == "fused=True in the optimizer"
    assert "20 GB moved by for-loop, 7 GB" in answer.evidence  # 7 of 20 passes over the parameters
    assert recommend_loop(loop_record(settings=seen | {"optimizer_implementation": ""}, **changes)) == ()


def test_without_a_memory_ceiling_a_fused_optimizer_promises_nothing(loop_record, hand):
    update = hand.op(label="optimizer", direction="update", phase="optimizer", read_bytes=12e9, write_bytes=8e9)
    changes = {"ops": (hand.op(), update), "phases": (hand.phase("optimizer", 0.2),), "ceilings": ()}
    (answer,) = recommend_loop(
        loop_record(settings={"optimizer": "AdamW", "optimizer_implementation": "for-loop"}, **changes)
    )
    assert answer.gain_fraction == (0.0, pytest.approx(0.2))
    assert "no memory ceiling" in answer.evidence
    assert answer.basis == "measured"


def test_exposed_collectives_are_at_most_what_can_be_saved(loop_record, hand):
    record = loop_record(attribution=hand.attribution(exposed_communication_s=0.2))
    (answer,) = recommend_loop(record)
    assert answer.gain_fraction == (0.0, pytest.approx(0.2))
    assert "bucket_cap_mb" in answer.change
    assert exposed_communication.__name__ in {rule.__name__ for rule in LOOP_RULES}


def test_waiting_for_data_asks_for_workers_whose_number_is_not_known(loop_record, hand):
    (answer,) = recommend_loop(loop_record(phases=(hand.phase("data", 0.1),)))
    assert answer.change == "more num_workers in the DataLoader"
    assert answer.title == "Prepare batches in more workers"


def test_waiting_is_that_of_the_unprofiled_steps_where_phases_were_timed(loop_record, hand):
    waiting = hand.attribution(idle_input_s=0.3)
    assert recommend_loop(loop_record(attribution=waiting, phases=(hand.phase("data", 0.005),))) == ()
    (answer,) = recommend_loop(loop_record(attribution=waiting))
    assert answer.gain_fraction[1] == pytest.approx(0.3)


def test_loop_without_a_step_gets_no_advice(loop_record):
    assert recommend_loop(loop_record(attribution=None, step=None)) == ()
