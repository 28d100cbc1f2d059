from __future__ import annotations

import errno
import gc
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager

import pytest
import torch

from hwprof.errors import InputError, WorkError
from hwprof.train.decoder import Decoder

_MICRO_STEP = ["data", "host_to_device", "forward", "loss", "backward"]


class _PhaseLog:
    """Notes each phase that is entered, and fails where one is entered inside another."""

    def __init__(self):
        self.entered = []
        self._open = None

    @contextmanager
    def __call__(self, name):
        assert self._open is None
        self._open = name
        self.entered.append(name)
        yield
        self._open = None


def test_loss_starts_near_the_log_of_the_vocabulary_and_falls_by_a_quarter_in_30_steps(trainer):
    made = trainer(workers=1)
    losses = [float(made.step()) for _ in range(30)]
    assert losses[0] == pytest.approx(math.log(256), abs=0.2)
    assert losses[-1] < 0.75 * losses[0]


def test_loss_of_the_encoder_falls(trainer, encoder_spec):
    made = trainer(encoder_spec(), learning_rate=1e-2)
    losses = [float(made.step()) for _ in range(30)]
    assert losses[0] == pytest.approx(math.log(300), abs=0.2)
    assert sum(losses[-5:]) / 5 < 0.75 * losses[0]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_reduced_precision_learns_as_fp32_does_and_keeps_fp32_weights(dtype, trainer):
    expected, found = trainer(), trainer(dtype=dtype)
    for _ in range(8):
        expected_loss, loss = expected.step(), found.step()
    assert float(loss) == pytest.approx(float(expected_loss), rel=0.02)
    assert {weight.dtype for weight in found.model.parameters()} == {torch.float32}


def test_phases_come_in_the_contracted_order(trainer):
    log = _PhaseLog()
    trainer(gradient_accumulation=2).step(log)
    assert log.entered == [*_MICRO_STEP, *_MICRO_STEP, "clip", "optimizer"]


def test_without_clipping_there_is_no_clip_phase(trainer):
    log = _PhaseLog()
    trainer(clip_norm=None).step(log)
    assert log.entered == [*_MICRO_STEP, "optimizer"]


def test_loss_of_a_step_is_a_detached_scalar(trainer):
    loss = trainer(gradient_accumulation=2).step()
    assert (loss.shape, loss.dtype, loss.requires_grad) == (torch.Size([]), torch.float32, False)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_accumulated_small_batches_equal_one_big_batch(optimizer, trainer):
    big = trainer(micro_batch=6, optimizer=optimizer)
    small = trainer(micro_batch=2, gradient_accumulation=3, optimizer=optimizer)
    for _ in range(2):
        assert float(big.step()) == pytest.approx(float(small.step()), rel=1e-5)
    for one, other in zip(big.model.parameters(), small.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_clipping_bounds_the_whole_gradient(trainer):
    made = trainer(optimizer="sgd", clip_norm=0.01, learning_rate=1.0)
    before = [weight.detach().clone() for weight in made.model.parameters()]
    made.step()
    moved = torch.cat(
        [(old - new.detach()).flatten() for old, new in zip(before, made.model.parameters(), strict=True)]
    )
    # one step of SGD moves by learning rate * gradient; its weight decay of 1e-4 adds 1e-4 * |weights| < 0.001
    assert float(moved.norm()) == pytest.approx(0.01, abs=1e-3)


def test_the_same_seed_gives_the_same_run(trainer):
    one, two, other = trainer(seed=4), trainer(seed=4), trainer(seed=5)
    losses = [[float(made.step()) for _ in range(3)] for made in (one, two, other)]
    assert losses[0] == losses[1] != losses[2]


def test_evaluation_changes_nothing(trainer, decoder_spec):
    made = trainer(decoder_spec(dropout=0.2))
    made.step()
    before = [weight.detach().clone() for weight in made.model.parameters()]
    random_state = torch.get_rng_state()
    log = _PhaseLog()
    assert made.evaluate(log) == made.evaluate()  # the same windows, and no dropout
    assert torch.equal(random_state, torch.get_rng_state())
    assert log.entered == ["evaluation"]
    assert made.model.training
    assert all(torch.equal(old, new) for old, new in zip(before, made.model.parameters(), strict=True))


def test_evaluation_loss_follows_the_training_loss_down(trainer):
    made = trainer()
    before = made.evaluate()
    for _ in range(10):
        made.step()
    assert before == pytest.approx(math.log(256), abs=0.2)
    assert made.evaluate() < before - 0.5


def test_checkpoint_restores_model_and_optimizer(trainer, decoder_spec, tmp_path):
    made = trainer()
    made.step()
    log = _PhaseLog()
    made.save_checkpoint(tmp_path / "checkpoint.pt", log)
    assert log.entered == ["checkpoint"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    fresh = Decoder(decoder_spec(max_seq_len=32))
    fresh.load_state_dict(saved["model"])
    tokens = torch.randint(256, (1, 32))
    assert torch.equal(fresh(tokens), made.model(tokens))
    assert saved["optimizer"]["state"].keys() == made.optimizer.state_dict()["state"].keys()
    assert saved["settings"]["micro_batch"] == 8
    assert saved["spec"]["name"] == "small-decoder"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed")]
)
def test_failed_checkpoint_keeps_the_old_one_and_leaves_no_rest(error, trainer, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"old")

    def save(_state, file):
        file.write(b"half")
        raise error

    made = trainer()
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(WorkError, match=r"checkpoint.pt' can't be written: .*; free disk space"):
        made.save_checkpoint(path)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"old"]


