import itertools

import pytest
import torch
from made_up_bench import made_up_bench
from scripted_timer import ScriptedTimer

from hwprof.measure.host.caches import CacheLevel
from hwprof.measure.probes import memory
from hwprof.measure.probes.bench import CannotRunError
from hwprof.measure.probes.memory import (
    KERNELS,
    best_of_kernels,
    cpu_level_ceiling,
    dram_ceiling,
    level_work,
    require_small_overhead,
    require_undisturbed,
)
from hwprof.measure.probes.sampling import Samples
from hwprof.measure.timing import WallTimer


@pytest.fixture
def small_machine(monkeypatch):
    """A last-level cache of 1 KiB and memory enough."""
    caches = (CacheLevel(level=1, instance_bytes=1024, instances=1),)
    monkeypatch.setattr(memory, "cpu_caches", lambda: caches)
    monkeypatch.setitem(memory._MIN_DRAM_ARRAY_BYTES, "cpu", 0)
    monkeypatch.setattr(memory, "available_memory_bytes", lambda _device: (1e9, "said so"))


def timed(seconds, waited_fraction=None):
    return Samples(seconds=(seconds,) * 5, warmups=1, repeats=1, discarded=0, waited_fraction=waited_fraction)


def test_kernels_move_two_two_three_and_three_arrays():
    assert {kernel.name: kernel.arrays_moved for kernel in KERNELS} == {"copy": 2, "scale": 2, "add": 3, "triad": 3}


def test_kernels_compute_what_stream_defines():
    arrays = memory.Arrays(*(torch.full((2,), value) for value in (1.0, 2.0, 5.0)), torch.tensor(3.0))
    copy, scale, add, triad = KERNELS
    add.run(arrays)
    assert arrays.c.tolist() == [3.0, 3.0]  # a + b = 1 + 2
    triad.run(arrays)
    assert arrays.a.tolist() == [11.0, 11.0]  # b + 3 c = 2 + 9
    scale.run(arrays)
    assert arrays.b.tolist() == [9.0, 9.0]  # 3 c
    copy.run(arrays)
    assert arrays.c.tolist() == [11.0, 11.0]  # a


def test_the_fastest_kernel_is_the_ceiling_and_all_four_are_kept():
    # arrays of 600 bytes; copy 1200 B in 1 s, scale 1200 B in 2 s, add 1800 B in 1.2 s, triad 1800 B in 1 s
    seconds = dict(zip(KERNELS, (1.0, 2.0, 1.2, 1.0), strict=True))
    found = best_of_kernels(
        made_up_bench(ScriptedTimer([])),
        "dram",
        600,
        {kernel: timed(s) for kernel, s in seconds.items()},
        level_bytes=None,
        conditions={},
    )
    assert (found.name, found.value, found.conditions["kernel"]) == ("memory.dram", 1800.0, "triad")
    rates = [found.conditions[f"{name}_byte_per_s"] for name in ("copy", "scale", "add", "triad")]
    assert rates == pytest.approx([1200.0, 600.0, 1500.0, 1800.0])
    assert found.conditions["write_allocate"] == "not counted"


@pytest.mark.usefixtures("small_machine")
def test_dram_arrays_are_four_times_the_last_level_cache():
    found = dram_ceiling(made_up_bench(ScriptedTimer(itertools.repeat(0.5))))
    assert found.conditions["array_bytes"] == 4096
    assert found.value == 3 * 4096 / 0.5
    assert found.level == "dram"


@pytest.mark.usefixtures("small_machine")
def test_dram_is_not_measured_where_its_arrays_would_fill_the_memory(monkeypatch):
    monkeypatch.setattr(memory, "available_memory_bytes", lambda _device: (20000.0, "left in the container"))
    with pytest.raises(CannotRunError, match=r"need 12\.29 kB, more than half of the 20 kB available \(left in the"):
        dram_ceiling(made_up_bench(ScriptedTimer([])))


@pytest.mark.usefixtures("small_machine")
def test_an_unknown_cache_size_is_said_to_be_assumed(monkeypatch):
    monkeypatch.setattr(memory, "cpu_caches", lambda: ())
    assert memory._last_level_cache(torch.device("cpu")) == (67108864, "unknown; 67.11 MB assumed")


def test_three_arrays_fill_half_of_a_level():
    l3 = CacheLevel(level=3, instance_bytes=32 * 2**20, instances=1)
    elements, threads = level_work(l3, threads=2)
    assert elements == 1398101  # a third of 16 MiB, in floats
    assert threads == 2


def test_a_level_too_small_to_split_is_measured_by_one_thread_in_its_own_cache():
    l1 = CacheLevel(level=1, instance_bytes=32 * 2**10, instances=2)
    elements, threads = level_work(l1, threads=2)
    assert threads == 1
    assert elements == 1365  # a third of half of one 32 KiB cache, not of two, in floats


def test_a_level_where_starting_a_kernel_costs_more_than_a_fifth_is_not_measured():
    assert require_small_overhead("l2", 1e-6, 10e-6) == pytest.approx(0.1)
    with pytest.raises(CannotRunError, match=r"starting a kernel takes 3 µs, 30 % of the 10 µs"):
        require_small_overhead("l2", 3e-6, 10e-6)


def test_a_busy_cpu_is_the_reason_why_a_level_is_missing_not_its_size():
    require_undisturbed("l3", timed(1e-5, waited_fraction=0.0))
    with pytest.raises(CannotRunError, match="other processes used the CPU") as caught:
        require_undisturbed("l3", timed(16e-3, waited_fraction=1.0))
    assert "probe again" in caught.value.remedy


def test_a_cache_level_says_its_capacity_and_what_starting_costs():
    l3 = CacheLevel(level=3, instance_bytes=4 * 2**20, instances=1)
    # four kernels of five samples at 1 s, then the startup's five samples at 0.125 s
    found = cpu_level_ceiling(made_up_bench(ScriptedTimer([1.0] * 20 + [0.125] * 5)), l3)
    assert (found.name, found.level, found.level_bytes) == ("memory.l3", "l3", 4194304)
    assert found.value == 3 * 4 * 174762  # three arrays of a third of 2 MiB, in whole floats, in 1 s
    assert found.conditions["startup_fraction"] == 0.125


def test_real_memory_moves_between_a_tenth_of_a_gigabyte_and_two_terabytes_a_second():
    arrays = memory._arrays(torch.device("cpu"), 4 * 2**20, torch.float32)
    real = made_up_bench(WallTimer(), probe_s=0.2, samples=3)
    copied = memory._timed(real, KERNELS[0], arrays, deadline_s=0.2)
    found = best_of_kernels(real, "dram", 16 * 2**20, {KERNELS[0]: copied}, level_bytes=None, conditions={})
    assert 0.1e9 < found.value < 2e12


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and none is visible")
def test_gpu_memory_is_faster_than_a_hundred_gigabytes_a_second():
    from hwprof.measure.probes.device import bench_for

    assert dram_ceiling(bench_for(torch.device("cuda", 0), quick=True)).value > 100e9
