"""Is a loop's time booked whole, over processes that die? By a clock of the test, and by a job that kills itself."""

from __future__ import annotations

import pytest
import torch

import hwprof
from hwprof.loop.goodput import GoodputBook, Mark, booked, marks_of
from hwprof.report.run.view import build_view


def mark(process, at_s, **more):
    return Mark(process=process, at_s=at_s, **more)


def test_steps_after_the_last_checkpoint_of_a_dead_process_are_lost():
    marks = [
        mark(1, 100.0),
        mark(1, 150.0, steps=40, training_s=40.0, beside_s={"checkpoint": 10.0}, saved_steps=30, saved_training_s=28.0),
        mark(2, 170.0),
        mark(2, 200.0, steps=20, training_s=25.0, beside_s={"evaluation": 5.0}, over=True),
    ]
    found = booked(marks)
    assert (found.wall_s, found.restarts, found.restart_s) == (100.0, 1, 20.0)
    assert (found.lost_steps, found.lost_s, found.steps) == (10, 12.0, 50)
    assert (found.training_s, found.checkpoint_s, found.evaluation_s) == (53.0, 10.0, 5.0)
    assert found.fraction == pytest.approx(0.53)
    assert sum(time_s for _, time_s in found.shares) == pytest.approx(found.wall_s)
    assert found.failure_s == 65.0
    assert "Goodput 53 % of 100 s (1 restart)" in found.sentence


def test_a_process_that_never_saved_loses_everything():
    found = booked([mark(1, 0.0), mark(1, 9.0, steps=9, training_s=9.0), mark(2, 12.0), mark(2, 12.0)])
    assert (found.training_s, found.lost_s, found.restart_s) == (0.0, 9.0, 3.0)


class Clock:
    """Seconds that the test says."""

    def __init__(self):
        self.at_s = 0.0

    def __call__(self):
        return self.at_s


@pytest.fixture
def model():
    return torch.nn.Linear(4, 4)


def one_step(model, optimizer):
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_a_checkpoint_counts_the_steps_whose_update_is_done(tmp_path, model):
    clock, path = Clock(), tmp_path / "goodput.jsonl"
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    book = GoodputBook(path, clock)
    book.start(model, [optimizer], torch.device("cpu"), [])
    one_step(model, optimizer)
    book.step()
    torch.save(model.state_dict(), tmp_path / "after.pt")  # after the step was told
    assert marks_of(path)[-1].saved_steps == 1
    one_step(model, optimizer)
    torch.save(model.state_dict(), tmp_path / "before.pt")  # its update is done, it is not yet told
    assert marks_of(path)[-1].saved_steps == 2
    book.step()
    book.stop()
    found = book.booked
    assert (found.steps, found.lost_steps, found.restarts) == (2, 0, 0)
    assert found.checkpoint_s > 0
    assert torch.save.__module__ == "torch.serialization"
    assert not hasattr(torch.save, "__wrapped__")


def test_evaluation_is_found_by_itself(tmp_path, model):
    book = GoodputBook(tmp_path / "goodput.jsonl")
    book.start(model, [], torch.device("cpu"), [])
    with torch.no_grad():
        model(torch.ones(2, 4))
    book.stop()
    found = book.booked
    assert found.evaluation_s > 0
    assert found.steps == 0


def test_a_training_that_was_over_is_not_gone_on_with(tmp_path, model):
    path = tmp_path / "goodput.jsonl"
    for _ in range(2):
        book = GoodputBook(path)
        book.start(model, [], torch.device("cpu"), [])
        book.stop()
        assert book.booked.restarts == 0
    assert {each.process for each in marks_of(path)} == set()


def test_a_process_that_was_killed_is_gone_on_with(tmp_path, model):
    clock, path = Clock(), tmp_path / "goodput.jsonl"
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    killed = GoodputBook(path, clock)
    killed.start(model, [optimizer], torch.device("cpu"), [])
    for number in range(1, 9):
        one_step(model, optimizer)
        clock.at_s += 2.0  # a mark each
        killed.step()
        if number % 3 == 0:
            torch.save(model.state_dict(), tmp_path / "saved.pt")
    killed._hooks.close()  # as its death would
    with path.open("a") as file:
        file.write('{"process": 1, "at_s"')  # and it died as it wrote
    clock.at_s = 30.0
    after = GoodputBook(path, clock)
    after.start(model, [optimizer], torch.device("cpu"), [])
    for _ in range(6):
        one_step(model, optimizer)
        after.step()
    clock.at_s = 50.0
    after.stop()
    found = after.booked
    # saved after 6, and 7 and 8 were taken again
    assert (found.steps, found.lost_steps, found.restarts) == (12, 2, 1)
    assert (found.wall_s, found.restart_s) == (50.0, 14.0)
    assert found.lost_s > 0


def test_a_profile_hands_its_book_to_the_report(tmp_path, model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    path = tmp_path / "goodput.jsonl"
    with hwprof.profile(model, optimizer, goodput=path, ceilings="datasheet") as prof:
        for _ in range(2):
            one_step(model, optimizer)
            prof.step()
        with prof.phase("checkpoint"):
            pass
    found = prof.record.goodput
    assert found.steps == 2
    assert "Goodput" in prof.summary()
    assert build_view(prof.record).tables["goodput"].rows[0][0].text == "steps that last"
    assert not model._forward_hooks
