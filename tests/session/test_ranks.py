"""Claims about `hwprof.run_ranks` and `hwprof.probe_ranks`: rank 0 has the result, the others are told as much."""

import pytest
from rank_pool import RankPool

import hwprof
from hwprof.errors import InputError
from hwprof.report.files.run import read_run
from hwprof.specs.record.calibration import read_calibration


def run(_world, folder, parallel):
    """A short run with stand-ins for the probes of the device."""
    from hwprof.measure.links import layout_links
    from hwprof.session import ceilings
    from hwprof.session import ranks as rank_session

    ceilings.probe_device = lambda *_args, **_options: None
    rank_session.probe_meetings = lambda *_args: ()
    layout_links.sizes_for = lambda *_args, **_options: (1024, 65536)
    small = {"micro_batch": 2, "seq_len": 32, "steps": 2, "warmup_steps": 1, "profiled_steps": 1, "workers": 0}
    try:
        record = hwprof.run_ranks(device="cpu", parallel=parallel, output=folder, **small)
    except InputError as error:
        return str(error)
    return record and (record.world_size, record.command)


def probe(_world, path):
    from hwprof.measure.links import link_probe

    link_probe.sizes_for = lambda *_args, **_options: (1024, 65536)
    found = hwprof.probe_ranks(device="cpu", quick=True, output=path)
    return found and found.to_json()


def _answers(function, *arguments):
    pool = RankPool(2, joined=False)
    try:
        return pool.run(function, *arguments)
    finally:
        pool.close()


def test_rank_0_has_the_record_of_all(tmp_path):
    first, second = _answers(run, str(tmp_path), "ddp")
    assert second is None
    assert first[0] == 2
    assert first[1].startswith("hwprof.run_ranks(device='cpu', micro_batch=2, ")
    assert [rank.place.rank for rank in read_run(tmp_path).ranks.ranks] == [0, 1]


def test_what_can_not_be_is_refused_on_all_ranks_alike(tmp_path):
    first, second = _answers(run, str(tmp_path / "none"), "tp3")
    assert first == second
    assert "divides the model over 3 ranks, and there are 2" in first
    assert not (tmp_path / "none").exists()


def test_rank_0_has_the_links(tmp_path):
    path = tmp_path / "links.json"
    first, second = _answers(probe, str(path))
    assert second is None
    assert first == path.read_text()
    assert read_calibration(path).world_size == 2


def test_a_run_on_ranks_needs_a_launcher():
    with pytest.raises(InputError, match="run torchrun"):
        hwprof.run_ranks(device="cpu", parallel="ddp")
