"""Claims about probes of CPUs: the instructions of 16-bit products, threads, NUMA nodes."""

import os
import subprocess
import sys

import pytest
import torch
from made_up_record import made_up_ceiling
from scripted_timer import ScriptedTimer

from hwprof.measure.host.caches import CacheLevel
from hwprof.measure.host.numa import on_cpus
from hwprof.measure.probes import device as probe
from hwprof.measure.probes import matmul
from hwprof.measure.probes import numa as numa_probe
from hwprof.measure.probes.bench import Bench, CannotRunError
from hwprof.measure.probes.isa import products_run_on, widened
from hwprof.measure.probes.numa import node_cpus, numa_ceiling, require_nodes
from hwprof.measure.probes.thread_sweep import sweep_conditions, thread_counts, with_sweep
from hwprof.measure.timing import WallTimer

CPU = torch.device("cpu")
LIMITED = (
    "from hwprof.measure.probes.matmul import require_support; import torch; "
    "require_support(torch.device('cpu'), 'bf16')"
)
CLOSED = (
    "import os, sys, torch; from hwprof.measure.probes.isa import products_run_on; os.close(1); sys.stdout = None; "
    "sys.exit(products_run_on(torch.bfloat16))"
)


def _is_x86_with_onednn():
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")


@pytest.mark.parametrize(
    ("runs_on", "machine", "expected"),
    [
        ("brg_matmul:avx512_core_bf16", "x86_64", False),
        ("brg_matmul:avx10_1_512_amx", "x86_64", False),
        ("brg_matmul:avx2_vnni_2", "x86_64", True),  # AVX-NE-CONVERT loads bf16 as fp32, and multiplies that
        ("gemm:acl", "aarch64", False),
        ("brg_matmul:avx512_core", "x86_64", True),
        ("ref:any", "x86_64", True),
        ("", "x86_64", True),  # torch's own loops
        ("", "arm64", False),  # another library, of which nothing is known
    ],
)
def test_instruction_sets_that_widen_16_bit_operands(runs_on, machine, expected):
    assert widened(runs_on, machine) is expected


@pytest.mark.skipif(not _is_x86_with_onednn(), reason="this torch has no oneDNN for x86")
def test_bf16_without_its_instructions_is_no_ceiling_of_bf16():
    """OneDNN obeys ONEDNN_MAX_CPU_ISA, so a CPU with these instructions can stand for one without."""
    limited = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    ended = subprocess.run([sys.executable, "-c", LIMITED], env=limited, capture_output=True, text=True, check=False)
    assert "which widens them to fp32: no rate of bf16" in ended.stderr


@pytest.mark.skipif(not _is_x86_with_onednn(), reason="this torch has no oneDNN for x86")
def test_what_runs_a_product_is_told_and_nothing_is_printed(capfd):
    name = products_run_on(torch.bfloat16)
    assert ":" in name
    os.write(1, b"after")
    assert capfd.readouterr().out == "after"


def test_what_runs_a_product_is_told_by_a_process_without_standard_output():
    """As a daemon starts: descriptor 1 is closed, and Python has no ``sys.stdout``."""
    ended = subprocess.run([sys.executable, "-c", CLOSED], stderr=subprocess.PIPE, text=True, check=False)
    assert ended.stderr.strip() == products_run_on(torch.bfloat16)


def test_a_widened_format_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr(matmul, "products_run_on", lambda _dtype: "")
    monkeypatch.setattr(matmul, "widened", lambda _runs_on: True)
    matmul.require_support(CPU, "fp32")
    with pytest.raises(CannotRunError, match="fp16 products run on plain loops here"):
        matmul.require_support(CPU, "fp16")


def test_fewest_threads_that_are_enough():
    assert thread_counts(1) == (1,)
    assert thread_counts(2) == (1, 2)
    assert thread_counts(64) == (1, 32, 64)
    assert sweep_conditions({1: 10.0, 32: 96.0, 64: 100.0}, "flop_per_s")["saturated_from_threads"] == 32
    assert sweep_conditions({1: 10.0, 32: 94.0, 64: 100.0}, "flop_per_s")["saturated_from_threads"] == 64


