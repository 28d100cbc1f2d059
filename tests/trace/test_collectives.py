"""Which collectives did a device take part in? A real program on 8 GPUs, and calls by hand."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kineto
import pytest

from hwprof.spans.collectives import operation_named
from hwprof.spans.intervals import union
from hwprof.specs.catalogue.lookup import load_device
from hwprof.specs.record.collective import CollectiveCurve, CollectivePoint, collective_factor
from hwprof.specs.record.trace_rows import TraceCollective
from hwprof.trace.analysis import Analysis, Asked, analyse
from hwprof.trace.collectives import Called, collective_table

DLRM = sorted((Path(__file__).parent / "real" / "dlrm_8_ranks").glob("*.json.gz"))
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def dlrm() -> Analysis:
    return analyse(DLRM, Asked(hardware=load_device("v100-sxm2-32gb")))


def _collective_times_us() -> dict[int, list[float]]:
    """Time of each NCCL kernel of each rank, in order, from the files themselves."""
    found = {}
    for path in DLRM:
        with gzip.open(path) as file:
            content = json.load(file)
        kernels = [
            event for event in content["traceEvents"] if event["name"].startswith("nccl") and event["cat"] == "kernel"
        ]
        kernels.sort(key=lambda event: event["ts"])
        found[content["distributedInfo"]["rank"]] = [event["dur"] for event in kernels]
    return found


def test_an_all_to_all_of_grouped_sends_is_one_collective(dlrm: Analysis):
    """Five all-to-alls and three all-reduces; the kernels of the first are called SendRecv."""
    for device in dlrm.devices:
        counts: dict[str, int] = defaultdict(int)
        for row in device.collectives:
            counts[row.op] += row.count
        assert dict(counts) == {"all_to_all": 5, "all_reduce": 3}
        assert {row.ranks for row in device.collectives} == {8}


def test_rank_7_makes_the_others_wait(dlrm: Analysis):
    """35.5 ms of all others together, last five times of eight."""
    waits = dlrm.stragglers
    assert waits is not None
    assert (waits.collectives, waits.unmatched) == (8, 0)
    worst = max(waits.ranks, key=lambda rank: rank.caused_s)
    assert (worst.rank, worst.last, worst.cause) == (7, 5, "host")
    assert worst.caused_s == pytest.approx(0.035543)
    times = _collective_times_us()
    caused: dict[int, float] = defaultdict(float)
    for each in zip(*(times[rank] for rank in range(8)), strict=True):
        late = min(range(8), key=lambda rank: each[rank])
        caused[late] += sum(each) - 8 * each[late]
    assert {rank.rank: rank.caused_s for rank in waits.ranks} == pytest.approx(
        {rank: caused[rank] * 1e-6 for rank in range(8)}
    )


def test_sizes_and_rates_are_those_of_nccl_tests(dlrm: Analysis):
    """The gradient on rank 7: 394,241 floats in 86 µs; 2 · 7/8 of that on the bus; 150 GB/s of NVLink 2."""
    (row,) = (row for row in dlrm.devices[7].collectives if row.bytes == 394241 * 4)
    assert (row.op, row.count, row.dtype) == ("all_reduce", 1, "float")
    assert row.duration_s == pytest.approx(86e-6)
    assert row.algbw_byte_per_s == pytest.approx(18.3368e9, rel=1e-5)
    assert row.busbw_byte_per_s == pytest.approx(32.0894e9, rel=1e-5)
    assert row.link_fraction == pytest.approx(32.0894 / 150, rel=1e-5)


def test_exposed_and_hidden_time_is_all_of_it(dlrm: Analysis):
    for device in dlrm.devices:
        for row in device.collectives:
            assert row.exposed_s + row.hidden_s == pytest.approx(row.duration_s)
            assert row.exposed_s >= 0


class Hand(kineto.KinetoFile):
    """Kernels at times in microseconds, each with the call that launched it."""

    def kernel(self, name: str, start: int, end: int, *, called: int, stream: int = 7, **said: Any) -> None:
        ident = len(self.events) + 1
        self.complete("cuda_runtime", "cudaLaunchKernel", 1, 1, called * 1000, 1000, correlation=ident)
        span = (start * 1000, (end - start) * 1000)
        self.complete("kernel", name, 0, stream, *span, stream=stream, device=0, correlation=ident, **said)

    def host(self, cat: str, name: str, start: int, end: int, **args: Any) -> None:
        self.complete(cat, name, 1, 1, start * 1000, (end - start) * 1000, **args)


def _rows(path: Path) -> tuple[TraceCollective, ...]:
    return analyse([path]).devices[0].collectives


def test_kernels_of_one_call_are_one_collective(written: Write):
    """An all-to-all as three kernels 10-30, computed beside from 20 on: 20 µs, half of it hidden."""
    hand = Hand(world_size=4)
    hand.host("user_annotation", "nccl:all_to_all", 0, 9, Input__Dims=[[1000]], Input__type=["float"])
    for number in range(3):
        hand.kernel("ncclDevKernel_SendRecv", 10 + 5 * number, 20 + 5 * number, called=2 + 2 * number, stream=20)
    hand.kernel("gemm", 20, 40, called=12)
    (row,) = _rows(written(hand))
    assert (row.op, row.count, row.ranks, row.bytes) == ("all_to_all", 1, 4, 4000)
    assert (row.duration_s, row.hidden_s) == (pytest.approx(20e-6), pytest.approx(10e-6))
    assert row.algbw_byte_per_s == pytest.approx(4000 / 20e-6)
    assert row.busbw_byte_per_s == pytest.approx(4000 / 20e-6 * 3 / 4)


def test_a_gathering_counts_what_comes_out(written: Write):
    """Its kernel says both sizes; another's annotation says its input alone, of one of 4 ranks."""
    said = {"Collective name": "_allgather_base", "dtype": "BFloat16", "In msg nelems": 100, "Out msg nelems": 400}
    group = {"Process Group Name": "3", "Process Group Description": "fsdp", "Group size": 4}
    hand = Hand(world_size=8)
    hand.kernel("ncclDevKernel_AllGather_RING_LL", 10, 20, called=1, **said, **group)
    (row,) = _rows(written(hand))
    assert (row.op, row.group, row.ranks, row.bytes) == ("all_gather", "fsdp", 4, 800)
    hand = Hand(world_size=4)
    hand.host("user_annotation", "nccl:_all_gather_base", 0, 9, Input__Dims=[[100]], Input__type=["float"])
    hand.kernel("ncclDevKernel_AllGather_RING_LL", 10, 20, called=1)
    (row,) = _rows(written(hand))
    assert (row.op, row.ranks, row.bytes) == ("all_gather", 4, 1600)


