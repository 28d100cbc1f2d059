"""Which steps does a trace hold? Real traces, and windows that a user chooses."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kineto
import pytest
from click.testing import CliRunner

from hwprof.cli import cli
from hwprof.errors import InputError
from hwprof.specs.record.trace import TraceDevice
from hwprof.trace.analysis import Asked, analyse
from hwprof.trace.windows import Chosen

REAL = Path(__file__).parent / "real"
DEVICE = {"kernel", "Kernel", "gpu_memcpy", "gpu_memset", "Memcpy", "Memset"}
CALLS = {"cuda_runtime", "cuda_driver", "Runtime"}


def _one(path: Path, **chosen: Any) -> TraceDevice:
    (device,) = analyse([path], Asked(wanted=Chosen(**chosen))).devices
    return device


def _events(name: str) -> list[dict[str, Any]]:
    with gzip.open(REAL / name) as file:
        found: list[dict[str, Any]] = json.load(file)["traceEvents"]
    return found


def _launched_ms(name: str, low: float, high: float) -> tuple[float, float]:
    """First start and last end of the kernels whose launch call lies in a span of the host's time; in ms."""
    events = _events(name)
    calls = {event["args"]["correlation"]: event for event in events if event.get("cat") in CALLS and "args" in event}
    mine = [
        event
        for event in events
        if event.get("cat") in DEVICE and low <= calls.get(event["args"]["correlation"], {"ts": -1.0})["ts"] < high
    ]
    return min(event["ts"] for event in mine) / 1e3, max(event["ts"] + event["dur"] for event in mine) / 1e3


def test_a_step_begins_with_the_first_kernel_that_it_launched():
    """The trace's own annotation of the GPU says 34.892 ms; kernels from before the trace made it 49.342."""
    device = _one(REAL / "tl_h100_Qwen_kernels.json.gz")
    (annotation,) = (
        event for event in _events("tl_h100_Qwen_kernels.json.gz") if event.get("cat") == "gpu_user_annotation"
    )
    assert [step.name for step in device.steps] == ["ProfilerStep#6"]
    assert device.steps[0].duration_s == pytest.approx(0.034892, abs=1e-6)
    assert device.steps[0].duration_s == pytest.approx(annotation["dur"] * 1e-6, abs=1e-7)


def test_kernels_of_the_step_before_the_trace_are_in_no_step():
    """771 kernels were launched before; step 5 is 118.4 ms, not 162.4."""
    name = "kin_rn50_w4_two_steps.json.gz"
    device = _one(REAL / name)
    marks = {event["name"]: event for event in _events(name) if event["name"].startswith("ProfilerStep")}
    five, six = marks["ProfilerStep#5"], marks["ProfilerStep#6"]
    begins, _ = _launched_ms(name, five["ts"], six["ts"])
    then, ends = _launched_ms(name, six["ts"], six["ts"] + six["dur"])
    first, second = (step.duration_s * 1e3 for step in device.steps)
    assert (first, second) == (pytest.approx(118.432, abs=1e-3), pytest.approx(116.358, abs=1e-3))
    assert (first, second) == (pytest.approx(then - begins, abs=1e-3), pytest.approx(ends - then, abs=1e-3))
    assert sum(kernel.calls for kernel in device.kernels) == 2 * 1508


def test_what_stands_after_the_last_optimizer_step_is_no_step():
    device = _one(REAL / "hta_stepbased.json.gz")
    assert [step.name for step in device.steps] == [f"step {number}" for number in range(1, 6)]
    assert "135 µs after the last are no step" in device.notes[0]