def test_sweep_measures_with_fewer_threads_and_puts_them_back(monkeypatch):
    used = []
    now = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: now.__setitem__(0, count))

    def measure(bench):
        used.append((now[0], bench.probe_s))
        rate = {1: 10e9, 2: 19e9, 4: 19.5e9}[now[0]]
        return made_up_ceiling("memory.dram", rate)

    found = with_sweep(probe.bench_for(CPU, quick=False, timer=WallTimer()), measure)
    assert used == [(4, 7.0), (1, 1.75), (2, 1.75)]
    assert now == [4]
    assert found.value == 19.5e9
    assert found.conditions == {
        "with_1_threads_byte_per_s": 10e9,
        "with_2_threads_byte_per_s": 19e9,
        "with_4_threads_byte_per_s": 19.5e9,
        "saturated_from_threads": 2,
    }


def test_a_number_of_threads_that_is_too_slow_is_left_out(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda _count: None)

    def measure(bench):
        if not bench.thorough:
            raise CannotRunError("too slow")
        return made_up_ceiling("memory.dram", 2e9)

    found = with_sweep(probe.bench_for(CPU, quick=False, timer=WallTimer()), measure)
    assert found.value == 2e9
    assert found.conditions == {"with_2_threads_byte_per_s": 2e9, "saturated_from_threads": 2}


def test_only_full_probes_of_a_cpu_sweep_threads_and_nodes():
    quick, full = (probe.bench_for(CPU, quick=quick, timer=WallTimer()) for quick in (True, False))
    names = [[name for name, _ in probe._last_probes(bench, ("fp32",), ())] for bench in (quick, full)]
    assert not any("numa" in name for name in names[0])
    assert any("numa" in name for name in names[1])


def _nodes(folder, **lists):
    for name, cpus in lists.items():
        (folder / name).mkdir()
        (folder / name / "cpulist").write_text(cpus + "\n")
    return folder


def test_nodes_have_the_cpus_that_this_process_may_use(tmp_path):
    nodes = _nodes(tmp_path, node0="0-1,4", node1="2-3", node2="8")
    assert node_cpus(nodes, frozenset({0, 1, 2, 4})) == {0: {0, 1, 4}, 1: {2}}


def test_one_node_is_said_to_be_one(tmp_path):
    with pytest.raises(CannotRunError, match=r"one NUMA node \(0\) for all CPUs of this process: no memory is remote"):
        require_nodes(node_cpus(_nodes(tmp_path, node0="0-7"), frozenset({0})))
    with pytest.raises(CannotRunError, match="does not list NUMA nodes"):
        require_nodes({})


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no threads")
@pytest.mark.parametrize(("cache_mib", "array_mib"), [(32, 256), (96, 384)])
def test_memory_of_a_node_is_read_from_a_cpu_of_the_other(monkeypatch, cache_mib, array_mib):
    last = CacheLevel(level=3, instance_bytes=cache_mib * 2**20, instances=8)
    monkeypatch.setattr(numa_probe, "cpu_caches", lambda: (last,))
    own = sorted(os.sched_getaffinity(0))
    pinned = []
    timer = ScriptedTimer([0.25] * 200)
    bench = Bench(
        device=CPU,
        device_name="test",
        timer=timer,
        warmups=1,
        samples=3,
        probe_s=10.0,
        minimum_sample_s=0.0,
        waited_s=lambda: None,
        thorough=True,
    )
    cpus = {0: frozenset(own[:1]), 1: frozenset(own[-1:])}
    real = os.sched_setaffinity
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_setaffinity", lambda pid, chosen: (pinned.append(set(chosen)), real(pid, chosen)))
        found = numa_ceiling(bench, 0, 1, cpus)
    assert found.name == "transfer.numa.0.1"
    assert found.value == array_mib * 2**20 / 0.25
    assert pinned == [set(own[:1]), set(own), set(own[-1:]), set(own)]
    assert sorted(os.sched_getaffinity(0)) == own


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no threads")
def test_a_thread_comes_back_from_its_cpus():
    before = os.sched_getaffinity(0)
    with on_cpus(frozenset(sorted(before)[:1])):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
