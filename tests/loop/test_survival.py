"""Does the program survive whatever it does beside a measurement? Each case is a program of its own."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import hwprof

_PROGRAM = """
import sys, threading, torch, hwprof
from torch import nn
torch.set_num_threads(1)
SCHEDULE = hwprof.Schedule(warmup=2, timed=2, profiled=2)

def loop(forward=lambda model: model(torch.randn(4, 32)).sum().backward(), steps=14):
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8))
    optimizer = torch.optim.AdamW(model.parameters())
    with hwprof.profile(model, optimizer, schedule=SCHEDULE) as prof:
        for _ in range(steps):
            forward(model)
            optimizer.step()
            optimizer.zero_grad()
            prof.step()
    return prof.record

def two_profiles_in_two_threads():
    records = []
    threads = [threading.Thread(target=lambda: records.append(loop())) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [record.status for record in records] == ["complete", "complete"]
    assert any(record.attribution for record in records)

def own_profiler_inside_a_step():
    found = []
    def forward(model):
        with torch.profiler.profile() as own:
            model(torch.randn(4, 32)).sum().backward()
        found.append(len(own.events()))
    record = loop(forward)
    assert min(found) > 5, found
    assert record.status == "complete" and record.step and not record.attribution
    assert any("own torch.profiler" in note for note in record.notes), record.notes

def own_profiler_in_another_thread():
    began, done, found = threading.Event(), threading.Event(), []
    def other():
        while not done.is_set():
            with torch.profiler.profile() as own:
                torch.randn(64, 64) @ torch.randn(64, 64)
                began.set()
            found.append(sum(event.name == "aten::mm" for event in own.events()))
    thread = threading.Thread(target=other)
    thread.start()
    began.wait()
    record = loop()
    done.set()
    thread.join()
    assert set(found) == {1}, found
    assert record.status == "complete" and record.step

def own_profiler_with_a_schedule():
    counts = []
    with torch.profiler.profile(
        schedule=torch.profiler.schedule(wait=1, warmup=2, active=2, repeat=4),
        on_trace_ready=lambda own: counts.append(sum(event.name == "aten::addmm" for event in own.events())),
    ) as own:
        def forward(model):
            model(torch.randn(4, 32)).sum().backward()
            own.step()
        record = loop(forward, 22)
    assert counts == [4] * 4, counts
    assert record.status == "complete"

for case in sys.argv[1:]:
    globals()[case]()
    print(case, "survived", flush=True)
"""


@pytest.fixture(scope="module")
def outcome():
    cases = (
        "two_profiles_in_two_threads",
        "own_profiler_inside_a_step",
        "own_profiler_in_another_thread",
        "own_profiler_with_a_schedule",
    )
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM, *cases],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "case",
    [
        "two_profiles_in_two_threads",
        "own_profiler_inside_a_step",
        "own_profiler_in_another_thread",
        "own_profiler_with_a_schedule",
    ],
)
def test_program_with_a_profiler_of_its_own_goes_on(outcome, case):
    assert f"{case} survived" in outcome.stdout, (outcome.returncode, outcome.stderr[-2000:])


def test_program_with_profilers_of_its_own_ends_as_it_would(outcome):
    assert outcome.returncode == 0


class Ragged(nn.Module):
    """Takes an input that has no sizes."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(4, 4)

    def forward(self, value, ragged=None):
        del ragged
        return self.weight(value)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_input_without_a_shape_is_described_all_the_same(short):
    model = Ragged()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ragged = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    with hwprof.profile(model, optimizer, schedule=short) as prof:
        while not prof.done:
            model(torch.randn(2, 4), ragged=ragged).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            prof.step()
    assert prof.record.settings.inputs == ("value 2×4 float32", "ragged 2×nested float32")
    assert prof.record.settings.samples_per_step == 2


def test_profile_that_was_used_is_refused(make_loop, short):
    loop = make_loop()
    prof = hwprof.profile(loop.model, loop.optimizer, schedule=short)
    with prof:
        pass
    with pytest.raises(hwprof.InputError, match=r"started before.*make another"), prof:
        pass


def test_loop_in_another_thread_than_its_profile_is_watched(make_loop, short, in_thread):
    loop = make_loop()

    def run():
        while not prof.done:
            loop.step()
            prof.step()

    with hwprof.profile(loop.model, loop.optimizer, schedule=short) as prof:
        in_thread(run)
    assert prof.record.status == "complete"
    assert [phase.name for phase in prof.record.phases] == ["data", "forward", "loss", "backward", "optimizer"]
    assert prof.record.attribution is not None


def test_steps_that_are_counted_in_another_thread_are_told_where_to_be_counted(make_loop, short, in_thread):
    loop = make_loop()
    with hwprof.profile(loop.model, loop.optimizer, schedule=short) as prof:
        while not prof.done:
            in_thread(loop.step)
            prof.step()
    assert any("call step() where the loop is" in note for note in prof.record.notes)
