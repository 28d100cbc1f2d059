"""Claims about `hwprof probe` as several ranks: one file, one voice, and bad input."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rank_pool import RankPool

from hwprof.cli import cli
from hwprof.specs.record.calibration import read_calibration


def probe(_world, *words):
    from hwprof.measure.links import link_probe

    link_probe.sizes_for = lambda *_args, **_options: (1024, 65536)
    result = CliRunner().invoke(cli, ["probe", "--device", "cpu", "--quick", *words])
    return result.exit_code, result.stdout, result.stderr, repr(result.exception)


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    path = tmp_path_factory.mktemp("links") / "links.json"
    pool = RankPool(2, joined=False)
    try:
        return pool.run(probe, "--output", str(path)), path
    finally:
        pool.close()


def test_rank_0_alone_speaks_and_saves(probed):
    (first, second), path = probed
    assert first[0] == second[0] == 0, first[3] + second[3]
    assert second[1] == ""
    assert f"Saved in {path}" in first[1]
    assert [found.name for found in path.parent.iterdir()] == ["links.json"]


def test_calibration_of_links_names_backend_ranks_and_what_could_not_be_measured(probed):
    found = read_calibration(probed[1])
    assert (found.status, found.world_size, found.backend) == ("complete", 2, "gloo")
    assert {curve.collective for curve in found.collectives} >= {"all_reduce", "all_gather", "reduce_scatter"}
    assert [skip.name for skip in found.skipped] == ["topology"]
    curves = json.loads(Path(probed[1]).read_text())["collectives"]
    fits = [curve["fit"] for curve in curves if curve["fit"] is not None]  # none where larger vectors took no longer
    assert fits
    assert all(fit["typical_error"] >= 0 for fit in fits)


def test_people_see_bandwidths_fit_pairs_and_slowdown(probed):
    text = probed[0][0][1]
    assert "Links between 2 ranks on" in text
    for words in ("all_reduce, 2 ranks, node", "algbw", "busbw", "fit:", "0 to 1", "as long beside"):
        assert words in text


def test_device_number_is_refused_once():
    pool = RankPool(2, joined=False)
    try:
        first, second = pool.run(probe, "--device", "cuda:1")
    finally:
        pool.close()
    assert "names one device for all ranks" in first[3]
    assert second[0] == 2
    assert second[2] == ""
