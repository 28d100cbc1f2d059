"""What does a run leave? A directory with its record and reports, and a line where that could not be written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hwprof.errors import WorkError
from hwprof.measure.host.environment import environment
from hwprof.report.files.run import write_run
from hwprof.session.settle import SettledRun
from hwprof.specs.record.run import RunRecord
from hwprof.version import __version__


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run that came to its end.

    Attributes:
        record: what was measured and concluded.
        directory: where it is.
        report_error: why the record or a report is not there; None = the directory is complete.
    """

    record: RunRecord
    directory: Path
    report_error: WorkError | None


def made(directory: Path) -> Path:
    """A run directory, made if it is not there.

    Raises:
        WorkError: it can't be.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkError(
            f"the run directory {directory} can't be made ({error.strerror})", remedy="give another with --output"
        ) from error
    return directory


def written(record: RunRecord, directory: Path) -> Ran:
    """A run with its files, as far as they could be written."""
    report_error: WorkError | None = None
    try:
        write_run(record, directory)
    except WorkError as error:
        report_error = error
    return Ran(record=record, directory=directory, report_error=report_error)


def fixed_fields(run: SettledRun, command: str) -> dict[str, Any]:
    """What of a run's record is known before anything is measured."""
    return {
        "hwprof_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "settings": run.settings,
        "model": run.model,
        "environment": environment(run.device),
        "device": run.identity,
    }
