import json

import pytest
from click.testing import CliRunner
from made_up_record import made_up_ceiling

from hwprof.cli import cli
from hwprof.errors import InputError
from hwprof.measure.probes import calibration as calibration_module
from hwprof.measure.probes.device import ProbeResult
from hwprof.specs.measurement import Skipped
from hwprof.specs.record.calibration import Calibration

RESULT = ProbeResult(
    ceilings=(
        made_up_ceiling(
            "matmul.fp32",
            1.62e11,
            samples=(1.61e11, 1.62e11, 1.63e11),
            spread=0.01,
            stable=True,
            conditions={"threads": 2},
        ),
        made_up_ceiling("memory.dram", 3.2e10, spread=0.2, stable=False),
    ),
    skipped=(Skipped(name="transfer", reason="no accelerator: host and device share memory"),),
)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Replaces the probes; holds what they were asked for."""
    options = {}

    def instant(device, **given):
        options.update(given, device=device)
        given["report"]("measuring matmul.fp32 (1 of 1)")
        given["on_result"](RESULT)
        return RESULT

    monkeypatch.setattr("hwprof.session.probe.probe_device", instant)
    monkeypatch.setattr(calibration_module, "device_name", lambda _device: "AMD EPYC 9654 (96 cores)")
    monkeypatch.chdir(tmp_path)
    return options


def run(*words):
    return CliRunner().invoke(cli, ["probe", "--device", "cpu", *words])


@pytest.mark.usefixtures("asked")
def test_the_calibration_is_named_after_the_device_and_reads_back_as_it_was_measured(tmp_path):
    assert run("--quick").exit_code == 0
    text = (tmp_path / "hwprof-calibration-amd-epyc-9654-96-cores.json").read_text()
    saved = Calibration.model_validate_json(text)
    assert (saved.ceilings, saved.skipped, saved.status) == (RESULT.ceilings, RESULT.skipped, "complete")
    assert saved.environment["torch.version"] == saved.torch_version


@pytest.mark.usefixtures("asked")
def test_json_is_all_that_stands_on_standard_output():
    result = run("--format", "json", "--output", "c.json")
    found = json.loads(result.stdout)
    first = found["ceilings"][0]
    assert {key: first[key] for key in ("name", "value", "unit", "samples", "conditions")} == {
        "name": "matmul.fp32",
        "value": 1.62e11,
        "unit": "flop_per_s",
        "samples": [1.61e11, 1.62e11, 1.63e11],
        "conditions": {"threads": 2},
    }
    assert found["skipped"][0]["name"] == "transfer"
    assert result.stderr == ""


@pytest.mark.usefixtures("asked")
def test_people_see_values_with_units_spread_and_what_is_missing():
    text = run("--output", "c.json").stdout
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    assert lines["matmul.fp32"].split()[1:] == ["162", "GFLOP/s", "spread", "1", "%", "stable"]
    assert lines["memory.dram"].split()[1:] == ["32", "GB/s", "spread", "20", "%", "UNSTABLE"]
    assert "transfer: no accelerator: host and device share memory" in text
    assert "stop other work and probe again" in text
    assert "Saved in c.json" in text


def test_a_cpu_is_probed_in_its_three_dtypes_and_fully_by_default(asked):
    run()
    assert asked["dtypes"] == ("fp32", "bf16", "fp16")
    assert asked["quick"] is False


def test_dtypes_may_be_chosen(asked):
    run("--dtype", "bf16", "--dtype", "fp32", "--quick")
    assert asked["dtypes"] == ("bf16", "fp32")
    assert asked["quick"] is True


@pytest.mark.usefixtures("asked")
def test_an_interrupt_saves_what_was_measured_and_stays_an_interrupt(monkeypatch, tmp_path):
    def interrupted(_device, **given):
        given["on_result"](RESULT)
        raise KeyboardInterrupt

    monkeypatch.setattr("hwprof.session.probe.probe_device", interrupted)
    result = CliRunner().invoke(cli, ["probe", "--device", "cpu", "--output", "c.json"], standalone_mode=False)
    assert result.exit_code != 0
    assert "what was measured is in c.json" in result.stderr
    assert Calibration.model_validate_json((tmp_path / "c.json").read_text()).status == "interrupted"


@pytest.mark.usefixtures("asked")
def test_an_interrupt_before_the_first_ceiling_leaves_no_file(monkeypatch, tmp_path):
    def interrupted(_device, **_given):
        raise KeyboardInterrupt

    monkeypatch.setattr("hwprof.session.probe.probe_device", interrupted)
    assert run("--output", "c.json").exit_code != 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_found_before_measuring(asked):
    result = run("--output", "nosuch/c.json")
    assert isinstance(result.exception, InputError)
    assert "there is no folder nosuch" in str(result.exception)
    assert asked == {}


@pytest.mark.usefixtures("asked")
def test_an_unknown_device_lists_what_is_accepted():
    result = CliRunner().invoke(cli, ["probe", "--device", "quantum"])
    assert isinstance(result.exception, InputError)
    assert "'quantum' is not a device; expected auto, cpu, cuda, xpu, mps or npu" in str(result.exception)


@pytest.mark.usefixtures("asked")
def test_an_unknown_dtype_is_refused():
    result = run("--dtype", "fp4")
    assert result.exit_code == 2
    assert "'fp4' is not one of 'fp32', 'tf32', 'bf16', 'fp16'" in result.stderr
