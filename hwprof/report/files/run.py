"""How is a run directory written and read? Each file complete or absent; run.json first, never lost to the others."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from pydantic import ValidationError

from hwprof.errors import InputError, WorkError
from hwprof.report.cells import Table
from hwprof.report.chinese import Language
from hwprof.report.csv import render_csv
from hwprof.report.files.folder import made, removed
from hwprof.report.html import render_html
from hwprof.report.png import render_memory, render_roofline, render_step
from hwprof.report.run.in_chinese import view_in_chinese
from hwprof.report.run.sheets import build_sheets
from hwprof.report.run.view import View, build_view
from hwprof.specs.files import write_atomically
from hwprof.specs.reading import json_of
from hwprof.specs.record.run import SCHEMA_VERSION, RunRecord

RECORD_FILE = "run.json"


class ReportError(WorkError):
    """Some files of a report could not be made; the others, and the record, are complete.

    Attributes:
        written: the files that are complete.
        failed: file name -> what went wrong.
    """

    def __init__(self, directory: Path, written: list[Path], failed: dict[str, Exception]) -> None:
        self.written = written
        self.failed = failed
        files: dict[str, list[str]] = {}
        for name, error in failed.items():
            files.setdefault(_reason(error), []).append(name)
        super().__init__(
            "could not make " + "; ".join(f"{', '.join(names)}: {reason}" for reason, names in files.items()),
            expectation=f"the other {len(written)} files in {directory} are complete",
            remedy=f"solve that, then render again with: hwprof view {directory}",
        )


def _reason(error: Exception) -> str:
    """What the operating system says of a disk; of anything else, which is our mistake, also its sort."""
    cause = error.__cause__
    if isinstance(error, WorkError) and isinstance(cause, OSError):
        return cause.strerror or str(cause)
    return f"{type(error).__name__}: {error}"


def write_run(record: RunRecord, directory: Path) -> list[Path]:
    """Write ``run.json`` and every report of ``record`` into ``directory``, which is made if need be.

    Returns:
        The files, ``run.json`` first.

    Raises:
        WorkError: ``run.json`` itself could not be written.
        ReportError: a report could not be made; everything else was written all the same.
    """
    return [write_record(record, directory), *write_reports(record, directory)]


def write_record(record: RunRecord, directory: Path) -> Path:
    """Write ``run.json`` alone into ``directory``, which is made if need be; for a run that is still under way.

    Raises:
        WorkError: it could not be written.
    """
    path = made(directory) / RECORD_FILE
    write_atomically(path, record_text(record))
    return path


_PICTURES, _TABLES = ("roofline", "step", "memory"), ("phases", "ops", "memory", "plan", "ranks", "collectives")
_LEFT = (
    *(f"{name}.png" for name in _PICTURES),
    *(f"{name}.csv" for name in _TABLES),
    "report.html",
    "trace.json.gz",
    "trace-rank*.json.gz",
)


def cleared(directory: Path, *, ranks: int | None = None) -> None:
    """Remove what an earlier run left in a directory; what else is there stays.

    Args:
        directory: the run's; of a loop of several ranks, each but rank 0 has a folder of its own below it.
        ranks: folders of so many ranks stay, those of further ranks are cleared, too.

    Raises:
        WorkError: something can't be removed.
    """
    for path in directory.glob("rank-*") if ranks is not None else ():
        if path.name[5:].isdigit() and int(path.name[5:]) >= (ranks or 0):
            cleared(path)
    removed(directory, (*(_LEFT if (directory / RECORD_FILE).is_file() else ()), RECORD_FILE))


def record_text(record: RunRecord) -> str:
    """What stands in ``run.json``."""
    return record.model_dump_json(indent=1) + "\n"


def write_reports(record: RunRecord, directory: Path, language: Language = "en") -> list[Path]:
    """Write the reports alone, beside a ``run.json`` that is there already.

    Raises:
        ReportError: a report could not be made; the others were written all the same.
    """
    written: list[Path] = []
    failed: dict[str, Exception] = {}
    for name, render in _renderers(record, language).items():
        try:
            write_atomically(directory / name, render())
        except Exception as error:  # noqa: BLE001 (one report must not cost the others; raised together below)
            failed[name] = error
        else:
            written.append(directory / name)
    if failed:
        raise ReportError(directory, written, failed) from ExceptionGroup("reports", list(failed.values()))
    return written


def _renderers(record: RunRecord, language: Language = "en") -> dict[str, Callable[[], str | bytes]]:
    """File name -> what makes its content."""

    @cache
    def view() -> View:
        return build_view(record)

    @cache
    def sheets() -> dict[str, Table]:
        return {sheet.name: sheet for sheet in build_sheets(record)}

    def csv(name: str) -> str:
        return render_csv(sheets()[name])

    return {
        "report.html": lambda: render_html(view_in_chinese(view()) if language == "zh" else view(), language),
        "roofline.png": lambda: render_roofline(view()),
        "step.png": lambda: render_step(view()),
        "memory.png": lambda: render_memory(view()),
        **{f"{name}.csv": partial(csv, name) for name in ("phases", "ops", "memory", "plan")},
        **({f"{name}.csv": partial(csv, name) for name in ("ranks", "collectives")} if record.ranks else {}),
    }


def read_run(directory: Path) -> RunRecord:
    """The record of a run directory, or of a ``run.json`` itself.

    Raises:
        InputError: there is none, it is no JSON, or its schema is not one that this version reads.
    """
    path = directory / RECORD_FILE if directory.is_dir() else directory
    if not path.exists():
        raise _no_run(directory)
    content = json_of(path, remedy="run hwprof run again, or give another directory")
    _check_schema_version(path, content)
    try:
        return RunRecord.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path} is not a run record: {place}: {first['msg']}",
            expectation=f"expected schema version {SCHEMA_VERSION}, as hwprof run writes it",
        ) from error


def _no_run(directory: Path) -> InputError:
    if directory.is_dir():
        return InputError(f"{directory} has no {RECORD_FILE}", remedy="give a directory that hwprof run wrote")
    return InputError(f"{directory} does not exist", remedy="give a directory that hwprof run wrote")


def _check_schema_version(path: Path, content: object) -> None:
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise InputError(f"{path} is not a run record", expectation="expected an object with schema_version")
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema version {version}",
            expectation=f"this hwprof reads up to version {SCHEMA_VERSION}",
            remedy="update hwprof",
        )
