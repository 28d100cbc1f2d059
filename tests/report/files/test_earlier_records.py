"""Do run.json files of earlier versions stay readable and comparable? Each was written by the code of its day."""

import gzip
from pathlib import Path

import pytest

from hwprof.compare.diff import compare
from hwprof.compare.sides import side_of_run
from hwprof.report.files.run import read_run, write_run

FILES = Path(__file__).parents[2] / "specs" / "record" / "earlier"
STEP_S = {
    "2026-11-24-first": 0.11172911200264934,
    "2026-11-25-counters": 1.9009560929989675,
    "2026-11-25-shares": 0.3971601120010746,
    "2026-11-30-alone": 0.06589548199917772,
    "2026-11-30-ranks": 1.6906248019986378,
}
RANKS = {"2026-11-30-ranks": 2}


@pytest.fixture(params=STEP_S)
def earlier(request, tmp_path):
    (tmp_path / "run.json").write_bytes(gzip.decompress((FILES / f"{request.param}.json.gz").read_bytes()))
    return request.param, read_run(tmp_path)


def test_record_of_earlier_code_reads_as_it_was(earlier):
    name, record = earlier
    assert record.status == "complete"
    assert record.step.median_s == STEP_S[name]
    assert record.world_size == RANKS.get(name, 1)
    assert len(record.ops) == 39
    assert record.ceilings


def test_record_of_earlier_code_renders_whole(earlier, tmp_path):
    name, record = earlier
    written = {path.name for path in write_run(record, tmp_path / "again")}
    of_ranks = {"ranks.csv", "collectives.csv"} if name in RANKS else set()
    assert written >= {"report.html", "ops.csv", "phases.csv", "plan.csv", "step.png"} | of_ranks


def test_record_of_earlier_code_is_compared_with_itself_and_nothing_changed(earlier):
    side = side_of_run("earlier", earlier[1])
    assert (compare(side, side).step.change_fraction, compare(side, side).step.verdict) == (0.0, "within noise")
