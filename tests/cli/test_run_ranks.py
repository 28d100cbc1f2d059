"""Claims about `hwprof run` on several ranks: one report of all, one voice, and a rank that dies is named."""

import json
import os
import signal

import pandas as pd
import pytest
from click.testing import CliRunner
from rank_pool import RankPool

from hwprof.cli import cli

QUICK = (
    "--device cpu --steps 6 --warmup-steps 1 --profiled-steps 1 --micro-batch 2 --seq-len 32 --workers 0 "
    "--eval-batches 1"
)


def run(_world, folder, words, killed_at=None):
    """The command with stand-ins for the probes of the device; rank 1 may be killed in a step."""
    from hwprof.measure.links import layout_links
    from hwprof.measure.probes.device import ProbeResult
    from hwprof.session import ceilings
    from hwprof.session import ranks as rank_session
    from hwprof.specs.measurement import Ceiling, Skipped
    from hwprof.train.parallel.loop import ParallelTrainer

    def ceiling(name, kind, value, unit):
        return Ceiling(name=name, kind=kind, value=value, unit=unit, origin="measured", source="stand-in", stable=True)

    def probe_device(*_args, report, on_result, **_options):
        report("probing")
        found = (
            ceiling("matmul.fp32", "compute", 1e11, "flop_per_s"),
            ceiling("memory.dram", "memory", 2e10, "byte_per_s"),
            ceiling("latency.dispatch", "latency", 1e-6, "s"),
        )
        on_result(ProbeResult(ceilings=found, skipped=(Skipped(name="transfer", reason="no accelerator"),)))

    ceilings.probe_device = probe_device
    rank_session.SNAPSHOT_EVERY_S = 0.0
    layout_links.sizes_for = lambda *_args, **_options: (1024, 16 * 2**20)
    rank = int(os.environ["RANK"])
    step, count = ParallelTrainer.step, [0]

    def counted(self, *args):
        count[0] += 1
        if rank == 1 and count[0] == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *args)

    if killed_at:
        ParallelTrainer.step = counted
        rank_session.probe_meetings = lambda *_args: ()  # the run that nobody kills has them
    result = CliRunner().invoke(cli, ["run", "--model", "tiny", *QUICK.split(), *words.split(), "--output", folder])
    return result.exit_code, result.stdout, result.stderr, repr(result.exception)


def _ran(ranks, folder, words):
    pool = RankPool(ranks, joined=False)
    try:
        return pool.run(run, str(folder), words)
    finally:
        pool.close()


@pytest.fixture(scope="module")
def fsdp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fsdp")
    answers = _ran(2, folder, "--parallel fsdp --format json")
    assert [answer[0] for answer in answers] == [0, 0], answers
    return json.loads(answers[0][1]), answers, folder


def test_rank_0_alone_speaks(fsdp):
    record, answers, folder = fsdp
    assert answers[1][1] == ""
    assert record == json.loads((folder / "run.json").read_text())


def test_run_directory_has_the_reports_of_all_ranks(fsdp):
    names = {path.name for path in fsdp[2].iterdir()}
    assert {"run.json", "report.html", "ranks.csv", "collectives.csv", "trace.json.gz", "trace-rank1.json.gz"} <= names
    assert list(pd.read_csv(fsdp[2] / "ranks.csv")["rank"]) == [0, 1]
    assert 'id="ranks"' in (fsdp[2] / "report.html").read_text()


def test_record_says_layout_ranks_and_what_the_simulator_needs(fsdp):
    record = fsdp[0]
    assert record["world_size"] == 2
    layout = record["settings"]["layout"]
    assert (layout["data_parallel"], layout["zero_stage"]) == (2, 3)
    links = {(link["collective"], link["conditions"]["axis"]): link["fit"] for link in record["ranks"]["links"]}
    assert set(links) == {("all_gather", "data"), ("reduce_scatter", "data")}
    assert all(fit is None or fit["byte_per_s"] > 0 for fit in links.values())  # none on a disturbed machine
    assert record["ranks"]["slowdowns"]
    met = record["ranks"]["meetings"]
    assert [each["pieces"] for each in met] == [200, 100, 10]
    assert all(each["piece_s"] > 0 and each["met_s"] > 0 for each in met)
    probed_by = {ceiling["conditions"]["ranks"] for ceiling in record["ceilings"]}
    assert {2} <= probed_by <= {1, 2}  # a rank that is disturbed may have to leave a probe out


def test_every_rank_has_phases_and_exposed_and_hidden_communication(fsdp):
    for rank in fsdp[0]["ranks"]["ranks"]:
        assert {"data", "forward", "backward", "optimizer", "evaluation", "checkpoint"} <= set(rank["phases_s"])
        assert rank["communication_s"] == pytest.approx(rank["exposed_s"] + rank["hidden_s"])
        assert rank["exposed_s"] > 0
        assert rank["memory_peak_bytes"] > 3_279_104 * 4  # half of weights and of two moments, and gradients


def test_collectives_of_fsdp_are_gathers_and_scatters_of_each_layer_against_the_probe(fsdp):
    rows = {row["collective"]: row for row in fsdp[0]["ranks"]["collectives"] if row["axis"] == "data"}
    # forward gathers the root and 4 layers; backward gathers 4 layers again; it scatters 4 layers and the root
    assert (rows["all_gather"]["calls"], rows["reduce_scatter"]["calls"]) == (9, 5)
    assert rows["all_gather"]["probe_fraction"] > 0
    # a layer's 786 944 weights: attention 2 x 256 x 256 + 2 x 256 x 128, ffn 3 x 256 x 768, norms 2 x 256
    assert rows["reduce_scatter"]["size_bytes"] == pytest.approx(4 * 786_944, rel=0.01)


def test_merged_step_is_wholly_accounted_for_and_losses_are_numbers(fsdp):
    record = fsdp[0]
    parts = record["attribution"]
    names = ["compute_s", "exposed_communication_s", "exposed_copy_s", "idle_host_s", "idle_input_s", "residue_s"]
    assert sum(parts[name] for name in names) == pytest.approx(parts["step_s"], rel=1e-6)
    assert all(isinstance(loss, float) for loss in record["losses"])
    assert record["bound"]


def test_killed_rank_is_named_with_what_the_others_had_measured(tmp_path):
    pool = RankPool(2, joined=False)
    try:
        pool.start(run, str(tmp_path), "--parallel ddp", 6)
        assert pool.exit_codes() == [1, -signal.SIGKILL]
    finally:
        pool.close()
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "failed"
    assert "rank 1 died or was stopped" in record["status_note"]
    assert record["ranks"]["missing"] == [1]
    assert record["step"]["samples_s"]
    assert (tmp_path / "report.html").stat().st_size > 0


def test_what_can_not_be_is_refused_once(tmp_path):
    first, second = _ran(2, tmp_path / "none", "--parallel tp2 --model gpt2")
    assert "vocab_size = 50257" in first[3]
    assert (second[0], second[2]) == (2, "")
    assert not (tmp_path / "none").exists()


def test_layout_for_one_process_is_refused():
    result = CliRunner().invoke(cli, ["run", "--parallel", "fsdp"])
    assert "torchrun --nproc-per-node 2" in str(result.exception)
