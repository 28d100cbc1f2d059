from pathlib import Path

import pytest
import torch

from hwprof.measure.host.caches import CacheLevel, cache_sizes_bytes, cpu_caches


def write_cpu(root, cpu, caches):
    for index, (level, kind, size, shared) in enumerate(caches):
        folder = root / f"cpu{cpu}" / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
            (folder / name).write_text(f"{text}\n")


@pytest.fixture
def four_cores(tmp_path):
    """Four cores with their own first level, and a last level for each pair."""
    for cpu in range(4):
        pair = "0-1" if cpu < 2 else "2-3"
        write_cpu(
            tmp_path,
            cpu,
            [(1, "Data", "32K", cpu), (1, "Instruction", "64K", cpu), (3, "Unified", "16M", pair)],
        )
    return tmp_path


def test_data_caches_are_counted_once_an_instance_and_instruction_caches_not_at_all(four_cores):
    assert cpu_caches(four_cores, frozenset(range(4))) == (
        CacheLevel(level=1, instance_bytes=32768, instances=4),
        CacheLevel(level=3, instance_bytes=16777216, instances=2),
    )


def test_only_the_caches_of_the_allowed_cpus_count(four_cores):
    assert cpu_caches(four_cores, frozenset({0, 1})) == (
        CacheLevel(level=1, instance_bytes=32768, instances=2),
        CacheLevel(level=3, instance_bytes=16777216, instances=1),
    )


def test_a_system_that_lists_no_caches_has_none(tmp_path):
    assert cpu_caches(tmp_path, frozenset({0})) == ()


def test_threads_reach_no_more_instances_than_there_are():
    level = CacheLevel(level=2, instance_bytes=1000, instances=4)
    assert [level.usable_bytes(threads) for threads in (1, 3, 4, 9)] == [1000, 3000, 4000, 4000]


def test_a_level_reads_as_people_write_it():
    assert str(CacheLevel(level=2, instance_bytes=1048576, instances=2)) == "L2 1024 KiB x 2"


@pytest.mark.skipif(not Path("/sys/devices/system/cpu/cpu0/cache").is_dir(), reason="this system lists no caches")
def test_this_machine_s_levels_grow_from_the_core_outwards():
    sizes = list(cache_sizes_bytes(torch.get_num_threads()).values())
    assert sizes
    assert sizes == sorted(sizes)
