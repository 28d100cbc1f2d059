"""Claims about `hwprof.probe`: a calibration and its file from Python, whatever ends it."""

import logging

import pytest
from made_up_record import made_up_ceiling

import hwprof
from hwprof.errors import InputError
from hwprof.measure.probes.device import ProbeResult
from hwprof.specs.record.calibration import read_calibration

CEILING = made_up_ceiling("matmul.fp32", 1.62e11)


@pytest.fixture
def probes(monkeypatch):
    """Replaces the probes; holds what they were asked for, and may be given an error to end with."""
    asked = {}

    def instant(device, **options):
        asked.update(options, device=device)
        options["report"]("measuring matmul.fp32 (1 of 1)")
        options["on_result"](ProbeResult(ceilings=(CEILING,)))
        if "error" in asked:
            raise asked["error"]

    monkeypatch.setattr("hwprof.session.probe.probe_device", instant)
    return asked


def test_a_probe_from_python_returns_what_it_saves(probes, tmp_path, capsys):
    found = hwprof.probe(device="cpu", dtypes=("bf16",), quick=True, output=str(tmp_path / "c.json"))
    assert found == read_calibration(tmp_path / "c.json")
    assert (found.ceilings, found.status, found.quick) == ((CEILING,), "complete", True)
    assert (probes["dtypes"], probes["quick"]) == (("bf16",), True)
    assert capsys.readouterr() == ("", "")


def test_interrupted_probe_saves_what_it_has_and_says_where(probes, tmp_path, caplog):
    probes["error"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        hwprof.probe(device="cpu", output=tmp_path / "c.json")
    assert read_calibration(tmp_path / "c.json").status == "interrupted"
    assert caplog.record_tuples == [("hwprof", logging.WARNING, f"what was measured is in {tmp_path}/c.json")]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": "quantum"}, "'quantum' is not a device"),
        ({"dtypes": ("fp4",)}, "'dtypes.0' is 'fp4'; expected 'fp32', 'tf32', 'bf16' or 'fp16'"),
        ({"timeout_s": 1}, "'timeout_s' is 1; expected greater than or equal to 10"),
        ({"output": "nosuch/c.json"}, "there is no folder nosuch"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_measured(probes, options, says):
    with pytest.raises(InputError) as refused:
        hwprof.probe(**{"device": "cpu"} | options)
    assert says in str(refused.value)
    assert probes == {}


def test_links_need_ranks():
    with pytest.raises(InputError, match="RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set"):
        hwprof.probe_ranks(device="cpu")
