"""``hwprof diff``: what it finds, and when it fails a build."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import kineto
import pytest
from click.testing import CliRunner, Result
from made_up_record import made_up_phase, made_up_record, made_up_step

from hwprof.cli.diff import command
from hwprof.errors import InputError, UndecidedError, WorkError
from hwprof.report.files.run import write_record
from hwprof.specs.record.diff import DiffReport
from hwprof.specs.record.run import RunRecord, RunSettings

LOOP = kineto.Loop(steps=8, layers=4, rows=65536)


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same loop with other noise, and with one layer more; large kernels, so that the device is busy."""
    folder = tmp_path_factory.mktemp("diff")
    loops = {"base": LOOP, "again": replace(LOOP, seed=5), "more": replace(LOOP, layers=5)}
    return {name: str(kineto.simulate(loop)[0].write(folder / f"{name}.json")) for name, loop in loops.items()}


def _run(*args: str) -> Result:
    return CliRunner().invoke(command, args)


def _report(*args: str) -> DiffReport:
    return DiffReport.model_validate(json.loads(_run(*args, "--format", "json").stdout))


def test_a_layer_more_is_slower_and_its_kernels_are_why(traces):
    report = _report(traces["base"], traces["more"])
    assert report.step.verdict == "slower"
    assert report.step.interval is not None
    assert report.step.interval[0] <= report.step.change_fraction <= report.step.interval[1]
    part = {row.name: row for row in report.rows if row.level == "part"}["compute"]
    assert part.beyond_noise
    assert part.share == pytest.approx(1, abs=0.1)
    module = next(row for row in report.rows if row.level == "module")
    assert module.name == "Model.Block.Linear backward"
    kernel = {row.name: row for row in report.rows if row.level == "kernel"}[
        "nvjet_tst_192x192_64x3_2x1_v_bz_coopB_TNN"
    ]
    assert (kernel.a_calls, kernel.b_calls) == (16, 20)


def test_parts_explain_the_change_of_the_step(traces):
    report = _report(traces["base"], traces["more"])
    parts = [row.change_s for row in report.rows if row.level == "part"]
    assert sum(parts) == pytest.approx(report.step.change_s, rel=0.1)


def test_the_build_fails_only_beyond_the_limit_and_noise(traces):
    slower = _run(traces["base"], traces["more"], "--fail-if-slower", "3%")
    assert isinstance(slower.exception, WorkError)
    assert slower.exception.exit_code == 1
    assert "FAILED" in slower.stdout
    assert _run(traces["base"], traces["again"], "--fail-if-slower", "3%").exit_code == 0
    assert _run(traces["base"], traces["more"], "--fail-if-slower", "500%").exit_code == 0
    assert _run(traces["more"], traces["base"], "--fail-if-slower", "0").exit_code == 0


