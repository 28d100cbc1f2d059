"""Is a run directory complete, atomic and readable again?"""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from hwprof.errors import InputError
from hwprof.report.files import run as directory
from hwprof.report.files.run import ReportError, read_run, write_reports, write_run
from hwprof.specs.record.run import SCHEMA_VERSION, RunRecord

NAMES = [
    "run.json",
    "report.html",
    "roofline.png",
    "step.png",
    "memory.png",
    "phases.csv",
    "ops.csv",
    "memory.csv",
    "plan.csv",
]


@pytest.fixture(scope="module")
def written(record: RunRecord, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("runs") / "new" / "run"
    assert [home / name for name in NAMES] == write_run(record, home)
    return home


def test_all_files_are_there_and_nothing_else(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == sorted(NAMES)
    assert all(path.stat().st_size > 100 for path in written.iterdir())


def test_record_reads_back_as_it_was(written: Path, record: RunRecord) -> None:
    assert read_run(written) == record
    assert read_run(written / "run.json") == record


def test_a_bare_record_writes_every_file(bare_record: RunRecord, tmp_path: Path) -> None:
    assert [path.name for path in write_run(bare_record, tmp_path)] == NAMES
    assert read_run(tmp_path) == bare_record


def test_a_renderer_that_fails_costs_its_own_file_alone(
    record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> bytes:
        raise RuntimeError("no fonts")

    monkeypatch.setattr(directory, "render_step", broken)
    with pytest.raises(ReportError, match=r"step\.png: RuntimeError: no fonts") as caught:
        write_run(record, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(set(NAMES) - {"step.png"})
    assert [path.name for path in caught.value.written] == [name for name in NAMES[1:] if name != "step.png"]


def test_a_failed_view_keeps_the_record_and_the_sheets(
    record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise ValueError("odd record")

    monkeypatch.setattr(directory, "build_view", broken)
    with pytest.raises(ReportError):
        write_run(record, tmp_path)
    kept = {"run.json", "phases.csv", "ops.csv", "memory.csv", "plan.csv"}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_full_disk_is_told_once(bare_record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(bare_record, tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hwprof.specs.files.os.fsync", full)
    with pytest.raises(ReportError) as caught:
        write_reports(bare_record, tmp_path)
    assert str(caught.value).count("No space left on device") == 1
    assert f"could not make {', '.join(NAMES[1:])}: No space left on device;" in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)


def test_an_earlier_report_stays_when_its_renderer_fails(
    bare_record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(bare_record, tmp_path)
    before = (tmp_path / "report.html").read_bytes()
    monkeypatch.setattr(directory, "render_html", lambda _: 1 / 0)
    with pytest.raises(ReportError):
        write_run(bare_record, tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema_version": 1,', "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        ("[]", "is not a run record"),
        ("{}", "expected an object with schema_version"),
        (json.dumps({"schema_version": SCHEMA_VERSION + 1}), "update hwprof"),
        (json.dumps({"schema_version": SCHEMA_VERSION}), "is not a run record"),
    ],
)
def test_an_unreadable_record_is_one_line_for_the_user(content: str | bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_directory_and_an_empty_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_run(tmp_path / "nosuch")
    with pytest.raises(InputError, match=r"has no run\.json"):
        read_run(tmp_path)


def test_a_wrong_field_is_named(written: Path, tmp_path: Path) -> None:
    content = json.loads((written / "run.json").read_text())
    content["step"]["median_s"] = "fast"
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"step\.median_s"):
        read_run(tmp_path)
