"""Claims about training on several ranks: every layout takes the very steps that one process takes."""

import statistics

import pytest
import torch

from hwprof.errors import InputError
from hwprof.specs.job.layout_text import parse_layout
from hwprof.specs.model.spec import ModelSpec
from hwprof.specs.record.run import RunSettings
from hwprof.train.loop import no_phase
from hwprof.train.parallel.loop import check_layout
from hwprof.train.parallel.model import chunk_of

ROWS = 8
STEPS = 3


def settings_of(given, text, ranks, accumulation, **changes):
    layout = parse_layout(text, ranks)
    rows = ROWS // layout.data_parallel // accumulation
    return RunSettings(
        **given | {"micro_batch": rows, "gradient_accumulation": accumulation, "layout": layout} | changes
    )


def train(world, spec, given, text, accumulation, changes, device="cpu"):
    """The losses of some steps, the evaluation's, the state's size, and the phases entered in the last step."""
    from hwprof.train.parallel.loop import ParallelTrainer
    from hwprof.train.parallel.mesh import rank_mesh

    settings = settings_of(given, text, world.size, accumulation, **changes)
    mesh = rank_mesh(settings.layout, torch.device(device))
    trainer = ParallelTrainer(ModelSpec(**spec), settings, mesh, data_path=None, device=torch.device(device))
    phases = []

    def noted(name):
        phases.append(name)
        return no_phase(name)

    try:
        losses = [float(trainer.step(noted)) for _ in range(STEPS)]
        count = sum(weight.numel() for weight in trainer.model.parameters())
        return losses, trainer.evaluate(), trainer.state_bytes(), count, phases[-20:]
    finally:
        trainer.close()


@pytest.fixture
def alone(trainer, decoder_spec):
    """The losses of one process on the whole batch."""

    def losses(accumulation=1, spec=None, **changes):
        single = trainer(
            spec or decoder_spec(), micro_batch=ROWS // accumulation, gradient_accumulation=accumulation, **changes
        )
        return [float(single.step()) for _ in range(STEPS)]

    return losses


def _mean_losses(answers):
    """Over the ranks that have the head."""
    known = [losses for losses, *_ in answers if losses[0] == losses[0]]
    return [statistics.fmean(each) for each in zip(*known, strict=True)]


def _given():
    return {
        "model": "small",
        "device": "cpu",
        "seq_len": 32,
        "learning_rate": 3e-3,
        "workers": 0,
        "eval_batches": 2,
        "micro_batch": 1,
    }


@pytest.mark.parametrize(
    ("text", "ranks_wanted", "accumulation"),
    [
        ("ddp", 2, 2),
        ("fsdp", 2, 1),
        ("zero2", 2, 2),
        ("tp2", 2, 1),
        ("tp2-sp", 2, 1),
        ("pp2", 2, 4),
        ("fsdp", 4, 1),
        ("fsdp-tp2", 4, 1),
        ("fsdp-tp2-sp", 4, 1),
        ("ddp-pp2", 4, 2),
        ("fsdp-pp2", 4, 2),
        ("tp2-pp2", 4, 2),
    ],
)
def test_layout_takes_the_steps_of_one_process(text, ranks_wanted, accumulation, ranks, alone, decoder_spec):
    answers = ranks(ranks_wanted).run(train, decoder_spec().model_dump(), _given(), text, accumulation, {})
    assert _mean_losses(answers) == pytest.approx(alone(), rel=2e-5)


@pytest.mark.parametrize("changes", [{"dtype": "bf16"}, {"recompute": "full"}, {"optimizer_implementation": "foreach"}])
@pytest.mark.parametrize("text", ["fsdp", "tp2"])
def test_settings_mean_the_same_in_a_layout(text, changes, ranks, alone, decoder_spec):
    answers = ranks(2).run(train, decoder_spec().model_dump(), _given(), text, 1, changes)
    assert _mean_losses(answers) == pytest.approx(alone(**changes), rel=5e-3 if "dtype" in changes else 2e-5)


def test_interleaved_pipeline_takes_the_steps_of_one_process(ranks, alone, decoder_spec):
    spec = decoder_spec(layers=4)
    answers = ranks(2).run(train, spec.model_dump(), _given(), "pp2-vp2", 2, {})
    assert _mean_losses(answers) == pytest.approx(alone(spec=spec), rel=2e-5)


@pytest.mark.parametrize("text", ["ddp", "fsdp"])
def test_encoder_is_copied_and_sharded(text, ranks, alone, encoder_spec):
    answers = ranks(2).run(train, encoder_spec(dropout=0.0).model_dump(), _given(), text, 1, {})
    assert _mean_losses(answers) == pytest.approx(alone(spec=encoder_spec(dropout=0.0)), rel=2e-5)


