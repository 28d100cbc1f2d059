"""Calibrations and runs of one machine, read as one: the last word counts, another machine's is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_record import made_up_ceiling, made_up_record

from hwprof.errors import InputError
from hwprof.report.files.measured import read_measured
from hwprof.report.files.run import write_record
from hwprof.specs.measurement import Ceiling
from hwprof.specs.record.calibration import Calibration


def calibration(path: Path, *ceilings: Ceiling, device: str = "CPU X") -> Path:
    kept = Calibration(
        hwprof_version="1",
        status="complete",
        created="2026-01-01",
        device=device,
        torch_version="2",
        driver="",
        quick=True,
        ceilings=ceilings,
        environment={"cpu.model": "CPU X"},
    )
    path.write_text(kept.to_json())
    return path


def test_several_files_of_a_machine_are_one_and_the_last_says_what_holds(tmp_path: Path) -> None:
    first = calibration(tmp_path / "a.json", made_up_ceiling("matmul.fp32", 1e11), made_up_ceiling("memory.dram", 2e10))
    second = calibration(tmp_path / "b.json", made_up_ceiling("matmul.fp32", 3e11))
    found = read_measured([first, second])
    assert found.value("matmul.fp32") == 3e11
    assert found.value("memory.dram") == 2e10
    assert found.value("latency.dispatch") is None
    assert found.on_cpu
    assert found.source == f"{first}, {second}"


def test_of_a_run_only_what_was_measured_is_taken(tmp_path: Path) -> None:
    from_a_table = made_up_ceiling("memory.dram", 5e10, origin="datasheet")
    record = made_up_record(ceilings=(made_up_ceiling("matmul.fp32", 1e11), from_a_table))
    write_record(record, tmp_path / "run")
    found = read_measured([tmp_path / "run"])
    assert found.value("matmul.fp32") == 1e11
    assert found.value("memory.dram") is None
    assert found.device == record.device.name


def test_files_of_two_machines_are_refused(tmp_path: Path) -> None:
    paths = [calibration(tmp_path / f"{name}.json", device=name) for name in ("CPU X", "CPU Y")]
    with pytest.raises(InputError, match="of CPU X and of CPU Y"):
        read_measured(paths)
