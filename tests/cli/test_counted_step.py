"""Is the step that a counter's profiler sees the run's own?"""

import sys

import pytest
import torch
from made_up_record import made_up_record

from hwprof.cli.counted_step import counted_step, main
from hwprof.errors import InputError
from hwprof.report.files.run import write_record
from hwprof.specs.catalogue.lookup import load_model
from hwprof.specs.record.run import RunSettings
from hwprof.train.loop import Trainer


def test_it_is_the_third_step_of_the_run(tmp_path):
    settings = RunSettings(model="tiny", device="cpu", micro_batch=1, seq_len=16, workers=0)
    spec = load_model("tiny")
    write_record(made_up_record(settings=settings, model=spec), tmp_path)
    trainer = Trainer(spec, settings, data_path=None, device=torch.device("cpu"))
    losses = [float(trainer.step()) for _ in range(3)]
    trainer.close()
    assert counted_step(tmp_path) == pytest.approx(losses[2])


def test_without_a_run_it_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(InputError, match=r"has no run\.json"):
        counted_step(tmp_path)
    monkeypatch.setattr(sys, "argv", ["counted_step", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
