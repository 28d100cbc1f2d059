"""Why is a part of a report empty? A killed or failed run says so in place of the numbers that it did not reach."""

from __future__ import annotations

from hwprof.specs.record.run import RunRecord, RunSettings, Status

STATUS_WORDS: dict[Status, str] = {
    "complete": "complete",
    "partial": "partial: some of it could not be measured here",
    "interrupted": "interrupted: what was finished before is shown",
    "out_of_memory": "out of memory: what was measured before is shown",
    "failed": "failed: what was measured before is shown",
}
_STOPPED: dict[Status, str] = {
    "partial": "the run is partial",
    "interrupted": "the run was interrupted first",
    "out_of_memory": "the run ran out of memory first",
    "failed": "the run failed first",
}


def absence(record: RunRecord, what: str) -> str:
    """Why the report has no ``what``, in one sentence."""
    if record.status == "complete":
        return f"No {what}: this run recorded none."
    note = f" ({record.status_note.rstrip('.')})" if record.status_note else ""
    return f"No {what}: {_STOPPED[record.status]}{note}."


def missing_parts(record: RunRecord) -> tuple[str, ...]:
    """One sentence for each main part that the record does not have."""
    parts: tuple[tuple[str, object], ...] = (
        ("ceilings", record.ceilings),
        ("step time", record.step),
        ("phase times", record.phases),
        ("operation times", record.ops),
        ("attribution of the step", record.attribution),
        ("memory result", record.memory),
        *((("prediction", record.prediction),) if isinstance(record.settings, RunSettings) else ()),
        ("verdict", record.verdict),
    )
    return tuple(absence(record, name) for name, part in parts if not part)