def test_messages_are_counted_among_the_others(tmp_path: Path):
    """Each rank has an all-reduce and a message; nobody waits at the message but its two ranks."""
    files = []
    for rank in range(2):
        hand = Hand(rank=rank, world_size=2)
        hand.kernel("ncclDevKernel_SendRecv", 10, 30 - 10 * rank, called=1)
        hand.kernel("ncclDevKernel_AllReduce_Sum_f32", 40 + 5 * rank, 60, called=35)
        files.append(hand.write(tmp_path / f"rank{rank}.json"))
    waits = analyse(files).stragglers
    assert waits is not None
    assert (waits.collectives, waits.unmatched) == (1, 2)
    assert waits.ranks[1].caused_s == pytest.approx(5e-6)
    assert "2 messages" in waits.note


def test_groups_of_some_ranks_meet_among_themselves(tmp_path: Path):
    """Ranks 0 and 1, and 2 and 3, in groups of the same name: the one that stands out comes with its cause."""
    groups = [
        [{"pg_name": "1", "pg_desc": "mesh_tp", "ranks": [0, 1]}],
        [{"pg_name": "1", "pg_desc": "mesh_tp", "ranks": [2, 3]}],
    ]
    files = []
    for rank in range(4):
        hand = Hand(rank=rank, world_size=4)
        said = {"Collective name": "allreduce", "Process Group Name": "1", "Group size": 2}
        late = {1: 2, 2: 8}.get(rank, 0)
        hand.kernel("ncclDevKernel_AllReduce", 0, 10, called=-5, **said)
        hand.kernel("gemm", 10, 20 + late, called=-4)
        hand.kernel("ncclDevKernel_AllReduce", 20 + late, 40, called=-3, **said)
        text = hand.text().replace('"pg_count": 1', f'"pg_config": {json.dumps(groups[rank // 2])}')
        files.append(tmp_path / f"rank{rank}.json")
        files[-1].write_text(text)
    waits = analyse(files).stragglers
    assert waits is not None
    assert (waits.collectives, waits.unmatched) == (4, 0)
    caused = {rank.rank: (round(rank.caused_s * 1e6), rank.cause) for rank in waits.ranks if rank.caused_s}
    assert caused == {1: (2, ""), 2: (8, "compute")}


@pytest.mark.parametrize(
    ("text", "operation"),
    [
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(args)", "all_reduce"),
        ("_allgather_base", "all_gather"),
        ("nccl:_reduce_scatter_base", "reduce_scatter"),
        ("c10d::alltoall_base_", "all_to_all"),
        ("all_to_allv", "all_to_all"),
        ("nccl:send 0->1", "send"),
        ("recv", "recv"),
        ("ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t", "send_recv"),
        ("nccl:barrier", "barrier"),
        ("nccl:reduce", "reduce"),
        ("ncclDevKernel_Generic_4", ""),
        ("reduce_kernel", "reduce"),
    ],
)
def test_names_of_operations(text: str, operation: str):
    assert operation_named(text) == operation


def test_factors_of_operations_between_ranks():
    """nccl-tests: 2 (n - 1)/n, (n - 1)/n, 1."""
    assert collective_factor("all_reduce", 8) == pytest.approx(1.75)
    assert collective_factor("all_to_all", 8) == pytest.approx(0.875)
    assert (collective_factor("send", 8), collective_factor("barrier", 8)) == (1.0, None)


def test_a_collective_is_held_to_a_probe_of_the_same_between_as_many_ranks():
    """16 MB all-reduced by 8 ranks: the probe took 1 ms, so 28 GB/s on the bus; the quickest call took 1.4 ms."""
    curve = CollectiveCurve(
        collective="all_reduce", scope="node", backend="nccl", ranks=8, nodes=1, fit=None, stable=True,
        points=(
            CollectivePoint(
                size_bytes=16_000_000, samples_s=(1e-3,), time_s=1e-3, algorithm_byte_per_s=1.6e10,
                bus_byte_per_s=2.8e10, spread=0.0,
            ),
        ),
    )  # fmt: skip
    calls = [
        Called(
            op="all_reduce", group="world", members=(), ranks=8, size_bytes=16_000_000.0, dtype="float", asked_ns=start,
            start_ns=start, end_ns=start + time,
        )
        for start, time in ((0, 2_000_000), (5_000_000, 1_400_000))
    ]  # fmt: skip
    nothing = union([], [])
    (row,) = collective_table(calls, nothing, probed=(curve,))
    assert row.probe_busbw_byte_per_s == pytest.approx(2.8e10)
    assert row.probe_fraction == pytest.approx(1 / 1.4)
    (row,) = collective_table(calls, nothing, probed=(curve.changed(ranks=4),))
    assert row.probe_fraction is None
