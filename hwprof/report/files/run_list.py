"""Which runs lie under a folder, and what does a page say of all of them, or of two side by side?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hwprof.compare.diff import compare
from hwprof.compare.sides import Side, side_of_run
from hwprof.errors import InputError
from hwprof.report.cells import Field, Table, build_table
from hwprof.report.chinese import Language, chinese, picture_in_chinese, table_in_chinese
from hwprof.report.diff_figures import diff_pictures
from hwprof.report.diff_text import diff_section, section_in_chinese
from hwprof.report.files.run import RECORD_FILE, read_run
from hwprof.report.html import render_page
from hwprof.report.pictures import Picture
from hwprof.report.terminal import Section
from hwprof.specs.record.run import RunRecord
from hwprof.version import __version__

FILE_TYPES = {".json": "application/json", ".csv": "text/csv", ".png": "image/png", ".gz": "application/gzip"}
"""Files of a run directory that a page links to, by ending. Pages themselves are made from run.json, not read."""

COMPARED_ROWS = 50
"""Rows of a level on the page of two runs; `hwprof diff --top` shows more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun:
    """A run directory: its path below the folder, with / between names (``.`` is the folder itself), and its record."""

    key: str
    directory: Path
    record: RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRuns:
    """All runs of a folder by key, and what could not be read, with the reason."""

    runs: Mapping[str, ListedRun]
    unreadable: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class RunFolder:
    """The runs below a folder; a record is read again only when its file has changed. Nothing is ever written."""

    root: Path
    _read: dict[Path, tuple[tuple[int, int], RunRecord | str]] = field(default_factory=dict)

    def found(self) -> FoundRuns:
        """What is there now. Symbolic links to folders are not followed."""
        outcomes = {
            path.parent.relative_to(self.root).as_posix(): (path.parent, self._record(path))
            for path in _records(self.root)
        }
        runs = {
            key: ListedRun(key=key, directory=directory, record=record)
            for key, (directory, record) in outcomes.items()
            if isinstance(record, RunRecord)
        }
        unreadable = tuple((key, reason) for key, (_, reason) in outcomes.items() if isinstance(reason, str))
        return FoundRuns(runs=runs, unreadable=unreadable)

    def _record(self, path: Path) -> RunRecord | str:
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if path not in self._read or self._read[path][0] != stamp:
                self._read[path] = stamp, _record_or_reason(path)
            return self._read[path][1]
        except OSError as error:
            return str(error.strerror)


def _record_or_reason(path: Path) -> RunRecord | str:
    """A record that can be listed, or why not; one bad run must not cost the others."""
    try:
        record = read_run(path)
        build_table("runs", "Runs", _COLUMNS, [ListedRun(key="", directory=path.parent, record=record)])
    except (InputError, OSError) as error:
        return str(getattr(error, "strerror", None) or error)
    except Exception as error:  # noqa: BLE001 (it may be any file of this name)
        return f"{type(error).__name__}: {error}"
    return record


def _records(root: Path) -> Iterator[Path]:
    """Every run.json below, folders in the order of their names; hidden folders are passed over."""
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        path = Path(folder) / RECORD_FILE
        if RECORD_FILE in files and path.is_file() and not path.is_symlink():
            yield path


def files_of(run: ListedRun) -> dict[str, Path]:
    """The files of a run that may be looked at, by name; no symbolic links, nothing from folders below."""
    return {
        path.name: path
        for path in sorted(run.directory.iterdir())
        if path.suffix in FILE_TYPES and path.is_file() and not path.is_symlink()
    }


_COLUMNS: tuple[Field[ListedRun], ...] = (
    Field("model", "Model", lambda run: run.record.model.name),
    Field("step", "Step", lambda run: run.record.step.median_s if run.record.step else None, "s", meaning="median"),
    Field("tokens", "Tokens/s", lambda run: run.record.step.tokens_per_s if run.record.step else None, "count"),
    Field("mfu", "MFU", lambda run: run.record.step.mfu if run.record.step else None, "fraction"),
    Field("bound", "Bound", lambda run: run.record.bound, style="bound"),
    Field("device", "Device", lambda run: run.record.device.name),
    Field("created", "Made", lambda run: run.record.created[:19].replace("T", " "), meaning="time zone as in run.json"),
    Field("status", "Status", lambda run: run.record.status),
    Field("dtype", "Format", lambda run: str(run.record.settings.dtype)),
    Field("world", "Ranks", lambda run: run.record.world_size, "count"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """The page of all runs: a table, and for each of its rows the key and the files of the run."""

    title: str
    version: str
    table: Table
    keys: tuple[str, ...]
    files: tuple[tuple[str, ...], ...]
    unreadable: tuple[tuple[str, str], ...]
    chosen: tuple[str, str]


def list_page(folder: RunFolder, language: Language = "en") -> str:
    """All runs with links to their reports and files, and a form to compare two."""
    found = folder.found()
    runs = sorted(found.runs.values(), key=lambda run: run.record.created, reverse=True)
    empty = f"No {RECORD_FILE} lies below this folder. `hwprof run --output` writes one."
    table = build_table("runs", "Runs", _COLUMNS, runs, empty=empty)
    page = ListPage(
        title=f"{'Runs' if language == 'en' else chinese('Runs')}: {folder.root.name or folder.root}",
        version=__version__,
        table=table if language == "en" else table_in_chinese(table),
        keys=tuple(run.key for run in runs),
        files=tuple(tuple(files_of(run)) for run in runs),
        unreadable=found.unreadable,
        chosen=_chosen(runs),
    )
    return render_page("runs.html.j2", page=page, language=language)


def _chosen(runs: Sequence[ListedRun]) -> tuple[str, str]:
    """The two that the form proposes: the newest with a step time as B, the one before it as A."""
    timed = [run.key for run in runs if run.record.step is not None] or [run.key for run in runs] or [""]
    return timed[min(1, len(timed) - 1)], timed[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonPage:
    """The page of two runs: what ``hwprof diff`` says of them."""

    title: str
    version: str
    keys: tuple[str, str]
    section: Section
    pictures: tuple[Picture, ...]


def comparison_page(a: ListedRun, b: ListedRun, language: Language = "en") -> str:
    """What changed from ``a`` to ``b``.

    Raises:
        InputError: one of them has no step time.
    """
    report = compare(_side(a), _side(b))
    section, pictures = diff_section(report, COMPARED_ROWS), diff_pictures(report)
    if language == "zh":
        section = section_in_chinese(section)
        pictures = tuple(map(picture_in_chinese, pictures))
    page = ComparisonPage(
        title=section.title, version=__version__, keys=(a.key, b.key), section=section, pictures=pictures
    )
    return render_page("comparison.html.j2", page=page, pictures=pictures, language=language)


def _side(run: ListedRun) -> Side:
    side = side_of_run(run.key, run.record)
    if side is None:
        raise InputError(f"{run.key} has no step time: that run did not get so far", remedy="compare another run")
    return side