def test_each_rank_holds_its_share(ranks, decoder_spec):
    spec = decoder_spec().model_dump()
    whole = ranks(2).run(train, spec, _given(), "ddp", 1, {})[0]
    for text, most in (("fsdp", 0.6), ("tp2", 0.6), ("pp2", 0.75)):
        answers = ranks(2).run(train, spec, _given(), text, 2, {})
        assert all(state_bytes < most * whole[2] for _, _, state_bytes, _, _ in answers)
    assert whole[3] == 23_712  # test_decoder has this count by hand


def test_evaluation_is_the_same_on_all_data_ranks(ranks, decoder_spec):
    answers = ranks(4).run(train, decoder_spec().model_dump(), _given(), "fsdp-tp2", 1, {})
    evaluations = [evaluation for _, evaluation, *_ in answers]
    assert evaluations == pytest.approx([evaluations[0]] * 4, rel=1e-5)
    assert 4 < evaluations[0] < 6


def test_pipeline_phases_alternate_with_waiting_for_other_stages(ranks, decoder_spec):
    first, last = ranks(2).run(train, decoder_spec().model_dump(), _given(), "pp2", 2, {})
    assert first[4][-1] == last[4][-1] == "optimizer"
    one_step = last[4][last[4].index("data") :] if last[4].count("data") == 1 else last[4]
    text = " ".join(one_step)
    assert "forward pipeline loss pipeline" in text
    assert "backward pipeline" in text
    assert "loss" not in first[4]


def checkpoint(world, spec, given, folder):
    from hwprof.train.parallel.loop import ParallelTrainer
    from hwprof.train.parallel.mesh import rank_mesh

    settings = settings_of(given, "fsdp", world.size, 1)
    mesh = rank_mesh(settings.layout, torch.device("cpu"))
    trainer = ParallelTrainer(ModelSpec(**spec), settings, mesh, data_path=None, device=torch.device("cpu"))
    seen = []
    trainer.step()
    from pathlib import Path

    def noted(name):
        seen.append(name)
        return no_phase(name)

    trainer.save_checkpoint(Path(folder) / f"of-rank-{world.rank}", noted)
    trainer.close()
    return seen, sorted(path.name for path in Path(folder).iterdir())


def test_checkpoint_is_written_by_all_ranks_and_removed_again(ranks, decoder_spec, tmp_path):
    answers = ranks(2).run(checkpoint, decoder_spec().model_dump(), _given(), str(tmp_path))
    assert answers == [(["checkpoint"], [])] * 2


@pytest.mark.parametrize(
    ("layers", "chunks", "sizes"),
    [(4, 2, [2, 2]), (5, 3, [2, 2, 1]), (8, 3, [2, 3, 3]), (7, 4, [2, 2, 2, 1]), (3, 3, [1, 1, 1])],
)
def test_chunks_follow_each_other_and_differ_by_one_layer_at_most(layers, chunks, sizes):
    made = [chunk_of(layers, chunks, index) for index in range(chunks)]
    assert [index for chunk in made for index in chunk.layers] == list(range(layers))
    assert sorted(len(chunk.layers) for chunk in made) == sorted(sizes)
    assert [chunk.first for chunk in made] == [True] + [False] * (chunks - 1)
    assert [chunk.last for chunk in made] == [False] * (chunks - 1) + [True]


@pytest.mark.parametrize(
    ("text", "accumulation", "model", "changes", "says"),
    [
        ("tp4", 1, {}, {}, "kv_heads = 2"),
        ("tp2-sp", 1, {}, {"seq_len": 31}, "seq_len = 31"),
        ("pp2", 1, {}, {}, "give --gradient-accumulation 4"),
        ("fsdp", 1, {}, {"dtype": "fp16"}, "choose --dtype bf16"),
    ],
)
def test_what_does_not_go_with_a_layout_is_refused(text, accumulation, model, changes, says, decoder_spec):
    settings = settings_of(_given(), text, 4 if text == "tp4" else 2, accumulation, **changes)
    with pytest.raises(InputError, match=says):
        check_layout(decoder_spec(**model), settings)


def test_stock_encoder_layers_are_not_divided(encoder_spec):
    with pytest.raises(InputError, match="packed attention matrices"):
        check_layout(encoder_spec(), settings_of(_given(), "tp2", 2, 1))


def test_more_stages_than_layers_are_refused():
    with pytest.raises(InputError, match="2 layers can't be divided into 3 chunks"):
        chunk_of(2, 3, 0)
