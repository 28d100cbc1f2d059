"""Is a program that knows nothing of hwprof measured as it stands?"""

from __future__ import annotations

import json
import sys
import types

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from hwprof.attach import imports, programs
from hwprof.attach.found_loop import trained_by
from hwprof.attach.launch import launch
from hwprof.attach.options import VARIABLE, Attach, attached_options
from hwprof.cli.run import command
from hwprof.errors import InputError, WorkError

PROGRAM = """
import sys
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.up, self.head = nn.Embedding(50, 16), nn.Linear(16, 32), nn.Linear(32, 50)

    def forward(self, tokens):
        return self.head(torch.relu(self.up(self.embed(tokens))))

model = Net()
body = torch.optim.AdamW([*model.embed.parameters(), *model.up.parameters()])
head = torch.optim.SGD(model.head.parameters(), lr=0.1)
for _ in range(60):
    tokens = torch.randint(50, (4, 8))
    nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    for optimizer in (body, head):
        optimizer.step()
        optimizer.zero_grad()
print("trained with", sys.argv[1:])
sys.exit(3)
"""


def _run(*words: str):
    return CliRunner().invoke(command, words)


def test_an_unchanged_program_leaves_a_report_and_its_own_exit_code(tmp_path, capfd):
    """Two optimizers, 50·16 + 16·32 + 32 + 32·50 + 50 parameters, 32 tokens a step."""
    (tmp_path / "train.py").write_text(PROGRAM)
    short = ("--output", str(tmp_path / "report"), "--warmup-steps", "2", "--steps", "4", "--profiled-steps", "1")
    found = _run(*short, "--format", "json", "--", "python", str(tmp_path / "train.py"), "--epochs", "1")
    assert found.exit_code == 3
    record = json.loads(found.stdout)
    assert record["model"]["parameters"] == 2994
    assert record["settings"]["tokens_per_step"] == 32
    assert record["settings"]["optimizer"] == "AdamW and SGD"
    assert record["status"] == "complete"
    assert {phase["name"] for phase in record["phases"]} >= {"forward", "backward", "optimizer"}
    assert (tmp_path / "report" / "report.html").is_file()
    assert "slow steps" in (tmp_path / "report" / "live.html").read_text()
    assert record["whole_run"]["steps"] >= 40
    assert "trained with ['--epochs', '1']" in capfd.readouterr().err


def test_a_program_that_trains_nothing_is_said_to_have_left_no_report(tmp_path):
    found = _run("--output", str(tmp_path / "report"), "--", "python", "-c", "print('hello')")
    assert isinstance(found.exception, WorkError)
    assert "no optimizer step" in str(found.exception)
    failed = _run("--output", str(tmp_path / "report"), "--", "python", "-c", "raise SystemExit(5)")
    assert failed.exit_code == 5


def test_what_can_not_be_started_or_decided_is_refused(tmp_path):
    with pytest.raises(InputError, match="can't be started"):
        launch(["no-such-program"], Attach(output=str(tmp_path)), quiet=True)
    found = _run("--micro-batch", "4", "--", "python", "train.py")
    assert isinstance(found.exception, InputError)
    assert "--micro-batch does not hold" in str(found.exception)


def test_the_schedule_and_the_output_reach_the_program(monkeypatch):
    monkeypatch.setenv(VARIABLE, Attach(output="/x", warmup=2, timed=4, profiled=0).model_dump_json())
    options = attached_options()
    assert (options["output"], options["schedule"].steps) == ("/x", 6)


def test_the_module_that_the_loop_calls_is_found_by_its_optimizers():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), nn.Linear(3, 3)

    model = Outer()
    wrapped = nn.Sequential(model.inner)
    inner, other = (torch.optim.SGD(one.parameters(), lr=0.1) for one in (model.inner, model.other))
    assert trained_by([inner]) is wrapped
    assert trained_by([inner, other]) is model
    assert trained_by([torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)]) is None


def test_every_module_that_is_waited_for_has_a_listener():
    assert set(imports.MODULES) == set(programs.LISTENERS)


def test_a_listener_is_told_after_its_module_and_its_mistake_ends_nothing(tmp_path, monkeypatch, capsys):
    told = []
    (tmp_path / "waited_for.py").write_text("value = 7")
    (tmp_path / "bad_one.py").write_text("value = 8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imports, "MODULES", ("waited_for", "bad_one"))
    monkeypatch.setattr(programs, "LISTENERS", {"waited_for": lambda module: told.append(module.value)})
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    imports.listen()
    import bad_one
    import waited_for

    assert (waited_for.value, bad_one.value, told) == (7, 8, [7])
    assert "not attached to bad_one" in capsys.readouterr().err
    assert isinstance(waited_for.__spec__.loader.exec_module, types.MethodType)


@pytest.mark.parametrize("name", ["huggingface", "lightning"])
def test_a_trainer_gets_a_callback_once(name, monkeypatch, tmp_path):
    pytest.importorskip("transformers" if name == "huggingface" else "lightning")

    class Trainer:
        def __init__(self):
            self.callbacks = []

        def add_callback(self, callback):
            self.callbacks.append(callback)

    monkeypatch.setenv(VARIABLE, Attach(output=str(tmp_path)).model_dump_json())
    monkeypatch.setitem(programs._state, "trainer", False)
    getattr(programs, name)(types.SimpleNamespace(Trainer=Trainer))
    first, second = Trainer(), Trainer()
    assert [type(one).__name__ for one in first.callbacks] == ["HwprofCallback"]
    assert second.callbacks == []


def test_the_environment_keeps_its_own_sitecustomize(tmp_path, monkeypatch, capfd):
    (tmp_path / "sitecustomize.py").write_text("print('mine')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    assert launch(["python", "-c", "print('done')"], Attach(output=str(tmp_path)), quiet=False) == 0
    assert capfd.readouterr().out.split() == ["mine", "done"]
