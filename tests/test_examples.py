"""Every example runs as it stands, with the real library, and leaves a whole report."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from hwprof.report.files.run import read_run

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = pytest.mark.filterwarnings("default")  # of the libraries, about themselves


@pytest.fixture
def ran(monkeypatch, tmp_path, capsys):
    """Runs an example in this process; what it printed, and the record that it left."""

    def run(name, *, report=True):
        directory = tmp_path / name
        monkeypatch.setattr(sys, "argv", [f"{name}.py", str(directory)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out, read_run(directory) if report else None, directory

    return run


def _phases(record):
    return [phase.name for phase in record.phases]


def _labels(record):
    return {(op.label, op.direction) for op in record.ops}


def test_every_example_is_run_by_a_test():
    tested = Path(__file__).read_text(encoding="utf-8")
    assert not [path.stem for path in EXAMPLES.glob("*.py") if f'"{path.stem}"' not in tested]


def test_own_loop(ran):
    printed, record, _ = ran("own_loop")
    assert record.status == "complete"
    assert record.settings.tokens_per_step == 8 * 32
    assert _phases(record) == ["data", "forward", "loss", "backward", "optimizer"]
    assert "Phases of the step" in printed


def test_huggingface_trainer(ran):
    printed, record, _ = ran("huggingface_trainer")
    assert record.status == "complete"
    assert record.model.name == "LlamaForCausalLM"
    assert (record.settings.gradient_accumulation, record.settings.tokens_per_step) == (2, 2 * 4 * 32)
    assert {"data", "forward", "backward", "clip", "optimizer"} <= set(_phases(record))
    assert ("model.layers.*.mlp.up_proj", "backward") in _labels(record)
    assert "LlamaForCausalLM on" in printed


def test_accelerate_loop(ran):
    _, record, _ = ran("accelerate_loop")
    assert record.status == "complete"
    assert (record.settings.gradient_accumulation, record.settings.samples_per_step) == (2, 16)
    assert record.settings.optimizer == "AdamW"
    assert {"clip", "optimizer"} <= set(_phases(record))


def test_lightning_trainer(ran):
    _, record, _ = ran("lightning_trainer")
    assert record.status == "complete"
    assert record.model.name == "Autoencoder"
    assert record.settings.samples_per_step == 8
    assert _phases(record) == ["data", "forward", "backward", "optimizer"]
    assert ("encoder.*", "backward") in _labels(record)


def test_torchtitan_metrics(ran):
    printed, record, _ = ran("torchtitan_metrics")
    assert record.status == "complete"
    last = printed.splitlines()[-2]
    assert last.startswith("step 40: loss_metrics/global_avg_loss")
    assert "hwprof/step_time_s" in last
    assert "hwprof/bound_share/host" in last


def test_live_logging(ran):
    import mlflow
    import wandb

    before = mlflow.get_tracking_uri()
    printed, _, directory = ran("live_logging", report=False)
    mlflow.set_tracking_uri(before)
    wandb.teardown()
    for line in ("hwprof_step_time_seconds{", "hwprof_bound_share_ratio{", "hwprof_exposed_communication_ratio{"):
        assert line in printed
    assert list(directory.glob("tensorboard/events.*"))
    assert list(directory.glob("wandb/offline-run-*/*.wandb"))
    assert list(directory.glob("mlflow/*/*/metrics/hwprof/step_time_s"))


@pytest.mark.parametrize(
    ("name", "kind", "wrapper"),
    [
        ("data_parallel", "ddp", "DistributedDataParallel"),
        ("data_parallel", "fsdp2", "FSDP2"),
    ],
)
def test_two_ranks(name, kind, wrapper, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*torchrun, str(EXAMPLES / f"{name}.py"), kind, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    records = [read_run(tmp_path), read_run(tmp_path / "rank-1")]
    for rank, record in enumerate(records):
        assert (record.status, record.rank, record.world_size) == ("complete", rank, 2)
        assert wrapper in record.model.wrapper
        assert record.model.parameters == 5 * (256 * 256 + 256)
        assert record.work.train_flop_full == 2 * 64 * 256 * 256 * (5 * 3 - 1)
        assert record.attribution.exposed_communication_s > 0
        assert {("0.*", "forward"), ("0.*", "backward"), ("4", "forward")} <= _labels(record)
    assert any("FSDP2 gathers parameters" in note for note in records[0].notes) is (kind == "fsdp2")
