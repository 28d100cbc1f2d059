"""The runs that reports are made of in these tests."""

from __future__ import annotations

import pytest
from records import make_bare, make_hostile, make_record

from hwprof.specs.record.run import RunRecord


@pytest.fixture(scope="session")
def record() -> RunRecord:
    return make_record()


@pytest.fixture(scope="session")
def bare_record(record: RunRecord) -> RunRecord:
    return make_bare(record)


@pytest.fixture(scope="session")
def hostile_record(record: RunRecord) -> RunRecord:
    return make_hostile(record)
