"""Which tables does a record have as data frames? Its rows as they are, units in the column names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from hwprof.errors import InputError
from hwprof.specs.frozen import Record
from hwprof.specs.record.run import RunRecord

if TYPE_CHECKING:
    import pandas as pd

Rows = list[dict[str, Any]]


def _plain(records: Iterable[Record], *without: str) -> Rows:
    return [record.model_dump(exclude=set(without)) for record in records]


def _phases(record: RunRecord) -> Rows:
    bounds = ({"interval_lo_s": phase.interval_s[0], "interval_hi_s": phase.interval_s[1]} for phase in record.phases)
    rows = _plain(record.phases, "samples_s", "interval_s", "predicted_s")
    return [row | bound for row, bound in zip(rows, bounds, strict=True)]


def _steps(record: RunRecord) -> Rows:
    samples_s = record.step.samples_s if record.step else ()
    return [{"sample": number, "step_s": step_s} for number, step_s in enumerate(samples_s, start=1)]


TABLES: dict[str, Callable[[RunRecord], Rows]] = {
    "ops": lambda record: _plain(record.ops),
    "phases": _phases,
    "kernels": lambda record: _plain(record.kernels),
    "layer_kinds": lambda record: _plain(record.layer_kinds),
    "ceilings": lambda record: _plain(record.ceilings, "samples", "conditions"),
    "steps": _steps,
}


def frame_of(record: RunRecord, table: str) -> pd.DataFrame:
    """One table as a data frame.

    Raises:
        InputError: there is no such table.
    """
    if table not in TABLES:
        raise InputError(f"there is no table {table!r}", expectation=f"expected one of {', '.join(TABLES)}")
    import pandas as pd

    return pd.DataFrame(TABLES[table](record))
