"""Claims about ``hwprof.profile`` on a loop that knows nothing of it."""

import json

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_pre_hooks
from torch.utils.flop_counter import FlopCounterMode

import hwprof
from hwprof.cli import cli
from hwprof.report.files.run import read_run
from hwprof.spans.read.file import read_trace


def test_run_is_complete_and_written_as_hwprof_run_writes_it(measured):
    files = {path.name for path in measured.directory.iterdir()}
    assert {"run.json", "report.html", "roofline.png", "phases.csv", "ops.csv", "trace.json.gz"} <= files
    record = read_run(measured.directory)
    assert record == measured.prof.record
    assert (record.status, record.world_size, record.rank) == ("complete", 1, 0)
    assert json.loads((measured.directory / "run.json").read_text())["schema_version"] == 1


def test_view_renders_the_run_again(measured, tmp_path):
    from click.testing import CliRunner

    (tmp_path / "run.json").write_bytes((measured.directory / "run.json").read_bytes())
    result = CliRunner().invoke(cli, ["view", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "Model on " in result.output
    assert (tmp_path / "report.html").is_file()


def test_settings_and_module_are_those_that_were_seen(measured):
    settings, model = measured.prof.record.settings, measured.prof.record.model
    assert (settings.dtype, settings.optimizer, settings.optimizer_implementation) == ("fp32", "AdamW", "for-loop")
    assert settings.inputs == ("tokens 4×8 int64",)
    assert (settings.samples_per_step, settings.tokens_per_step, settings.gradient_accumulation) == (4, 32, 1)
    assert (model.name, model.parameters) == ("Model", sum(p.numel() for p in measured.loop.model.parameters()))


def test_work_is_what_torch_counts_and_mfu_is_held_against_the_calibrated_peak(measured):
    with FlopCounterMode(display=False) as counter:
        measured.loop.step()
    record = measured.prof.record
    assert record.work.train_flop_full == counter.get_total_flops()
    assert record.step.mfu == pytest.approx(counter.get_total_flops() / record.step.median_s / 1e12)
    assert {ceiling.origin for ceiling in record.ceilings} == {"calibrated"}
    assert record.step.tokens_per_s == pytest.approx(32 / record.step.median_s)


def test_phases_of_a_step_fill_it(measured):
    record = measured.prof.record
    assert [phase.name for phase in record.phases] == ["data", "forward", "loss", "backward", "optimizer"]
    steps = enumerate(record.step.samples_s)
    filled = [sum(phase.samples_s[number] for phase in record.phases) / step_s for number, step_s in steps]
    assert 0.7 < max(filled) <= 1  # what lies between two phases is as long as other work on the machine makes it


def test_operators_are_booked_to_modules_and_placed_under_roofs(measured):
    ops = {(op.label, op.direction): op for op in measured.prof.record.ops}
    linear = ops["blocks.*.up", "forward"]
    assert linear.matmul_flop == 2 * 2 * 32 * 16 * 64
    assert linear.roof_s == pytest.approx(max(linear.matmul_flop, linear.read_bytes + linear.write_bytes) / 1e12)
    assert ("optimizer", "update") in ops
    assert ("loss", "backward") in ops


def test_step_is_wholly_accounted_for(measured):
    attribution = measured.prof.record.attribution
    assert attribution.residue_s < 0.2 * attribution.step_s
    assert "hwprof:window" in read_trace(measured.directory / "trace.json.gz").names


def test_memory_is_state_and_the_rest_of_the_peak(measured):
    memory = measured.prof.record.memory
    parts = {part.name: part.predicted_bytes for part in memory.parts}
    assert parts["weights"] == 4 * measured.prof.record.model.parameters
    assert sum(parts.values()) == pytest.approx(memory.measured_peak_bytes)
    assert memory.predicted_peak_bytes is None


def test_nothing_is_left_in_model_optimizer_or_torch(measured):
    for module in measured.loop.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not measured.loop.optimizer._optimizer_step_pre_hooks
    assert not measured.loop.optimizer._optimizer_step_post_hooks
    assert not _global_optimizer_pre_hooks
    assert torch.autograd.backward.__module__ == "torch.autograd"


def test_metrics_are_logged_when_the_measurement_ends_and_every_so_often_after_it(measured):
    steps = [step for step, _ in measured.logger.entries]
    assert steps == [measured.ended, measured.ended + 2, measured.ended + 4]
    first = measured.logger.entries[0][1]
    record = measured.prof.record
    assert first["hwprof/mfu"] == record.step.mfu
    assert first["hwprof/step_time_s"] == record.step.median_s
    shares = {name: value for name, value in first.items() if name.startswith("hwprof/bound_share/")}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert first["hwprof/exposed_communication_share"] == 0.0
    assert measured.logger.closed == 1


@pytest.mark.parametrize("table", ["ops", "phases", "kernels", "layer_kinds", "ceilings", "steps"])
def test_tables_are_data_frames(measured, table):
    frame = measured.prof.to_pandas(table)
    rows = measured.prof.record.step.samples_s if table == "steps" else getattr(measured.prof.record, table)
    assert len(frame) == len(rows) > 0


def test_data_frame_has_units_in_its_names_and_unknown_tables_are_refused(measured):
    assert {"label", "direction", "time_s", "matmul_flop", "bound"} <= set(measured.prof.to_pandas().columns)
    with pytest.raises(hwprof.InputError, match="no table 'steps_s'"):
        measured.prof.to_pandas("steps_s")


def test_notebook_and_text_show_the_verdict(measured):
    sentence = measured.prof.record.verdict.sentence
    assert sentence in " ".join(measured.prof.summary().split())  # lines are folded
    html = measured.prof._repr_html_()
    assert html.startswith('<div class="hwprof">')
    assert "<script" not in html
    assert "Phases of the step" in html
    assert repr(measured.prof).startswith("<hwprof.Profile of Model: done, ")


def test_results_of_training_are_those_without_it(make_loop, short):
    plain, watched = make_loop(), make_loop()
    torch.manual_seed(1)
    with hwprof.profile(watched.model, watched.optimizer, schedule=short) as prof:
        for _ in range(short.most_steps):
            watched.step()
            prof.step()
    torch.manual_seed(1)
    for _ in range(short.most_steps):
        plain.step()
    for mine, other in zip(watched.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def _take(prof, loop, steps):
    for _ in range(steps):
        loop.step()
        prof.step()


def test_loop_that_ends_early_keeps_what_was_timed_and_says_so(make_loop, tmp_path):
    loop = make_loop()
    with hwprof.profile(loop.model, loop.optimizer, output=tmp_path / "run") as prof:
        _take(prof, loop, 10)
    record = read_run(tmp_path / "run")
    assert record.status == "partial"
    assert "the loop ended after 10 steps; the schedule needs 30 steps, or 38" in record.status_note
    assert len(record.step.samples_s) == 3
    assert not prof.done


def test_error_of_the_loop_goes_on_and_leaves_nothing_behind(make_loop, short):
    loop = make_loop()

    def fails():
        with prof:
            _take(prof, loop, 3)
            raise ZeroDivisionError

    prof = hwprof.profile(loop.model, loop.optimizer, schedule=short)
    with pytest.raises(ZeroDivisionError):
        fails()
    assert not loop.model._forward_hooks
    assert torch.autograd.backward.__module__ == "torch.autograd"
    prof.step()  # harmless after the end
    assert prof.record.status == "partial"


def test_mistake_of_our_own_ends_the_measurement_and_not_the_loop(make_loop, short, monkeypatch):
    def broken(*_args, **_options):
        raise AssertionError("parts do not add up")

    monkeypatch.setattr("hwprof.measure.watch.steps.attribute", broken)
    loop = make_loop()
    with hwprof.profile(loop.model, loop.optimizer, schedule=short) as prof:
        with pytest.warns(RuntimeWarning, match="measuring stopped: AssertionError: parts do not add up"):
            _take(prof, loop, short.most_steps)
        _take(prof, loop, 2)
    assert prof.record.status == "failed"
    assert "parts do not add up" in prof.record.status_note
    assert len(prof.record.step.samples_s) == short.pairs


def test_report_that_cannot_be_written_is_a_warning_and_the_program_goes_on(make_loop, short, tmp_path):
    (tmp_path / "file").touch()
    loop = make_loop()
    with (
        pytest.warns(RuntimeWarning, match="the report was not written: WorkError: the folder"),
        hwprof.profile(loop.model, loop.optimizer, schedule=short, output=tmp_path / "file" / "report") as prof,
    ):
        _take(prof, loop, short.most_steps)
    assert prof.done


def test_without_ceilings_nothing_is_held_against_a_roof(make_loop, short):
    loop = make_loop()
    with hwprof.profile(loop.model, loop.optimizer, schedule=short) as prof:
        _take(prof, loop, short.most_steps)
    record = prof.record
    assert record.step.mfu is None
    assert record.ceilings == ()
    assert set(record.verdict.shares) <= {"unknown", "host"}
    assert not [op for op in record.ops if op.lost_s or op.advice]
    assert any("no ceilings are known" in note for note in record.notes)


def test_steps_with_an_evaluation_in_them_are_left_out(make_loop):
    loop = make_loop()
    with hwprof.profile(loop.model, loop.optimizer, schedule=hwprof.Schedule(warmup=2, timed=8, profiled=0)) as prof:
        for number in range(14):
            loop.step()
            if number in {2, 7}:
                with torch.no_grad():
                    loop.model(torch.randint(0, 50, (4, 8)))
            prof.step()
    assert prof.done
    assert len(prof.record.step.samples_s) == 4
    assert "evaluation" not in {phase.name for phase in prof.record.phases}
    assert any("left out of the step time" in note for note in prof.record.notes)


def test_measurement_is_repeated_where_that_is_asked_for(make_loop, kept):
    loop = make_loop()
    again = hwprof.Schedule(warmup=2, timed=2, profiled=0, every=3)
    with hwprof.profile(loop.model, loop.optimizer, schedule=again, loggers=[kept], log_every=100) as prof:
        _take(prof, loop, 3 * (4 + 3))
    assert [step for step, _ in kept.entries] == [4, 11, 18]


def test_phases_may_be_named_by_hand(make_loop, short):
    loop = make_loop()
    with hwprof.profile(loop.model, schedule=short) as prof:
        for _ in range(short.most_steps):
            with prof.phase("host_to_device"):
                tokens = torch.randint(0, 50, (4, 8)).clone()
            with prof.phase("forward", inputs=tokens):
                loss = loop.model(tokens).square().mean()
            loss.backward()
            loop.optimizer.step()
            loop.optimizer.zero_grad()
            prof.step()
    names = [phase.name for phase in prof.record.phases]
    assert names == ["data", "host_to_device", "forward", "backward", "optimizer"]
    assert prof.record.settings.tokens_per_step == 32
    assert prof.record.settings.optimizer == "AdamW"
    with pytest.raises(hwprof.InputError, match="'think' is no phase"):
        prof.phase("think")


def test_compiled_model_is_booked_as_a_whole_and_the_result_says_so(make_loop, short):
    loop = make_loop()
    called = torch.compile(loop.model, backend="eager")
    with hwprof.profile(called, loop.optimizer, schedule=short) as prof:
        for _ in range(short.most_steps):
            called(torch.randint(0, 50, (4, 8))).square().mean().backward()
            loop.optimizer.step()
            loop.optimizer.zero_grad()
            prof.step()
    record = prof.record
    assert {op.label for op in record.ops if op.phase == "forward"} == {"model"}
    assert any("torch.compile fuses kernels across modules" in note for note in record.notes)
    assert record.settings.compile
    assert record.work.train_flop_full > 0


def test_profiler_that_is_open_already_keeps_the_window(make_loop, short):
    loop = make_loop()
    with (
        hwprof.profile(loop.model, loop.optimizer, schedule=short) as prof,
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]),
    ):
        _take(prof, loop, short.most_steps)
    assert prof.record.attribution is None
    assert any("own torch.profiler was open in the profiled window" in note for note in prof.record.notes)


def test_module_that_the_loop_does_not_call_is_noticed(make_loop, short):
    loop = make_loop()
    with hwprof.profile(nn.Linear(2, 2), loop.optimizer, schedule=short) as prof:
        _take(prof, loop, short.most_steps)
    assert any("no forward phase was found" in note for note in prof.record.notes)


def test_step_before_the_start_is_refused(make_loop):
    loop = make_loop()
    prof = hwprof.profile(loop.model, loop.optimizer)
    with pytest.raises(hwprof.InputError, match="was not started"):
        prof.step()
    assert prof._repr_html_() == "hwprof: not started"


def test_each_rank_has_a_folder_of_its_own(make_loop, short, tmp_path, monkeypatch):
    monkeypatch.setattr("hwprof.loop.profile.world", lambda: (1, 2))
    loop = make_loop()
    with hwprof.profile(loop.model, loop.optimizer, schedule=short, output=tmp_path) as prof:
        _take(prof, loop, short.most_steps)
    assert {path.name for path in (tmp_path / "rank-1").iterdir()} == {"run.json", "trace.json.gz"}
    assert (prof.record.rank, prof.record.world_size) == (1, 2)