def test_steps_are_chosen_by_number(tmp_path: Path):
    path = kineto.simulate(kineto.Loop(steps=5))[0].write(tmp_path / "trace.json")
    whole = _one(path)
    names = [step.name for step in whole.steps]
    assert len(names) == 5
    numbers = [int(name.rpartition("#")[2]) for name in names]
    part = _one(path, first=numbers[1], last=numbers[3])
    assert part.steps == whole.steps[1:4]
    assert part.breakdown.span_s == pytest.approx(sum(step.duration_s for step in whole.steps[1:4]))
    assert _one(path, warmup=2).steps == whole.steps[2:]
    assert sum(row.calls for row in part.kernels) == pytest.approx(3 / 5 * sum(row.calls for row in whole.kernels))
    with pytest.raises(InputError, match="none of the 5 steps"):
        _one(path, first=1000)


def test_steps_without_marks_of_the_profiler_end_with_the_optimizer(tmp_path: Path):
    path = kineto.simulate(kineto.Loop(profiler_steps=False))[0].write(tmp_path / "trace.json")
    assert [step.name for step in _one(path).steps] == ["step 1", "step 2", "step 3"]
    assert [step.name for step in _one(path, first=2, last=2).steps] == ["step 2"]


class Hand(kineto.KinetoFile):
    """Annotations of the host, and kernels with the calls that launched them; times in microseconds."""

    def kernel(self, start: int, end: int, called: int | None) -> None:
        ident = len(self.events) + 1
        if called is not None:
            self.complete("cuda_runtime", "cudaLaunchKernel", 1, 1, called * 1000, 1000, correlation=ident)
        span = (start * 1000, (end - start) * 1000)
        self.complete("kernel", "gemm", 0, 7, *span, stream=7, device=0, correlation=ident)

    def note(self, name: str, start: int, end: int) -> None:
        self.complete("user_annotation", name, 1, 1, start * 1000, (end - start) * 1000)


def test_annotations_of_a_name_are_steps(tmp_path: Path):
    """Two decode steps; a kernel between them, and one without a launch in the second."""
    hand = Hand()
    for number, start in enumerate((0, 100)):
        hand.note(f"decode {number}", start, start + 50)
        hand.kernel(start + 20, start + 60, start + 5)
    hand.kernel(60, 80, 55)
    hand.kernel(130, 135, None)
    hand.kernel(1, 2, None)
    device = _one(hand.write(tmp_path / "trace.json"), annotation="decode*")
    steps = [(step.name, round(step.start_s * 1e6), round(step.duration_s * 1e6)) for step in device.steps]
    assert steps == [("decode 0 (1)", 20, 40), ("decode 1 (2)", 120, 40)]
    assert sum(row.calls for row in device.kernels) == 3
    assert device.breakdown.span_s == pytest.approx(80e-6)


def test_an_annotation_that_is_not_there_names_those_that_are(tmp_path: Path):
    hand = Hand()
    hand.note("prefill", 0, 10)
    hand.kernel(5, 8, 1)
    with pytest.raises(InputError, match="it has prefill"):
        _one(hand.write(tmp_path / "trace.json"), annotation="decode")


def test_a_whole_trace_has_no_steps_to_choose_from():
    with pytest.raises(InputError, match="marks no steps"):
        _one(REAL / "tlu_gemm_01_compute_few_tiles.json.gz", first=1)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--steps", "3-4"], ["step 3", "step 4"]),
        (["--steps", "5"], ["step 5"]),
        (["--steps", "-2"], ["step 1", "step 2"]),
        (["--warmup", "4"], ["step 5"]),
        (["--annotation", "Optimizer.step#SGD.step"], [f"Optimizer.step#SGD.step ({n})" for n in range(1, 5)]),
    ],
)
def test_the_command_takes_a_window(arguments: list[str], names: list[str]):
    run: Callable[..., Any] = CliRunner().invoke
    found = run(cli, ["trace", str(REAL / "hta_stepbased.json.gz"), *arguments, "--format", "json"])
    (device,) = json.loads(found.stdout)["devices"]
    assert [step["name"] for step in device["steps"]] == names


def test_a_range_that_is_none_is_refused():
    found = CliRunner().invoke(cli, ["trace", "x.json", "--steps", "a-b"])
    assert found.exit_code == 2
    assert "3-5" in found.output
