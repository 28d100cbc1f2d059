"""What does a run leave? A directory with its record and reports, and a line where that could not be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hwprof.errors import WorkError
from hwprof.measure.host.environment import environment
from hwprof.report.files import folder
from hwprof.report.files.run import cleared, write_run
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


@contextmanager
def claimed(directory: Path) -> Iterator[Path]:
    """A run directory that is this run's alone meanwhile; what an earlier run left there is gone.

    Raises:
        WorkError: it can't be made or written, or another run is under way in it.
    """
    with folder.claimed(directory):
        cleared(directory)
        yield directory


def report_error(action: Callable[[], object]) -> WorkError | None:
    """Do it; why it could not be done."""
    try:
        action()
    except WorkError as error:
        return error
    return None


def written(record: RunRecord, directory: Path) -> Ran:
    """A run with its files, as far as they could be written."""
    failed = report_error(lambda: write_run(record, directory))
    return Ran(record=record, directory=directory, report_error=failed)


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
