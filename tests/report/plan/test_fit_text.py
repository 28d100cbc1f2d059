"""What a fine-tuning that is to fit looks like in a terminal: the verdict first, the grid, and how much is missing."""

from __future__ import annotations

import csv
import io

import pytest

from hwprof.plan.fit.nearest import nearest_change, smallest_of, trainable_of
from hwprof.plan.fit.question import ADAPTATIONS, FitQuestion
from hwprof.plan.fit.rows import Fit, Room, fit_of
from hwprof.predict.machine import machine_of
from hwprof.predict.stacks import stack_named
from hwprof.report.plan.fit_text import fit_csv, print_fit, print_smallest, print_trainable
from hwprof.specs.catalogue.lookup import load_cluster, load_model
from hwprof.specs.catalogue.simulator import simulator_parameters

TABLE = simulator_parameters()


def question(model: str = "llama-3.1-8b", **fields: object) -> FitQuestion:
    stack = stack_named("huggingface")
    usual = {"rank": 16, "batches": (1, 2), "lengths": (2048,), "switches": stack.compiling(None)}
    return FitQuestion(model=load_model(model), stack=stack, **usual | fields)  # type: ignore[arg-type]


def memory(capacity_bytes: float) -> Room:
    return Room(name="so much memory", capacity_bytes=capacity_bytes)


def printed(fit: Fit, **how: object) -> list[str]:
    stream = io.StringIO()
    print_fit(fit, None if fit.any_fits else nearest_change(fit.question, fit.room, TABLE), stream, **how)  # type: ignore[arg-type]
    return stream.getvalue().splitlines()


@pytest.fixture(scope="module")
def on_a_4090() -> Fit:
    machine = machine_of(load_cluster("1xrtx-4090"))
    room = Room(name=machine.device.id, capacity_bytes=machine.capacity_bytes, machine=machine)
    return fit_of(question(adaptations=ADAPTATIONS, tokens=10_000_000), room, TABLE)


def test_the_first_line_is_the_verdict_of_each_way(on_a_4090: Fit) -> None:
    """torchtune trains 8B in 7.4 GiB by QLoRA; 16 bytes a parameter of full training are 128 GB (pytorch/torchtune)."""
    lines = printed(on_a_4090)
    assert lines[1].startswith("  llama-3.1-8b, 10 M tokens on rtx-4090")
    assert max(map(len, lines)) <= 80
    assert "QLoRA fits" in lines[0]
    assert "full" in lines[0].partition("QLoRA fits")[2]
    assert "tokens/s" in "".join(lines)


def test_the_grid_has_a_column_a_batch_and_a_row_a_way_and_length(on_a_4090: Fit) -> None:
    lines = printed(on_a_4090)
    head = next(line for line in lines if line.lstrip().startswith("way"))
    assert head.split()[:4] == ["way", "tokens", "1", "2"]
    assert any(line.split()[:2] == ["QLoRA", "2,048"] for line in lines)


def test_what_does_not_fit_says_how_much_it_needs_and_what_would_do() -> None:
    """Weights of 70 G parameters in four bits alone are 35 GB."""
    lines = printed(fit_of(question("llama-3.1-70b", adaptations=("qlora",), batches=(1,)), memory(24e9), TABLE))
    assert "does not fit" in lines[0]
    assert float(lines[0].partition("(needs ")[2].split()[0]) > 35
    assert any("change that works" in line for line in lines)


def test_chinese_says_the_same_verdict(on_a_4090: Fit) -> None:
    lines = printed(on_a_4090, language="zh")
    assert any("rtx-4090" in line for line in lines[:3])
    assert any("一" <= letter <= "鿿" for letter in lines[0])


def test_the_csv_has_each_batch_of_each_way_in_bytes(on_a_4090: Fit) -> None:
    rows = list(csv.DictReader(io.StringIO(fit_csv(on_a_4090))))
    assert len(rows) == len(ADAPTATIONS) * 2
    assert {row["adaptation"] for row in rows} == set(ADAPTATIONS)
    assert all(float(row["peak_bytes"]) > 4e9 for row in rows)  # 8 G parameters in four bits


def test_the_smallest_hardware_is_named_for_each_way() -> None:
    asked = question(adaptations=("full", "qlora"), batches=(1,))
    rooms = [Room(name=name, capacity_bytes=size) for name, size in (("small", 32e9), ("large", 400e9))]
    stream = io.StringIO()
    print_smallest(asked, smallest_of(asked, rooms, TABLE), stream)
    first, *rest = stream.getvalue().splitlines()
    assert first == "full large; QLoRA small"
    assert any(line.strip().startswith("QLoRA: ") and "small" in line for line in rest)


def test_hardware_that_never_suffices_is_said_with_the_need() -> None:
    asked = question("llama-3.1-70b", adaptations=("full",), batches=(1,))
    stream = io.StringIO()
    print_smallest(asked, smallest_of(asked, [memory(8e9)], TABLE), stream)
    assert "more than 8 devices of any kind" in stream.getvalue()


def test_the_largest_model_of_a_device_is_named_for_each_way() -> None:
    asked = question(adaptations=("full", "qlora"), batches=(1,))
    models = [load_model(name) for name in ("pythia-160m", "llama-3.1-8b", "llama-3.1-70b")]
    stream = io.StringIO()
    print_trainable(asked, memory(24e9), trainable_of(asked, models, memory(24e9), TABLE), stream)
    first, second, *_ = stream.getvalue().splitlines()
    assert first == "full pythia-160m; QLoRA llama-3.1-8b"
    assert second.startswith("on so much memory ")