def test_ranks_in_a_folder_are_one_side(tmp_path: Path):
    for side, seed in (("a", 1), ("b", 2)):
        (tmp_path / side).mkdir()
        for rank, file in enumerate(kineto.simulate(kineto.Loop(seed=seed), 2)):
            file.write(tmp_path / side / f"rank{rank}.json.gz")
    report = _report(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (report.a.samples, report.b.samples) == (6, 6)
    assert not report.settings


def test_few_steps_give_no_verdict(tmp_path: Path):
    path = kineto.simulate(kineto.Loop(steps=2))[0].write(tmp_path / "t.json")
    report = _report(str(path), str(path))
    assert report.step.verdict == "too few samples"
    assert not report.failed


def _record(step_s: float, *, batch: int, torch: str, tokens_per_s: float = 1.0) -> RunRecord:
    samples_s = tuple(step_s * (1 + 0.001 * number) for number in range(10))
    half = tuple(sample_s / 2 for sample_s in samples_s)
    return made_up_record(
        settings=RunSettings(model="small", device="cpu", micro_batch=batch, seq_len=8),
        environment={"torch.version": torch},
        step=made_up_step(step_s * 1.0045, samples_s=samples_s, tokens_per_s=tokens_per_s),
        phases=(made_up_phase("forward", step_s / 2, samples_s=half),),
    )


def test_runs_are_compared_by_phase_settings_and_machine(tmp_path: Path):
    write_record(_record(1.0, batch=2, torch="2.12"), tmp_path / "a")
    write_record(_record(1.1, batch=4, torch="2.13"), tmp_path / "b")
    report = _report(str(tmp_path / "a"), str(tmp_path / "b" / "run.json"))
    assert report.step.verdict == "slower"
    assert report.step.change_fraction == pytest.approx(0.1)
    (phase,) = report.rows
    assert (phase.level, phase.name, phase.beyond_noise) == ("phase", "forward", True)
    assert [(row.key, row.a, row.b) for row in report.settings] == [("micro_batch", "2", "4")]
    assert [(row.key, row.a, row.b) for row in report.environment] == [("torch.version", "2.12", "2.13")]


def test_steps_of_different_tokens_are_compared_by_tokens_too(tmp_path: Path):
    write_record(_record(1.0, batch=2, torch="2.12", tokens_per_s=100.0), tmp_path / "a")
    write_record(_record(1.5, batch=4, torch="2.12", tokens_per_s=133.0), tmp_path / "b")
    report = _report(str(tmp_path / "a"), str(tmp_path / "b"))
    assert report.step.tokens_ratio == pytest.approx(1.995)  # 133 x 1.5 over 100 x 1
    assert report.step.rate_change_fraction == pytest.approx(0.33)
    lines = _run(str(tmp_path / "a"), str(tmp_path / "b")).stdout.splitlines()
    assert "B is slower than A" in lines[0]
    assert lines[1].strip() == "a step of B has 2 times the tokens of one of A: +33 % tokens/s"
    alike = _run(str(tmp_path / "a"), str(tmp_path / "a")).stdout
    assert "times the tokens" not in alike


def test_wrong_input_is_refused(traces, tmp_path: Path):
    write_record(_record(1.0, batch=2, torch="2.12"), tmp_path / "run")
    write_record(_record(1.0, batch=2, torch="2.12").model_copy(update={"step": None}), tmp_path / "short")
    (tmp_path / "empty").mkdir()
    for pair in ((tmp_path / "run", traces["base"]), (tmp_path / "empty", traces["base"]), (tmp_path / "short",) * 2,
                 (tmp_path / "nosuch", traces["base"])):  # fmt: skip
        assert isinstance(_run(*map(str, pair)).exception, InputError), pair
    assert _run(traces["base"], traces["base"], "--fail-if-slower", "fast").exit_code == 2


def _slower(path: Path, folder: Path, factor: float) -> Path:
    """A trace of which every time is stretched."""
    content = json.loads(path.read_text())
    for event in content["traceEvents"]:
        for key in ("ts", "dur"):
            if key in event:
                event[key] *= factor
    folder.mkdir(exist_ok=True)
    (folder / path.name).write_text(json.dumps(content))
    return folder / path.name


def test_too_few_steps_are_undecided_with_an_exit_code_of_their_own(tmp_path: Path):
    path = kineto.simulate(kineto.Loop(steps=2))[0].write(tmp_path / "t.json")
    slow = _slower(path, tmp_path / "slow", 1.2)
    found = _run(str(path), str(slow), "--fail-if-slower", "3%")
    assert isinstance(found.exception, UndecidedError)
    assert found.exception.exit_code == 3
    assert "UNDECIDED" in found.stdout
    assert _run(str(path), str(slow)).exit_code == 0


def test_ranks_that_all_got_slower_fail(tmp_path: Path):
    """One step of each of six ranks, which differ more than the change."""
    (tmp_path / "a").mkdir()
    for rank in range(6):
        loop = kineto.Loop(steps=1, layers=2 + rank)
        path = kineto.simulate(loop, 1)[0].write(tmp_path / "a" / f"rank{rank}.json")
        path.write_text(path.read_text().replace('"rank": 0', f'"rank": {rank}'))
        _slower(path, tmp_path / "b", 1.2)
    found = _run(str(tmp_path / "a"), str(tmp_path / "b"), "--fail-if-slower", "3%")
    assert isinstance(found.exception, WorkError)
    assert "+20 %" in found.stdout.splitlines()[0]
    assert _run(str(tmp_path / "a"), str(tmp_path / "a"), "--fail-if-slower", "3%").exit_code == 0