def test_state_bytes_by_hand(trainer):
    made = trainer()
    # 23712 fp32 weights; rotary tables of 32 positions * 4 pairs * (cos, sin), shared by the layers
    assert made.state_bytes() == 4 * 23_712 + 4 * 32 * 4 * 2
    made.step()
    # Adam adds two fp32 numbers a weight and a step counter for each of 20 tensors
    assert made.state_bytes() == 12 * 23_712 + 4 * 32 * 4 * 2 + 4 * 20


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_steps_leave_no_tensors_behind(recompute, trainer):
    made = trainer(recompute=recompute)

    def live_tensors():
        gc.collect()
        return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())

    counts = []
    for _ in range(4):
        made.step()
        counts.append(live_tensors())
    assert counts[1] == counts[2] == counts[3]


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recompute_does_not_change_what_is_learned(recompute, trainer):
    expected, found = trainer(), trainer(recompute=recompute)
    assert [float(expected.step()) for _ in range(3)] == [float(found.step()) for _ in range(3)]


def test_sequence_longer_than_learned_positions_is_refused(trainer, decoder_spec):
    with pytest.raises(InputError, match=r"sequences of 65 tokens don't fit .* learned positions for 64"):
        trainer(decoder_spec(positions="learned"), seq_len=65)


def test_rotary_positions_reach_as_far_as_the_run_needs(trainer):
    assert math.isfinite(float(trainer(seq_len=100, micro_batch=2).step()))


def test_data_shorter_than_two_sequences_is_refused(trainer, tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("x" * 65)
    with pytest.raises(InputError, match=r"the data has 65 tokens; sequences of 32 need at least 66"):
        trainer(data_path=path)
    path.write_text("x" * 66)
    trainer(data_path=path).step()


_INTERRUPTED = """
    import json, multiprocessing, signal, sys, time
    import torch
    from hwprof.specs.model.spec import ModelSpec
    from hwprof.specs.record.run import RunSettings
    from hwprof.train.loop import Trainer

    if __name__ == "__main__":
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
        spec = ModelSpec(**json.loads(sys.argv[1]))
        settings = RunSettings(model="small", device="cpu", micro_batch=2, seq_len=32, workers=2)
        trainer = Trainer(spec, settings, data_path=None, device=torch.device("cpu"))
        try:
            trainer.step()
            print(json.dumps([worker.pid for worker in multiprocessing.active_children()]), flush=True)
            while True:
                trainer.step()
        except KeyboardInterrupt:
            {on_interrupt}
"""


@pytest.mark.parametrize("on_interrupt", ["trainer.close()", "pass"], ids=["closed", "forgotten"])
def test_interrupted_run_ends_with_its_workers_and_prints_nothing(on_interrupt, decoder_spec, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(_INTERRUPTED.format(on_interrupt=on_interrupt)))
    # a socket that the interrupt caught half-way is closed by the garbage collector, which Python reports only if asked
    warnings = ["-W", "error", "-W", "ignore::ResourceWarning"]
    with subprocess.Popen(
        [sys.executable, *warnings, str(script), decoder_spec().model_dump_json()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        workers = json.loads(run.stdout.readline())
        assert len(workers) == 2
        os.killpg(run.pid, signal.SIGINT)
        try:
            output = run.communicate(timeout=120)  # it would never end by itself; a busy machine takes its time
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
    assert output == ("", "")
    assert run.returncode == 0
    deadline_s = time.monotonic() + 60
    while any(map(_alive, workers)):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
