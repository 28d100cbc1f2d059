"""Ceilings come from where they are said to come from, and never from nowhere."""

import json

import pytest
import torch
from made_up_record import made_up_ceiling

from hwprof.errors import InputError
from hwprof.loop.ceilings import known_ceilings
from hwprof.measure.probes.device import ProbeResult
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.measurement import Skipped

CPU = torch.device("cpu")


def _say_nothing(_line):
    pass


def _changed(path, folder, **changes):
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    other = folder / "changed.json"
    other.write_text(json.dumps(content), encoding="utf-8")
    return other


def test_ceilings_of_a_file_are_called_calibrated_and_name_it(calibration_file):
    known = known_ceilings(str(calibration_file), CPU, None, _say_nothing)
    assert [ceiling.origin for ceiling in known.ceilings] == ["calibrated", "calibrated"]
    assert all("made-up.json" in ceiling.source for ceiling in known.ceilings)


def test_file_of_another_device_is_refused(calibration_file, tmp_path):
    with pytest.raises(InputError, match="was measured on Abacus, and the loop runs on"):
        known_ceilings(_changed(calibration_file, tmp_path, device="Abacus"), CPU, None, _say_nothing)


def test_file_without_ceilings_is_refused(calibration_file, tmp_path):
    with pytest.raises(InputError, match="holds no ceilings"):
        known_ceilings(_changed(calibration_file, tmp_path, ceilings=[]), CPU, None, _say_nothing)


def test_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        known_ceilings(tmp_path / "nothing.json", CPU, None, _say_nothing)


def test_measuring_is_done_only_when_asked_for(monkeypatch):
    asked = []
    dram = made_up_ceiling("memory.dram")

    def probe(device, **options):
        asked.append((device, options["quick"], options["dtypes"][0], options["peers"]))
        return ProbeResult(ceilings=(dram,), skipped=(Skipped(name="transfer", reason="none"),))

    monkeypatch.setattr("hwprof.loop.ceilings.probe_device", probe)
    assert known_ceilings(None, CPU, None, _say_nothing).ceilings == ()
    assert asked == []
    known = known_ceilings("measure", CPU, None, _say_nothing)
    assert (known.ceilings, known.skipped[0].name, asked) == ((dram,), "transfer", [(CPU, True, "fp32", True)])
    monkeypatch.setenv("WORLD_SIZE", "2")  # the other devices are those of other ranks
    known_ceilings("measure", CPU, None, _say_nothing)
    assert asked[1:] == [(CPU, True, "fp32", False)]


def test_datasheet_of_a_known_device_stands_beside_and_alone():
    spec = load_device("h100-sxm5-80gb")
    alone = known_ceilings(None, torch.device("cuda"), spec, _say_nothing)
    assert {ceiling.origin for ceiling in alone.ceilings} == {"datasheet"}
    assert alone.notes == ()
