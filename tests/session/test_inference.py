"""Claims about a run that generates: its phases, its record, its report, and what does not go together with it."""

import json

import pytest
from click.testing import CliRunner
from made_up_record import made_up_ceiling

import hwprof
from hwprof.cli import cli
from hwprof.errors import InputError, OutOfMemoryError
from hwprof.measure.probes.device import ProbeResult
from hwprof.report.files.run import read_run
from hwprof.session.ceilings import parts_of
from hwprof.specs.catalogue.lookup import load_model

QUICK = {"model": "tiny", "device": "cpu", "inference": True, "seq_len": 32, "new_tokens": 4, "steps": 6}


@pytest.fixture(scope="module", autouse=True)
def _quick_probes():
    def probe_device(*_args, on_result, **_options):
        host = (made_up_ceiling("latency.host.prefill", 1e-3), made_up_ceiling("latency.host.decode", 2e-3))
        on_result(
            ProbeResult(ceilings=(made_up_ceiling("matmul.fp32", 1e11), made_up_ceiling("memory.dram", 1e10), *host))
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hwprof.session.ceilings.probe_device", probe_device)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inference") / "run"
    hwprof.run(**QUICK, warmup_steps=0, output=folder)
    return folder


@pytest.fixture(scope="module")
def record(folder):
    return read_run(folder)


def test_the_first_and_the_next_token_stand_beside_their_prediction(record):
    found = record.generation
    phases = {phase.name: phase for phase in record.phases}
    assert list(phases) == ["host_to_device", "prefill", "decode"]
    assert found.tpot.median_s == pytest.approx(phases["decode"].median_s / 3)
    assert found.ttft.median_s == pytest.approx(phases["prefill"].median_s + phases["host_to_device"].median_s)
    assert found.tpot.predicted_s == pytest.approx(record.prediction.phase_s["decode"] / 3)
    assert found.tpot.roof_s < found.tpot.predicted_s
    assert record.step.tokens_per_s == pytest.approx(4 / record.step.median_s)


def test_the_host_of_each_pass_is_in_the_prediction(record):
    """Tiny reads 12.8 MB of weights for a token: 1.28 ms at 10 GB/s, and 2 ms of the host."""
    weights_bytes = sum(part.predicted_bytes for part in record.memory.parts if part.name == "weights")
    table_bytes = 4 * record.spec.vocab_size * record.spec.d_model
    least_s = (weights_bytes - table_bytes) / 1e10
    assert record.generation.tpot.predicted_s == pytest.approx(2e-3 + least_s, rel=0.1)


def test_operations_of_both_passes_are_told_apart_and_placed_under_roofs(record):
    places = {(op.label, op.direction, op.phase) for op in record.ops}
    assert {("layers.*.ffn.up", "forward", "prefill"), ("layers.*.ffn.up", "decode", "decode")} <= places
    assert ("layers.*.attention.cache", "decode", "decode") in places
    up = next(op for op in record.ops if (op.label, op.direction) == ("layers.*.ffn.up", "decode"))
    assert up.matmul_flop == 2 * 3 * 4 * record.spec.d_model * record.spec.d_ff


def test_weights_and_cache_are_in_the_peak(record):
    assert record.memory.measured_peak_bytes == pytest.approx(record.memory.predicted_peak_bytes, rel=0.02)
    assert (record.losses, record.eval_loss, record.recommendations, record.layouts) == ((), None, (), ())


def test_the_report_speaks_of_tokens_and_of_no_training(folder):
    page = (folder / "report.html").read_text()
    assert "First token" in page
    assert "a prompt of 32 tokens, 4 new tokens" in page
    for word in ("Machine and training", "Parallel layouts", "adamw", "optimizer step with the profiler off:"):
        assert word not in page
    assert (folder / "roofline.png").is_file()


def test_the_command_prints_the_record(tmp_path):
    words = ["run", "--inference", "--model", "tiny", "--device", "cpu", "--prompt-len", "16", "--new-tokens", "1"]
    result = CliRunner().invoke(cli, [*words, "--steps", "1", "--output", str(tmp_path), "--format", "json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["generation"]
    assert (found["sequences"], found["prompt_tokens"], found["new_tokens"], found["tpot"]) == (1, 16, 1, None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"optimizer": "sgd"}, "--optimizer is of training"),
        ({"compile": True}, "--compile is of training"),
        ({"cluster": "8xh100-sxm"}, "--cluster is of training"),
        ({"model": "encoder-base"}, "generates nothing"),
        ({"model": "gpt2-124m", "seq_len": 1020, "new_tokens": 9}, "use --seq-len 1016 or less"),
        ({"inference": False}, "--new-tokens is for --inference"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, options, says):
    with pytest.raises(InputError, match=says):
        hwprof.run(**QUICK | options, output=tmp_path / "run")


def test_a_batch_that_does_not_fit_says_which_would(tmp_path):
    with pytest.raises(OutOfMemoryError, match=r"what fits: --batch-size \d+"):
        hwprof.run(**QUICK | {"micro_batch": 10**8}, output=tmp_path / "run")


def test_products_of_the_new_tokens_are_probed_as_the_step_meets_them():
    """Behind all weights and the cache, not in a row."""
    from hwprof.specs.job.settings import RunSettings

    spec = load_model("tiny")
    parts = list(parts_of(spec, RunSettings(model="tiny", device="cpu", micro_batch=1, seq_len=32, new_tokens=4)))
    names = {part.name("fp32") for part in parts}
    assert f"matmul.fp32.1x{spec.d_ff}x{spec.d_model}" in names
    assert not any(name.endswith("backward") or name.startswith("optimizer") for name in names)
    assert {part.swept_bytes for part in parts if "matmul" in part.name("fp32")} == {parts[0].swept_bytes}
    assert 12e6 < parts[0].swept_bytes < 16e6
