"""Each logger against the library that reads what it writes."""

import os
import struct

import pytest

from hwprof.errors import MissingLibraryError, WorkError
from hwprof.loggers.prometheus import PrometheusFile, exposition

METRICS = {
    "hwprof/step_time_s": 0.25,
    "hwprof/mfu": 0.4,
    "hwprof/bound_share/compute": 0.75,
    "hwprof/bound_share/host": 0.25,
    "hwprof/exposed_communication_share": 0.1,
}

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries, about themselves


def test_tensorboard_reads_each_metric_at_its_step(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from hwprof.loggers.tensorboard import TensorBoardLogger

    logger = TensorBoardLogger(tmp_path)
    logger.log(METRICS, 7)
    logger.log({"hwprof/mfu": 0.5}, 17)
    logger.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == set(METRICS)
    assert [(event.step, round(event.value, 6)) for event in events.Scalars("hwprof/mfu")] == [(7, 0.4), (17, 0.5)]


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "mlflow").as_uri())
    yield mlflow
    mlflow.set_tracking_uri(before)


def test_mlflow_reads_each_metric_at_its_step(mlflow):
    from hwprof.loggers.mlflow import MLflowLogger

    logger = MLflowLogger()
    logger.log(METRICS, 7)
    logger.log({"hwprof/mfu": 0.5}, 17)
    logger.close()
    client = mlflow.MlflowClient()
    history = client.get_metric_history(logger.run_id, "hwprof/mfu")
    assert [(metric.step, metric.value) for metric in history] == [(7, 0.4), (17, 0.5)]
    assert set(client.get_run(logger.run_id).data.metrics) == set(METRICS)
    assert client.get_run(logger.run_id).info.status == "FINISHED"


def test_mlflow_run_that_was_active_stays_so(mlflow):
    from hwprof.loggers.mlflow import MLflowLogger

    with mlflow.start_run() as run:
        logger = MLflowLogger()
        logger.close()
        assert logger.run_id == run.info.run_id
        assert mlflow.active_run() is not None


def _log_records(content, header=7, block=32768):
    """Records of a LevelDB log (doc/log_format.md of LevelDB), which W&B writes behind a header of its own."""
    at, parts = header, []
    while at + 7 <= len(content):
        left = block - at % block
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        parts.append(content[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in {1, 4}:  # whole, or the last piece
            yield b"".join(parts)
            parts = []


def test_wandb_keeps_the_metrics_of_an_offline_run(tmp_path, monkeypatch):
    import wandb
    from wandb.proto import wandb_internal_pb2

    from hwprof.loggers.wandb import STEP, WandbLogger

    monkeypatch.setitem(os.environ, "WANDB_SILENT", "true")
    logger = WandbLogger(mode="offline", dir=str(tmp_path), project="hwprof")
    logger.log(METRICS, 7)
    logger.close()
    assert wandb.run is None
    wandb.teardown()
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows = []
    for data in _log_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        items = record.history.item
        rows += [{"/".join(item.nested_key) or item.key: float(item.value_json) for item in items}] if items else []
    assert len(rows) == 1
    assert (METRICS | {STEP: 7.0}).items() <= rows[0].items()


def test_prometheus_reads_the_file_that_is_there_whole(tmp_path):
    from prometheus_client.parser import text_string_to_metric_families

    path = tmp_path / "hwprof.prom"
    logger = PrometheusFile(path, labels={"job": 'a "b"\\c\n', "rank": "0"})
    logger.log({"hwprof/mfu": 0.1}, 1)
    logger.log(METRICS, 7)
    logger.close()
    families = {family.name: family for family in text_string_to_metric_families(path.read_text(encoding="utf-8"))}
    assert {family.type for family in families.values()} == {"gauge"}
    (mfu,) = families["hwprof_mfu_ratio"].samples
    assert (mfu.value, mfu.labels) == (0.4, {"job": 'a "b"\\c\n', "rank": "0"})
    shares = {sample.labels["bound"]: sample.value for sample in families["hwprof_bound_share_ratio"].samples}
    assert shares == {"compute": 0.75, "host": 0.25}
    assert families["hwprof_step"].samples[0].value == 7
    assert all(family.documentation for family in families.values())
    assert [file.name for file in tmp_path.iterdir()] == ["hwprof.prom"]


def test_prometheus_leaves_out_what_it_has_no_name_for():
    assert exposition({"loss": 1.0}, 3, {}).splitlines()[-1] == "hwprof_step 3.0"


def test_prometheus_file_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(WorkError, match="cannot write"):
        PrometheusFile(tmp_path / "missing" / "hwprof.prom").log(METRICS, 1)


@pytest.mark.parametrize(
    ("module", "name", "library"),
    [
        ("tensorboard", "TensorBoardLogger", "torch.utils.tensorboard"),
        ("wandb", "WandbLogger", "wandb"),
        ("mlflow", "MLflowLogger", "mlflow"),
    ],
)
def test_library_that_is_missing_is_named_with_the_line_that_installs_it(module, name, library, monkeypatch):
    import importlib
    import sys

    logger = getattr(importlib.import_module(f"hwprof.loggers.{module}"), name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibraryError, match=rf"{module} is not installed; pip install 'hwprof\[{module}\]'"):
        logger("anywhere") if module == "tensorboard" else logger()
