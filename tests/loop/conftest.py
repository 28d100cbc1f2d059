"""A small loop of somebody else's, and a measurement of it that the tests of this folder share."""

import threading
from types import SimpleNamespace

import pytest
import torch
from made_up_record import made_up_ceiling
from torch import nn

import hwprof


class Block(nn.Module):
    """Wide and back."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, hidden):
        return hidden + self.down(nn.functional.gelu(self.up(hidden)))


class Model(nn.Module):
    """Embedding, two blocks, head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(16, 50)

    def forward(self, tokens):
        hidden = self.embed(tokens)
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(hidden)


class Loop:
    """The usual four lines."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = Model()
        self.optimizer = torch.optim.AdamW(self.model.parameters())

    def step(self):
        tokens = torch.randint(0, 50, (4, 9))
        logits = self.model(tokens[:, :-1])
        nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


SHORT = hwprof.Schedule(warmup=2, timed=4, profiled=1)


@pytest.fixture
def make_loop():
    return Loop


@pytest.fixture(scope="session")
def short():
    return SHORT


@pytest.fixture(scope="session")
def calibration_file(tmp_path_factory):
    """A calibration of this machine with made-up, round ceilings."""
    from hwprof.measure.probes.calibration import calibration
    from hwprof.measure.probes.device import ProbeResult

    ceilings = made_up_ceiling("matmul.fp32", 1e12, dtype="fp32"), made_up_ceiling("memory.dram", 1e12, level="dram")
    path = tmp_path_factory.mktemp("calibration") / "made-up.json"
    found = calibration(torch.device("cpu"), ProbeResult(ceilings=ceilings), quick=True, complete=True)
    path.write_text(found.to_json(), encoding="utf-8")
    return path


class Kept:
    """A logger that keeps what it is given."""

    def __init__(self):
        self.entries = []
        self.closed = 0

    def log(self, metrics, step):
        self.entries.append((step, dict(metrics)))

    def close(self):
        self.closed += 1


@pytest.fixture(scope="session")
def measured(tmp_path_factory, calibration_file):
    """One whole measurement: its profile, the directory of its report, its logger, and the loop."""
    loop, logger, directory = Loop(), Kept(), tmp_path_factory.mktemp("report") / "run"
    with hwprof.profile(
        loop.model,
        loop.optimizer,
        schedule=SHORT,
        ceilings=calibration_file,
        output=directory,
        loggers=[logger],
        log_every=2,
    ) as prof:
        while not prof.done:
            loop.step()
            prof.step()
        ended = prof._steps
        for _ in range(5):
            loop.step()
            prof.step()
    return SimpleNamespace(prof=prof, directory=directory, logger=logger, loop=loop, ended=ended)


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
def in_thread():
    """Do something in a thread of its own, and raise here what it raises there."""

    def run(action):
        failed = []

        def guarded():
            try:
                action()
            except BaseException as error:  # noqa: BLE001 (raised again)
                failed.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]

    return run
