"""Do two ranks with a played GPU each come to one report, however they share the work?"""

import pytest
import torch
from played.device import Gpus
from played.nvml import played_nvml
from played.profile import played_profile
from played.sizes import SIZES
from played.tensors import tensors_on_cpu
from rank_pool import RankPool, free_port

import hwprof
from hwprof.errors import InputError
from hwprof.report.files.run import read_run

NAMES = {"nccl": "NVIDIA H200", "rccl": "AMD Instinct MI300X", "xccl": "Intel(R) Data Center GPU Max 1550"}
"""Library that ranks talk through -> the device that each has."""


@pytest.fixture(scope="module")
def pool():
    pool = RankPool(2, joined=False)
    yield pool
    pool.close()


def run_rank(_world, folder, kind, parallel, port):
    """One rank's run; the device that it took, and whether its probes were to copy between its device and others."""
    from played.ranks import gloo_for_nccl

    from hwprof.measure.links import layout_links, slowdown
    from hwprof.session import ceilings

    peers, device, name = [], "xpu" if kind == "xccl" else "cuda", NAMES[kind]
    gpus = Gpus(2, kind=device, name=name, gcnArchName="gfx942:sramecc+:xnack-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.version, "hip", "6.4.1" if kind == "rccl" else None)
        patch.setenv("MASTER_PORT", port)
        played_profile(patch)
        played_nvml(patch, count=2)
        gloo_for_nccl(patch)
        # probes are walked on one device, in test_walk
        patch.setattr(ceilings, "probe_device", lambda *_args, **options: peers.append(options["peers"]))
        patch.setattr(layout_links, "sizes_for", lambda *_args, **_options: (1024, 65536))
        patch.setattr(slowdown, "_SIDE", {"nccl": 64})
        patch.setattr(slowdown, "_MESSAGE_BYTES", {"nccl": 4096})
        with gpus.installed(patch), tensors_on_cpu(gpus, patch):
            hwprof.run_ranks(device=device, parallel=parallel, output=folder, **SIZES)
    return gpus.current, peers


@pytest.mark.parametrize(
    ("kind", "parallel", "collectives"),
    [
        ("nccl", "fsdp", {("all_gather", "data"), ("reduce_scatter", "data"), ("all_reduce", "all")}),
        ("nccl", "ddp", {("all_reduce", "data")}),
        ("nccl", "tp2", {("all_reduce", "tensor"), ("all_reduce", "all")}),
        ("nccl", "pp2", {("send_recv", "pipeline"), ("all_reduce", "pipeline"), ("all_reduce", "all")}),
        ("rccl", "ddp", {("all_reduce", "data")}),
        ("xccl", "ddp", {("all_reduce", "data")}),
    ],
)
def test_two_ranks_merge_into_one_report_with_their_collectives(pool, tmp_path, kind, parallel, collectives):
    assert pool.run(run_rank, str(tmp_path), kind, parallel, str(free_port())) == [(0, [False]), (1, [False])]
    record = read_run(tmp_path)
    assert (record.status, record.world_size) == ("complete", 2)
    assert record.ranks.backend == kind
    assert {(one.collective, one.axis) for one in record.ranks.collectives} == collectives
    assert all(one.size_bytes > 0 for one in record.ranks.collectives)
    assert [rank.place.device for rank in record.ranks.ranks] == [NAMES[kind]] * 2
    assert not torch.cuda.is_available()


def run_refused(_world, folder, ports):
    """What each of two runs, one after the other, is refused with."""
    from played.ranks import gloo_for_nccl

    gpus, said = Gpus(2), []
    for port in ports:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MASTER_PORT", port)
            gloo_for_nccl(patch)
            with gpus.installed(patch), tensors_on_cpu(gpus, patch), pytest.raises(InputError) as refused:
                hwprof.run_ranks(device="cuda", parallel="tp3", output=folder, **SIZES)
            said.append(str(refused.value))
    return said


def test_ranks_leave_each_other_when_they_are_refused_and_may_ask_again(pool, tmp_path):
    for said in pool.run(run_refused, str(tmp_path), [str(free_port()), str(free_port())]):
        assert len(said) == 2
        assert len(set(said)) == 1
